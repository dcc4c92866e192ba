"""DeepLab: VGG16 with holes, scored every eighth pixel; what a dense CRF sharpens afterwards.

Source: Chen, Papandreou, Kokkinos, Murphy, Yuille, "Semantic Image Segmentation with Deep Convolutional Nets and Fully
Connected CRFs", ICLR 2015; paddings, poolings and branches from its released definitions.
Differs: the paper trains against labels of every eighth pixel; here the scores are interpolated to the image's size in
training too, as they are in its prediction. An image is continued to 8 k + 1 pixels by its border (the release: by
zeros). The branches of the multi-scale network are each scored at stride 8 and the scores added, as the release does,
where the paper joins the features and scores them once, which is the same. Weights that are not pretrained start after
He et al., ICCV 2015, scores after Glorot and Bengio. The CRF is not part of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.models.blocks.convolutional_classifier import (
    convolutional_classifier,
    decimate_classifier,
    vgg16_weights,
)
from delineate.models.blocks.initialisation import initialise_classifier, initialise_relu_network
from delineate.models.encoders.encoder import Encoder
from delineate.models.encoders.vgg_with_holes import vgg16_with_holes
from delineate.ops.mirroring import Length
from delineate.ops.padding import crop_to_size
from delineate.registry import Registry
from delineate.structures.outputs import SemanticOutputs

# fc6's kernel, its hole ("input stride" in the paper), and the channels of fc6 and fc7
HEADS: Registry[tuple[int, int, int]] = Registry(
    "head", {"7x7": (7, 4, 4096), "4x4": (4, 4, 4096), "4x4_rate8": (4, 8, 4096), "largefov": (3, 12, 1024)}
)


class DeepLab(nn.Module):
    """An encoder whose layers are centred on every eighth pixel, a head that scores them, and interpolation between.

    Score (i, j) belongs to pixel (8 i, 8 j), so that an image of 8 k + 1 pixels a side has a score on each of its
    corners; others are continued at the bottom and the right.

    Args:
        encoder: images to features, finest first.
        head: the last feature to one score a class.
        side_heads: the image and each feature but the last to scores of the size of the head's, which are added; or
            none.
        num_classes: scores a pixel.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        *,
        num_classes: int,
        side_heads: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.side_heads = nn.ModuleList(side_heads)
        self.num_classes = num_classes
        self.in_channels = encoder.in_channels

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of ``images``."""
        stride = self.encoder.strides[-1]
        height, width = images.shape[-2:]
        below, right = (1 - height) % stride, (1 - width) % stride
        # an encoder that rounds sizes down needs the whole 8 x 8 pixels behind the last score
        margin = 0 if self.encoder.rounds_up else stride - 1
        padded = F.pad(images, (0, right + margin, 0, below + margin), mode="replicate")
        features = self.encoder(padded)
        grid = (height + below, width + right)
        scores = self.head(features[-1])
        for side_head, feature in zip(self.side_heads, [padded, *features], strict=False):
            scores = scores + side_head(feature)
        return SemanticOutputs(crop_to_size(_spread(scores, grid), images.shape[-2:]))


def _spread(scores: Float[Tensor, "B K h w"], size: tuple[Length, Length]) -> Float[Tensor, "B K H W"]:
    """The scores with those at the corners on the corners of ``size`` pixels, interpolated between."""
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=True)  # type: ignore[arg-type]


def field_of_view(kernel_size: int, rate: int) -> int:
    """How many pixels of the image the classifier fc6 covers, in the paper's count.

    Source: the numbers of Chen et al., ICLR 2015, table 2, which follow from taps that lie 8 x ``rate`` pixels apart,
    each a value of pool5, which in VGG16 stands for 32 pixels.

    Args:
        kernel_size: of fc6.
        rate: distance between its taps, in scores.

    Example:
        >>> {name: field_of_view(kernel_size, rate) for name, (kernel_size, rate, _) in HEADS.items()}
        {'7x7': 224, '4x4': 128, '4x4_rate8': 224, 'largefov': 224}
    """
    return (kernel_size - 1) * rate * 8 + 32


def scoring_head(
    in_channels: int,
    num_classes: int,
    *,
    kernel_size: int,
    rate: int,
    channels: int,
    weights: Mapping[str, Tensor] | None = None,
) -> nn.Sequential:
    """fc6 with holes, fc7 and fc8, which keep the size of the feature.

    Args:
        in_channels: of the feature.
        num_classes: of fc8.
        kernel_size: of fc6.
        rate: distance between the taps of fc6; even for an even kernel.
        channels: of fc6 and fc7.
        weights: a torchvision VGG16's, thinned out to fit fc6 and fc7; drawn at random when None.

    Example:
        >>> head = scoring_head(512, 21, kernel_size=3, rate=12, channels=1024)
        >>> sum(parameter.numel() for parameter in head.parameters())
        5790741
    """
    thinned = None if weights is None else decimate_classifier(weights, kernel_size, channels)
    padding = rate * (kernel_size - 1) // 2
    classifier = convolutional_classifier(in_channels, kernel_size, channels, thinned, dilation=rate, padding=padding)
    score = nn.Conv2d(channels, num_classes, 1)
    initialise_classifier(score)
    return nn.Sequential(*classifier, score)


def _side_head(in_channels: int, channels: int, num_classes: int, *, stride: int) -> nn.Sequential:
    """Two layers and a score that begins at zero, so that it joins a network that already works without harm.

    The first layer takes as long a stride as brings its feature to stride 8.
    """
    layers = nn.Sequential(
        *(nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1), nn.ReLU(inplace=True), nn.Dropout()),
        *(nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True), nn.Dropout()),
    )
    initialise_relu_network(layers)
    score = nn.Conv2d(channels, num_classes, 1)
    for parameter in score.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*layers, score)


def deeplabv1(
    num_classes: int,
    *,
    in_channels: int = 3,
    head: str = "largefov",
    pooling: str = "3x3",
    multi_scale: bool = False,
    multi_scale_channels: int = 128,
    fc_channels: int | None = None,
    width: float | int = 1.0,
    pretrained: bool = False,
) -> DeepLab:
    """DeepLab, the first: VGG16 at stride 8 with one of the paper's four classifiers.

    With 21 classes: "largefov" 20,505,429 parameters (with ``multi_scale`` 21,711,550), "7x7" 134,346,581, "4x4" and
    "4x4_rate8" 65,140,565.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        head: fc6's kernel and the distance of its taps: "7x7" (4), "4x4" (4), "4x4_rate8" (8), "largefov" (3x3, 12).
            All but "4x4" see 224 x 224 pixels; "4x4" sees 128 x 128.
        pooling: "3x3" as in the released networks, where "largefov" also averages pool5 over 3x3; "2x2" gives the
            values that VGG16 itself computes, at every eighth pixel.
        multi_scale: whether two-layer branches from the image and from pool1 to pool4 add their scores ("MSc"), each at
            every eighth pixel, as the head's.
        multi_scale_channels: of both layers of those branches.
        fc_channels: of fc6 and fc7; the head's own (4096, or 1024 for "largefov") when None.
        width: the encoder's layers have this share of their published channels.
        pretrained: whether VGG16 starts from torchvision's ImageNet weights, fc6 and fc7 thinned out to fit; made for
            2x2 pooling, as were the paper's.

    Raises:
        UnknownNameError: on an unknown head or pooling.
        ArgumentError: when pretrained weights do not fit these widths, or ``multi_scale`` does not fit the pooling.

    Example:
        >>> model = deeplabv1(21)
        >>> sum(parameter.numel() for parameter in model.parameters())
        20505429
    """
    kernel_size, rate, channels = HEADS[head]
    channels = channels if fc_channels is None else fc_channels
    require(channels >= 1, "fc_channels", "be at least 1", channels)
    require(
        not multi_scale or pooling == "3x3",
        "pooling",
        "be '3x3' with multi_scale",
        f"'{pooling}'",
        "Only then are all branches centred on the same pixels.",
    )
    weights = vgg16_weights(pretrained=pretrained, width=width, fc_channels=channels)
    encoder = vgg16_with_holes(in_channels=in_channels, width=width, pooling=pooling, weights=weights)
    scores: nn.Module = scoring_head(
        encoder.channels[-1], num_classes, kernel_size=kernel_size, rate=rate, channels=channels, weights=weights
    )
    if head == "largefov" and pooling == "3x3":
        scores = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), scores)
    branches = zip((in_channels, *encoder.channels[:-1]), (1, *encoder.strides[:-1]), strict=True)
    return DeepLab(
        encoder,
        scores,
        num_classes=num_classes,
        side_heads=[
            _side_head(before, multi_scale_channels, num_classes, stride=encoder.strides[-1] // stride)
            for before, stride in (branches if multi_scale else ())
        ],
    )

"""SegNet: a mirrored VGG16 whose decoder unpools with the encoder's pooling indices.

Source: Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
Segmentation", PAMI 2017 (arXiv:1511.00561), and ``segnet_train.prototxt`` of its tutorial.
Differs: the release starts batch norm's shift at 0.001, this at 0, and takes the statistics for prediction from all
training images afterwards, this their running averages. Its encoder starts from VGG16 weights without batch norm;
``pretrained=True`` takes those with it, and without them every weight starts as in the release's decoder (He et al.,
ICCV 2015).
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import VGG16_BN_Weights

from delineate.checks import require
from delineate.models.blocks.pooling_encoder import VGG16_DEPTHS, convolution_with_bias, load_vgg16, vgg16_encoder
from delineate.models.blocks.upsampling import create_upsampling
from delineate.structures.outputs import SemanticOutputs

BASE_CHANNELS = 64


class SegNet(nn.Module):
    """The encoder, the decoder that mirrors it, and a last 3x3 convolution without batch norm or ReLU.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        channels: of the five stages, finest first.
        upsampling: before each stage of the decoder, a name of
            :func:`~delineate.models.blocks.upsampling.create_upsampling`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: tuple[int, ...] = (64, 128, 256, 512, 512),
        upsampling: str = "max_unpool",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.encoder = vgg16_encoder(in_channels, channels)
        self.upsamplings = nn.ModuleList(create_upsampling(upsampling, width) for width in reversed(channels))
        self.decoder = nn.ModuleList()
        for depth, (before, after) in zip(reversed(VGG16_DEPTHS[1:]), pairwise(reversed(channels)), strict=True):
            widths = (*[before] * depth, after)
            self.decoder.append(nn.Sequential(*(convolution_with_bias(*pair) for pair in pairwise(widths))))
        self.decoder.append(convolution_with_bias(channels[0], channels[0]))
        self.classify = nn.Conv2d(channels[0], num_classes, 3, padding=1)
        nn.init.kaiming_normal_(self.classify.weight, nonlinearity="relu")
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of the images, which may be any from 1 x 1."""
        poolings = self.encoder(images)
        features = poolings[-1].pooled
        for upsample, stage, pooling in zip(self.upsamplings, self.decoder, reversed(poolings), strict=True):
            features = stage(upsample(features, pooling.size, pooling.indices))
        return SemanticOutputs(self.classify(features))


def segnet(
    num_classes: int,
    *,
    in_channels: int = 3,
    base_channels: int = BASE_CHANNELS,
    pretrained: bool = False,
    upsampling: str = "max_unpool",
) -> SegNet:
    """SegNet: 29,449,355 parameters with 11 classes, 106.7 GMAC at 360 x 480.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        base_channels: of the finest stage; the others have 2, 4, 8 and 8 times as many.
        pretrained: whether the encoder starts from torchvision's ``vgg16_bn``, trained on ImageNet.
        upsampling: "max_unpool" with the encoder's indices, or another name of
            :func:`~delineate.models.blocks.upsampling.create_upsampling` in its place, to see what the indices do.

    Raises:
        UnknownNameError: on an unknown upsampling.
        ArgumentError: when pretrained weights do not exist for these widths.
    """
    require(
        not pretrained or base_channels == BASE_CHANNELS,
        "pretrained",
        f"be False unless base_channels is {BASE_CHANNELS}",
        pretrained,
        "torchvision has no weights for other widths.",
    )
    channels = tuple(base_channels * n for n in (1, 2, 4, 8, 8))
    if not pretrained:
        return SegNet(num_classes, in_channels=in_channels, channels=channels, upsampling=upsampling)
    model = SegNet(num_classes, channels=channels, upsampling=upsampling)
    load_vgg16(model.encoder, VGG16_BN_Weights.DEFAULT.get_state_dict(progress=False), in_channels=in_channels)
    model.in_channels = in_channels
    return model

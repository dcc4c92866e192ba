"""Dilated convolutions: VGG16 without padding and without its last poolings, and a module that gathers context.

Source: Yu, Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions", ICLR 2016; paddings and widths from its
released definitions, fyu/dilation.
Differs: the release trains the front end, then the context module on stored scores, then both, against labels of every
eighth pixel; here both train together, with the front end's own scores as auxiliary logits, so that its gradient does
not depend on what the context module's ReLUs let through. Scores are placed in the middle of their 8x8 pixels, which is
where their field of view is centred, and where the release's network for Cityscapes puts them; its other scripts put
them on the first of these pixels, as they train, and interpolate probabilities in place of scores. The front end's
scores start after Glorot and Bengio, the release's with a deviation of 0.001; layers without pretrained weights after
He et al., ICCV 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from delineate.checks import require
from delineate.models.blocks.bilinear import bilinear_kernel
from delineate.models.blocks.convolutional_classifier import convolutional_classifier
from delineate.models.blocks.initialisation import initialise_classifier
from delineate.models.encoders.torchvision_encoder import adapt_first_convolution, vgg_layers
from delineate.ops.mirroring import mirror_pad
from delineate.ops.padding import crop_to_size
from delineate.registry import unknown_name
from delineate.structures.outputs import SemanticOutputs

STRIDE = 8
MARGIN = 186  # (380 - 8) / 2: the front end sees 380 pixels, of which the middle 8 are its score's
CONTEXTS = ("basic", "large")
PADDINGS = ("layer", "input")
DILATIONS_8 = (1, 1, 2, 4, 8, 16, 1)
DILATIONS_10 = (1, 1, 2, 4, 8, 16, 32, 64, 1)
LARGE_WIDTHS = (2, 2, 4, 8, 16, 32, 32)
# of the identity's weights, for what "large" adds to the identity lest copies of one channel stay equal
_NOISE = 0.01


class ContextModule(nn.Sequential):
    """3x3 convolutions whose dilation grows, each with ReLU, then a 1x1 convolution: scores to scores of one size.

    It begins as the identity on scores above zero.

    Source: Yu and Koltun, ICLR 2016, section 3, table 1, equations 4 (all widths 1) and 5.

    Args:
        num_classes: taken and returned.
        dilations: of the 3x3 convolutions.
        widths: channels of each, as multiples of the classes.
        padding: with zeros: "layer" by layer, or at once at the "input" and then none, so that layers see what the
            ones before make of the border (the release's network for VOC).

    Raises:
        UnknownNameError: on another padding.

    Example:
        >>> context = ContextModule(21)
        >>> sum(parameter.numel() for parameter in context.parameters())
        28392
    """

    def __init__(
        self,
        num_classes: int,
        dilations: Sequence[int] = DILATIONS_8,
        *,
        widths: Sequence[int] | None = None,
        padding: str = "layer",
    ) -> None:
        if padding not in PADDINGS:
            raise unknown_name("padding", padding, PADDINGS)
        widths = [1] * len(dilations) if widths is None else list(widths)
        paddings = list(dilations) if padding == "layer" else [sum(dilations), *[0] * (len(dilations) - 1)]
        noise = 0.0 if max(widths) == 1 else _NOISE
        layers: list[nn.Module] = []
        channels = num_classes
        for width, dilation, pad in zip(widths, dilations, paddings, strict=True):
            layers.append(nn.Conv2d(channels, width * num_classes, 3, dilation=dilation, padding=pad))
            layers.append(nn.ReLU(inplace=True))
            channels = width * num_classes
        layers.append(nn.Conv2d(channels, num_classes, 1))
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                initialise_as_identity(layer, num_classes, noise=noise)
        super().__init__(*layers)


@torch.no_grad()
def initialise_as_identity(layer: nn.Conv2d, num_classes: int, *, noise: float) -> None:
    """Make a layer hand on the sum of each class's channels, in equal parts, to the channels of that class.

    Source: Yu and Koltun, ICLR 2016, equations 4 and 5.

    Args:
        layer: between numbers of channels that are multiples of ``num_classes``.
        num_classes: C in the equations.
        noise: deviation of all other weights, as a share of C / out_channels.

    Example:
        >>> layer = nn.Conv2d(2, 4, 1)
        >>> initialise_as_identity(layer, 2, noise=0.0)
        >>> layer.weight[:, :, 0, 0].tolist()
        [[0.5, 0.0], [0.5, 0.0], [0.0, 0.5], [0.0, 0.5]]
    """
    weight = layer.weight
    share = num_classes / layer.out_channels
    classes_in = torch.arange(layer.in_channels, device=weight.device) * num_classes // layer.in_channels
    classes_out = torch.arange(layer.out_channels, device=weight.device) * num_classes // layer.out_channels
    weight.normal_(0, noise * share) if noise else weight.zero_()
    row, column = (size // 2 for size in layer.kernel_size)
    centre = weight[:, :, row, column]
    centre.copy_(torch.where(classes_out[:, None] == classes_in, share, centre))
    if layer.bias is not None:
        layer.bias.zero_()


class FixedUpsampling(nn.ConvTranspose2d):
    """Bilinear interpolation by a factor, as a transposed convolution that is never trained.

    Beyond the border it sees zeros, so that scores of the outermost pixels are smaller; which is largest does not
    change.

    Args:
        channels: taken and returned.
        factor: even.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(
            channels, channels, 2 * factor, stride=factor, padding=factor // 2, groups=channels, bias=False
        )
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set bilinear interpolation."""
        self.weight.copy_(bilinear_kernel(self.kernel_size[0]).expand_as(self.weight))


class DilatedVGG(nn.Module):
    """The front end, perhaps a context module behind it, and interpolation to the image's size.

    A context module's network continues a front end: ``load_state_dict(frontend.state_dict(), strict=False)``.

    Args:
        encoder: images to features without padding.
        classifier: these to what is scored, without padding: together a field of view of 380 pixels.
        score: that to one score a class.
        context: scores to scores of the same size, or None.
        upsample: scores to a size eight times larger.
        in_channels: of the images.
    """

    def __init__(
        self,
        encoder: nn.Module,
        classifier: nn.Module,
        score: nn.Conv2d,
        *,
        context: nn.Module | None,
        upsample: nn.Module,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier
        self.score = score
        self.context = context
        self.upsample = upsample
        self.in_channels = in_channels
        self.num_classes = score.out_channels

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of ``images``; in training also those of the front end, where a context follows it."""
        size = images.shape[-2:]
        below, right = -size[0] % STRIDE, -size[1] % STRIDE
        mirrored = mirror_pad(images, (MARGIN, MARGIN + right, MARGIN, MARGIN + below))
        scores = self.score(self.classifier(self.encoder(mirrored)))
        if self.context is None:
            return SemanticOutputs(crop_to_size(self.upsample(scores), size))
        logits = crop_to_size(self.upsample(self.context(scores)), size)
        if not self.training:
            return SemanticOutputs(logits)
        return SemanticOutputs(logits, auxiliary=(crop_to_size(self.upsample(scores), size),))


def _dilated_vgg(
    num_classes: int,
    *,
    context: nn.Module | None,
    upsample: nn.Module | None = None,
    in_channels: int,
    fc_channels: int,
    width: float | int,
    pretrained: bool,
) -> DilatedVGG:
    require(width > 0, "width", "be above 0", width)
    require(fc_channels >= 1, "fc_channels", "be at least 1", fc_channels)
    require(
        not pretrained or (width == 1 and fc_channels == 4096),
        "pretrained",
        "be False unless VGG16 has its published widths",
        pretrained,
    )
    weights = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False) if pretrained else None
    layers = vgg_layers("vgg16", weights, width=float(width))
    adapt_first_convolution(layers, in_channels, pretrained=pretrained)
    pools = [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)
            layer.dilation = (2, 2) if place > pools[3] else (1, 1)
    kept = nn.Sequential(*(layer for place, layer in enumerate(layers) if place not in pools[3:]))
    channels = next(layer for layer in reversed(layers) if isinstance(layer, nn.Conv2d)).out_channels
    score = nn.Conv2d(fc_channels, num_classes, 1)
    initialise_classifier(score)
    return DilatedVGG(
        kept,
        convolutional_classifier(channels, 7, fc_channels, weights, dilation=4),
        score,
        context=context,
        upsample=nn.Upsample(scale_factor=STRIDE, mode="bilinear") if upsample is None else upsample,
        in_channels=in_channels,
    )


def dilated_frontend(
    num_classes: int,
    *,
    in_channels: int = 3,
    fc_channels: int = 4096,
    width: float | int = 1.0,
    pretrained: bool = False,
) -> DilatedVGG:
    """The front end alone: VGG16 at stride 8 on the mirrored image; 134,346,581 parameters with 21 classes.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        fc_channels: of fc6 and fc7; fewer spare most of the parameters.
        width: the encoder's layers have this share of their published channels.
        pretrained: whether VGG16, fc6 and fc7 included, starts from torchvision's ImageNet weights.

    Raises:
        ArgumentError: when pretrained weights do not exist for these widths.

    Example:
        >>> model = dilated_frontend(21, fc_channels=64, width=0.0625).eval()
        >>> tuple(model(torch.zeros(1, 3, 33, 20)).logits.shape)
        (1, 21, 33, 20)
    """
    return _dilated_vgg(
        num_classes,
        context=None,
        in_channels=in_channels,
        fc_channels=fc_channels,
        width=width,
        pretrained=pretrained,
    )


def dilation8(
    num_classes: int,
    *,
    in_channels: int = 3,
    context: str = "large",
    fc_channels: int = 4096,
    width: float | int = 1.0,
    pretrained: bool = False,
) -> DilatedVGG:
    """The front end with a context module of eight layers, which sees 67 x 67 scores.

    As released: Pascal VOC, 21 classes, "large", 141,149,720 parameters; CamVid, 11 classes, "basic", 134,313,443.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        context: "basic" keeps as many channels as there are classes; "large" widens them up to 32 times.
        fc_channels: of fc6 and fc7; fewer spare most of the parameters.
        width: the encoder's layers have this share of their published channels.
        pretrained: whether VGG16, fc6 and fc7 included, starts from torchvision's ImageNet weights.

    Raises:
        UnknownNameError: on an unknown context.
        ArgumentError: when pretrained weights do not exist for these widths.

    Example:
        >>> model = dilation8(11, context="basic", fc_channels=64, width=0.0625)
        >>> sum(parameter.numel() for parameter in model.context.parameters())
        7832
    """
    if context not in CONTEXTS:
        raise unknown_name("context", context, CONTEXTS)
    large = context == "large"
    return _dilated_vgg(
        num_classes,
        context=ContextModule(
            num_classes, widths=LARGE_WIDTHS if large else None, padding="input" if large else "layer"
        ),
        in_channels=in_channels,
        fc_channels=fc_channels,
        width=width,
        pretrained=pretrained,
    )


def dilation10(
    num_classes: int,
    *,
    in_channels: int = 3,
    fc_channels: int = 4096,
    width: float | int = 1.0,
    pretrained: bool = False,
) -> DilatedVGG:
    """The front end with a basic context module of ten layers, which sees 259 x 259 scores; for Cityscapes.

    134,373,043 parameters with 19 classes, 4,864 of them the fixed kernels of the last upsampling.

    Args:
        num_classes: logits a pixel.
        in_channels: of the images.
        fc_channels: of fc6 and fc7; fewer spare most of the parameters.
        width: the encoder's layers have this share of their published channels.
        pretrained: whether VGG16, fc6 and fc7 included, starts from torchvision's ImageNet weights.

    Raises:
        ArgumentError: when pretrained weights do not exist for these widths.

    Example:
        >>> model = dilation10(19, fc_channels=64, width=0.0625)
        >>> [layer.dilation[0] for layer in model.context if isinstance(layer, nn.Conv2d)]
        [1, 1, 2, 4, 8, 16, 32, 64, 1, 1]
    """
    return _dilated_vgg(
        num_classes,
        context=ContextModule(num_classes, DILATIONS_10),
        upsample=FixedUpsampling(num_classes, STRIDE),
        in_channels=in_channels,
        fc_channels=fc_channels,
        width=width,
        pretrained=pretrained,
    )

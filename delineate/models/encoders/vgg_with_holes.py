"""VGG16 at stride 8: its last two poolings keep the resolution, and the layers behind them get holes.

Source: Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", ICLR 2015,
section 3.1; the sizes of the poolings from its released definitions.
Differs: ``pooling="2x2"`` gives pool5 a hole too, which the released networks do not.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from delineate.checks import require
from delineate.models.encoders.torchvision_encoder import StagedEncoder, adapt_first_convolution, vgg_layers
from delineate.registry import unknown_name

POOLINGS = ("3x3", "2x2")


def vgg16_with_holes(
    *, in_channels: int = 3, width: float | int = 1.0, pooling: str = "3x3", weights: Mapping[str, Tensor] | None = None
) -> StagedEncoder:
    """VGG16 whose features are the outputs of its five poolings, at strides 2, 4, 8, 8 and 8.

    With poolings of 3x3 pixels every layer is centred on its pixel: feature (i, j) of stride s lies at pixel
    (s * i, s * j), and a side of n pixels becomes one of n / s, rounded up. With 2x2 pixels, VGG16's own, the features
    of stride 8 hold at (4 i + 2, 4 j + 2) what VGG16 has at stride 32 in (i, j), and lie half a pixel before
    (8 i, 8 j); sizes are rounded down.

    Args:
        in_channels: of the images.
        width: every layer has this share of its published channels.
        pooling: "3x3" as in the released networks, or "2x2", which makes each value one that VGG16 itself computes.
        weights: a torchvision VGG16's; drawn at random (He) when None.

    Raises:
        UnknownNameError: on another pooling.
        ArgumentError: when ``width`` is not above 0.

    Example:
        >>> encoder = vgg16_with_holes(width=0.125)
        >>> encoder.channels, encoder.strides
        ((8, 16, 32, 64, 64), (2, 4, 8, 8, 8))
    """
    if pooling not in POOLINGS:
        raise unknown_name("pooling", pooling, POOLINGS)
    require(width > 0, "width", "be above 0", width)
    layers = vgg_layers("vgg16", weights, width=float(width))
    adapt_first_convolution(layers, in_channels, pretrained=weights is not None)
    ends = [place + 1 for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    stages = [layers[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    for layer in stages[-1]:
        if isinstance(layer, nn.Conv2d):
            layer.dilation = layer.padding = (2, 2)
    for number, stage in enumerate(stages, start=1):
        stage[-1] = _pooling(number, pooling)
    return StagedEncoder(
        stages,
        channels=[next(layer for layer in stage if isinstance(layer, nn.Conv2d)).out_channels for stage in stages],
        strides=[2, 4, 8, 8, 8],
        in_channels=in_channels,
        rounds_up=pooling == "3x3",
    )


def _pooling(number: int, size: str) -> nn.Module:
    if size == "3x3":
        return nn.MaxPool2d(3, stride=2 if number <= 3 else 1, padding=1)
    if number <= 3:
        return nn.MaxPool2d(2)
    if number == 4:
        # a pixel and the one before it; a zero never wins against what left a ReLU
        return nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), nn.MaxPool2d(2, stride=1))
    # the pixels on both sides; ReLU makes zero of the minus infinity where a single pixel has none
    return nn.Sequential(nn.MaxPool2d(2, stride=1, dilation=2, padding=1), nn.ReLU())

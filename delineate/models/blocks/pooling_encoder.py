"""Encoders that remember where their poolings found the maxima, for decoders that mirror them: SegNet, DeconvNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from delineate.models.encoders.torchvision_encoder import adapt_first_convolution
from delineate.ops.unpooling import max_pool

VGG16_DEPTHS = (2, 2, 3, 3, 3)  # 3x3 convolutions of each stage


class Pooling(NamedTuple):
    """What one pooling leaves behind for the decoder."""

    pooled: Float[Tensor, "B C h w"]
    indices: Int64[Tensor, "B C h w"]
    size: torch.Size  # before it


class PoolingEncoder(nn.ModuleList):
    """Stages, each followed by 2 x 2 max-pooling that rounds sizes up."""

    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Pooling]:
        """One pooling a stage, finest first."""
        features, poolings = images, []
        for stage in self:
            features = stage(features)
            size = features.shape[2:]
            features, indices = max_pool(features)
            poolings.append(Pooling(features, indices, size))
        return poolings


def convolution_with_bias(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    padding: int | None = None,
    layer: type[nn.Conv2d] | type[nn.ConvTranspose2d] = nn.Conv2d,
    activation: bool = True,
) -> nn.Sequential:
    """A convolution with bias, batch norm and ReLU, as in Caffe's releases (the bias is redundant before batch norm).

    Weights are drawn as He et al., "Delving Deep into Rectifiers", ICCV 2015, draw them, from a normal distribution.

    Args:
        in_channels: taken.
        out_channels: returned.
        kernel_size: odd, in pixels.
        padding: around the feature; when None, what keeps the size.
        layer: a convolution or a transposed one.
        activation: whether ReLU follows.
    """
    convolution = layer(
        in_channels, out_channels, kernel_size, padding=kernel_size // 2 if padding is None else padding
    )
    # at stride 1 a pixel sees in_channels * kernel_size**2 values either way; only the weight's two axes change places
    fan: Literal["fan_in", "fan_out"] = "fan_in" if layer is nn.Conv2d else "fan_out"
    nn.init.kaiming_normal_(convolution.weight, mode=fan, nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    norm = nn.BatchNorm2d(out_channels)
    return nn.Sequential(convolution, norm, nn.ReLU(inplace=True)) if activation else nn.Sequential(convolution, norm)


def vgg16_encoder(in_channels: int, channels: Sequence[int]) -> PoolingEncoder:
    """VGG16's thirteen convolutions, with batch norm.

    Args:
        in_channels: of the images.
        channels: of the five stages, finest first; the published ones are 64, 128, 256, 512, 512.
    """
    encoder = PoolingEncoder()
    for depth, (before, after) in zip(VGG16_DEPTHS, pairwise((in_channels, *channels)), strict=True):
        widths = (before, *[after] * depth)
        encoder.append(nn.Sequential(*(convolution_with_bias(*pair) for pair in pairwise(widths))))
    return encoder


def load_vgg16(encoder: PoolingEncoder, weights: Mapping[str, Tensor], *, in_channels: int) -> None:
    """Give :func:`vgg16_encoder`, built for three channels, the weights of torchvision's ``vgg16_bn``.

    Args:
        encoder: of the published widths.
        weights: torchvision's; its classifier is left alone.
        in_channels: the first convolution is adapted to, as timm does.
    """
    # both have convolution, batch norm, convolution, batch norm, ... in the order of the network; the published file is
    # older than batch norm's counter of batches
    counter = "num_batches_tracked"
    values = [value for name, value in weights.items() if name.startswith("features.") and not name.endswith(counter)]
    names = [name for name in encoder.state_dict() if not name.endswith(counter)]
    encoder.load_state_dict(dict(zip(names, values, strict=True)))
    adapt_first_convolution(encoder, in_channels, pretrained=True)

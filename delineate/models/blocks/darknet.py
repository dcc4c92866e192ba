"""The convolutions of the YOLO family: batch norm, and a ReLU that leaks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

LEAK = 0.1
POOL = "pool"
Layer = tuple[int, int] | str  # channels and kernel size, or POOL


class DarknetConv(nn.Sequential):
    """Convolution, batch norm, leaky ReLU; at stride 1 the size stays.

    Source: Redmon et al., "You Only Look Once", CVPR 2016, eq. 2; the batch norm: Redmon, Farhadi, "YOLO9000", CVPR
    2017, section 2.

    Args:
        in_channels: taken.
        out_channels: returned.
        kernel_size: odd, in pixels.
        stride: output pixels are this many input pixels apart.
        norm: "batch", or "none" for a bias in its place.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, norm: str = "batch"
    ) -> None:
        plain = norm == "none"
        convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=plain
        )
        nn.init.kaiming_uniform_(convolution.weight, a=LEAK, nonlinearity="leaky_relu")
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        between = [] if plain else [nn.BatchNorm2d(out_channels)]
        super().__init__(convolution, *between, nn.LeakyReLU(LEAK, inplace=True))


def darknet_layers(
    layers: Sequence[Layer], in_channels: int, *, width: float | int = 1.0, norm: str = "batch"
) -> nn.Sequential:
    """Convolutions and 2x2 poolings in a row.

    Args:
        layers: (channels, kernel size) of each convolution, "pool" for a pooling.
        in_channels: taken by the first.
        width: every layer has this share of its channels.
        norm: as for :class:`DarknetConv`.
    """
    modules: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, str):
            modules.append(nn.MaxPool2d(2))
            continue
        channels = scaled(layer[0], width)
        modules.append(DarknetConv(in_channels, channels, layer[1], norm=norm))
        in_channels = channels
    return nn.Sequential(*modules)


def scaled(channels: int, width: float | int) -> int:
    """The share ``width`` of a layer's channels, at least one.

    Example:
        >>> scaled(512, 0.25), scaled(32, 0.01)
        (128, 1)
    """
    return max(1, round(channels * width))

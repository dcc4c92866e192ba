"""Convolution, batch norm, ReLU: plain, and split into depthwise and pointwise."""

from __future__ import annotations

from torch import nn


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, ReLU; at stride 1 the size stays.

    Args:
        in_channels: taken.
        out_channels: returned.
        kernel_size: odd, in pixels.
        stride: output pixels are this many input pixels apart.
        dilation: distance between the kernel's taps.
        groups: channels are convolved in this many separate groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=dilation * (kernel_size // 2),
                dilation=dilation,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class SeparableConvNormAct(nn.Sequential):
    """A depthwise 3x3 and a pointwise convolution, both with batch norm and ReLU.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution", ECCV 2018, section 3.1; batch norm and
    ReLU follow the depthwise convolution too, as in its section 3.2 and its released code.

    Args:
        in_channels: taken.
        out_channels: returned.
        dilation: distance between the depthwise kernel's taps.
        norm_between: False leaves out the batch norm and ReLU between the two convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int = 1, norm_between: bool = True) -> None:
        depthwise = ConvNormAct(in_channels, in_channels, dilation=dilation, groups=in_channels)
        super().__init__(
            depthwise if norm_between else depthwise[0],
            ConvNormAct(in_channels, out_channels, 1),
        )

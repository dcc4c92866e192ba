"""A network's 3 x 3 convolutions on the CPU by Winograd's minimal filtering, where that is faster."""

from __future__ import annotations

import math
import platform

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.engine.packing import PackedConv2d, replaced
from delineate.engine.precision import has_amx, multiplies_bfloat16
from delineate.machine import processor_name
from delineate.ops.winograd import winograd_conv2d, winograd_filters

# from how many channels on both sides, and results, it is ahead of torch's own whatever the size of the map:
# `python -m bench.convolution`
CHANNELS = {torch.float32: 96, torch.bfloat16: 128}
RESULTS = 256


class WinogradConv2d(PackedConv2d):
    """A convolution that multiplies less often, in inference, in one number format, on the CPU.

    Args:
        convolution: whose weights it shares; with filters of 3 x 3, a stride of 1 and padding of 0 or 1.
        dtype: float32, or bfloat16 for use under autocast.
    """

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(convolution)
        sides = 1 if self.padding in ("same", (1, 1)) else 0
        self.padding: tuple[int, int] = (sides, sides)
        self.register_buffer("filters", winograd_filters(convolution.weight, dtype), persistent=False)
        self.filters: Tensor

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K OH OW"]:
        """The same results, to a rounding; torch's own where images are of another kind, or too small to gain."""
        count, _, height, width = images.shape
        sides = self.padding[0]
        results = count * (height + 2 * sides - 2) * (width + 2 * sides - 2)
        dtype = self.filters.dtype
        if results < RESULTS or not self.calculates(images, dtype):
            return super().forward(images)
        least = 0.0 if self.rectifies else -math.inf
        return winograd_conv2d(images.to(dtype), self.filters, self.bias, padding=sides, least=least)


def with_winograd(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model itself, its convolutions that gain by it replaced: of 3 x 3, stride 1 and many channels.

    Their transformed weights take memory beside their weights: four times theirs in float32, eight ninths in bfloat16.

    Args:
        model: its weights are float32.
        dtype: what it is run in: float32, or bfloat16 under autocast.

    Example:
        >>> model = with_winograd(nn.Sequential(nn.Conv2d(3, 96, 3, padding=1), nn.Conv2d(96, 96, 3, padding=1)))
        >>> [type(layer).__name__ for layer in model]
        ['Conv2d', 'WinogradConv2d']
    """
    return replaced(model, lambda layer: WinogradConv2d(layer, dtype) if _gains(layer, CHANNELS[dtype]) else None)


def winograd_pays(dtype: torch.dtype) -> bool:
    """Whether the processor's products are those that the gain was measured with.

    Of float32: x86 with MKL, which is slow on AMD's. Of bfloat16: AVX512-BF16; AMX multiplies so fast that the
    transforms would take longer.
    """
    if dtype == torch.bfloat16:
        return multiplies_bfloat16() and not has_amx()
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return dtype == torch.float32 and x86 and torch.backends.mkl.is_available() and "AMD" not in processor_name()


def _gains(module: nn.Conv2d, channels: int) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.stride == module.dilation == (1, 1)
        and module.padding in ("same", "valid", (0, 0), (1, 1))
        and module.padding_mode == "zeros"
        and module.groups == 1
        and min(module.in_channels, module.out_channels) >= channels
        and module.weight.dtype == torch.float32
    )

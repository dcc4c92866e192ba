"""A network's 3 x 3 convolutions on the CPU by Winograd's minimal filtering, where that is faster."""

from __future__ import annotations

import platform

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.ops.winograd import winograd_conv2d, winograd_filters

# from how many channels on both sides, and results, it is ahead of torch's own whatever the size of the map:
# `python -m bench.convolution`
CHANNELS = 96
RESULTS = 256


class WinogradConv2d(nn.Conv2d):
    """A convolution that multiplies a quarter as often, in inference, in float32 on the CPU.

    Args:
        convolution: whose weights it shares; with filters of 3 x 3, a stride of 1 and padding of 0 or 1.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        channels = convolution.in_channels, convolution.out_channels
        sides = 1 if convolution.padding in ("same", (1, 1)) else 0
        super().__init__(*channels, 3, padding=sides, bias=convolution.bias is not None, device="meta")
        self.sides = sides
        self.weight, self.bias = convolution.weight, convolution.bias
        self.register_buffer("filters", winograd_filters(convolution.weight), persistent=False)
        self.filters: Tensor

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K OH OW"]:
        """The same results, to a rounding; torch's own where images are of another kind, or too small to gain."""
        count, _, height, width = images.shape
        smaller = 2 * self.sides - 2
        plain = images.dtype == torch.float32 and images.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if not plain or torch.is_grad_enabled() or count * (height + smaller) * (width + smaller) < RESULTS:
            return super().forward(images)
        return winograd_conv2d(images, self.filters, self.bias, padding=self.sides)


def with_winograd(model: nn.Module) -> nn.Module:
    """The model itself, its convolutions that gain by it replaced: of 3 x 3, stride 1 and many channels.

    Their transformed weights take four times the memory of their weights.

    Example:
        >>> model = with_winograd(nn.Sequential(nn.Conv2d(3, 96, 3, padding=1), nn.Conv2d(96, 96, 3, padding=1)))
        >>> [type(layer).__name__ for layer in model]
        ['Conv2d', 'WinogradConv2d']
    """
    found = {
        module: WinogradConv2d(module) for module in model.modules() if isinstance(module, nn.Conv2d) and _gains(module)
    }
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # one that has two places has two names
            if child in found:
                setattr(parent, name, found[child])
    return model


def winograd_pays() -> bool:
    """Whether this processor's float32 products are those that the gain was measured with: x86 with MKL."""
    return platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkl.is_available()


def _gains(module: nn.Conv2d) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.stride == module.dilation == (1, 1)
        and module.padding in ("same", "valid", (0, 0), (1, 1))
        and module.padding_mode == "zeros"
        and module.groups == 1
        and min(module.in_channels, module.out_channels) >= CHANNELS
        and module.weight.dtype == torch.float32
    )

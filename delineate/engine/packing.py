"""A network's convolutions on the CPU, their weights laid out as they are multiplied, a ReLU behind them included."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# numbers in all, and copies at most, that a convolution keeps laid out: of 3 x 3 x 256 x 256 seven, which is enough for
# the levels of a pyramid that share it
NUMBERS = 1 << 22
COPIES = 8


class PackedConv2d(nn.Conv2d):
    """A convolution that lays its weights out once for images of one size; torch does it in every call.

    Args:
        convolution: whose weights it shares.

    Attributes:
        rectifies: whether results below zero become zero.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]
            convolution.stride,  # type: ignore[arg-type]
            convolution.padding,  # type: ignore[arg-type]
            convolution.dilation,  # type: ignore[arg-type]
            convolution.groups,
            bias=convolution.bias is not None,
            padding_mode=convolution.padding_mode,
            device="meta",
        )
        self.weight, self.bias = convolution.weight, convolution.bias
        self.rectifies = False
        self._packed: dict[tuple[Any, ...], Tensor] = {}

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K OH OW"]:
        """The same results to a rounding; torch's own where gradients may be wanted, or numbers are of another kind."""
        packed = self._laid_out(images)
        if packed is None:
            results = super().forward(images)
            return results.relu_() if self.rectifies else results
        dtype = self.weight.dtype
        what = "relu" if self.rectifies else "none"
        bias = None if self.bias is None else self.bias.to(dtype)
        places = self.padding, self.stride, self.dilation, self.groups
        convolve = torch.ops.mkldnn._convolution_pointwise
        return convolve(images.to(dtype), packed, bias, *places, what, [], "")

    def _laid_out(self, images: Tensor) -> Tensor | None:
        dtype = self.weight.dtype
        if images.ndim != 4 or not images.numel() or not self.calculates(images, dtype) or not packing_pays(dtype):
            return None
        size = tuple(images.shape)
        kind = (*size, dtype)
        packed = self._packed.get(kind)
        if packed is not None:
            return packed
        places = self.padding, self.stride, self.dilation, self.groups
        with torch.inference_mode():
            plain = self.weight.detach().contiguous().to_mkldnn()
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            packed = reorder(plain, *places, size)
        if len(self._packed) >= min(COPIES, max(1, NUMBERS // self.weight.numel())):
            self._packed = {}
        self._packed[kind] = packed
        return packed

    def forget(self) -> None:
        """Give up what is laid out."""
        self._packed = {}

    @staticmethod
    def calculates(images: Tensor, dtype: torch.dtype) -> bool:
        """Whether images are convolved in this number format, on the CPU, without gradients."""
        if images.device.type != "cpu" or torch.is_grad_enabled() or not images.is_floating_point():
            return False
        cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else images.dtype
        return cast == dtype


def with_packed(model: nn.Module) -> nn.Module:
    """The model itself, its convolutions replaced by :class:`PackedConv2d`; those of other kinds stay.

    Laid out weights take as much memory again for each size of images, large ones for one, small ones for up to eight.
    """
    return replaced(model, lambda layer: PackedConv2d(layer) if _packs(layer) else None)


def replaced(model: nn.Module, by: Callable[[nn.Conv2d], nn.Conv2d | None]) -> nn.Module:
    """The model itself, each convolution replaced by what ``by`` makes of it, where that is not None."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    found = {layer: other for layer in layers if (other := by(layer)) is not None}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # one that has two places has two names
            if child in found:
                setattr(parent, name, found[child])
    return model


@cache
def packing_pays(dtype: torch.dtype = torch.float32) -> bool:
    """Whether torch convolves this number format by oneDNN here, as on x86, and lets weights be laid out."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if not (x86 and torch.backends.mkldnn.is_available() and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def _packs(module: nn.Conv2d) -> bool:
    plain = type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return plain and module.weight.dtype in (torch.float32, torch.bfloat16)

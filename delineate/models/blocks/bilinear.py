"""Bilinear upsampling as a transposed convolution, which can be learned from there."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def bilinear_kernel(size: int) -> Float[Tensor, "size size"]:
    """The kernel with which a transposed convolution interpolates bilinearly.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 3.3, and
    ``surgery.py`` of its released code.

    Args:
        size: of the kernel; for a stride of s, 2s (s even or odd) or 2s - 1.

    Returns:
        Values above 0, at most 1, symmetric in both directions.

    Example:
        >>> bilinear_kernel(4)[1].tolist()
        [0.1875, 0.5625, 0.5625, 0.1875]
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    ramp = 1 - (torch.arange(size) - centre).abs() / factor
    return ramp[:, None] * ramp[None, :]


class BilinearTransposedConv(nn.ConvTranspose2d):
    """A transposed convolution without bias that starts as bilinear interpolation, every channel for itself.

    Source: Long et al., CVPR 2015, section 4.1: in-network upsampling is initialised to bilinear interpolation.

    Args:
        channels: taken and returned.
        kernel_size: in output pixels.
        stride: how many times larger the output is.
        learned: False keeps the weights as they are.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, *, learned: bool = True) -> None:
        super().__init__(channels, channels, kernel_size, stride=stride, bias=False)
        self.weight.requires_grad_(learned)

    def reset_parameters(self) -> None:
        """Set bilinear interpolation."""
        with torch.no_grad():
            self.weight.zero_()
            kernel = bilinear_kernel(self.kernel_size[0])
            self.weight[range(self.in_channels), range(self.in_channels)] = kernel.to(self.weight)

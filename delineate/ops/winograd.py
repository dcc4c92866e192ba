"""3 x 3 convolutions on the CPU with a quarter of the multiplications."""

from __future__ import annotations

import math
import threading

import torch
from jaxtyping import Float
from torch import Tensor

from delineate.checks import require
from delineate.kernels import winograd as kernels

# numbers of one side of the products at a time: few enough for a processor's last cache, many enough to multiply well
_PIECE = 1 << 22
_memory = threading.local()
# the transform of a filter along one side
_FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def winograd_filters(weight: Float[Tensor, "K C _ _"]) -> Float[Tensor, "36 C K"]:
    """The weights of a convolution as :func:`winograd_conv2d` multiplies with them, four times as many.

    Args:
        weight: of ``torch.nn.Conv2d``.

    Raises:
        ArgumentError: when filters are not of 3 x 3.
    """
    shape = tuple(weight.shape)
    require(len(shape) == 4 and shape[2:] == (3, 3), "weight", "be (K, C, 3, 3)", f"shape {shape}")
    rows = torch.tensor(_FILTER, dtype=torch.float64, device=weight.device)
    turned = torch.einsum("ia,kcab,jb->ijck", rows, weight.detach().double(), rows)
    return turned.flatten(0, 1).to(weight.dtype).contiguous()


def winograd_conv2d(
    images: Float[Tensor, "B C H W"],
    filters: Float[Tensor, "36 _ K"],
    bias: Float[Tensor, " K"] | None = None,
    *,
    padding: int = 1,
) -> Float[Tensor, "B K OH OW"]:
    """``torch.nn.functional.conv2d`` with filters of 3 x 3 and a stride of 1, on the CPU, without a gradient.

    Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, F(4 x 4, 3 x 3).
    Differs: nothing. Results are those of ``conv2d`` to about 1e-5 of the largest, a rounding ten times its own.

    Args:
        images: float32; copied unless channels are last in memory.
        filters: of :func:`winograd_filters`.
        bias: of each channel of the results.
        padding: zeros around the image, 0 or 1.

    Returns:
        Channels last in memory.

    Raises:
        ArgumentError: when images are not float32 on the CPU, filters have other channels, padding is neither 0 nor 1,
            or an image is too small for a single result.

    Example:
        >>> image, weight = torch.randn(1, 3, 6, 9), torch.randn(5, 3, 3, 3)
        >>> found = winograd_conv2d(image, winograd_filters(weight))
        >>> torch.allclose(found, torch.nn.functional.conv2d(image, weight, padding=1), atol=1e-4)
        True
    """
    plain = images.dtype == torch.float32 and images.device.type == "cpu"
    require(plain, "images", "be float32 on the CPU", f"{images.dtype} on {images.device.type}")
    require(padding in (0, 1), "padding", "be 0 or 1", padding)
    count, channels, height, width = images.shape
    fits = filters.shape[:2] == (kernels.PLACES, channels)
    require(fits, "filters", f"be (36, {channels}, K)", f"shape {tuple(filters.shape)}")
    size = (height + 2 * padding - 2, width + 2 * padding - 2)
    require(min(size) > 0, "images", f"be of at least {3 - 2 * padding} pixels a side", (height, width))
    results = torch.empty(count, *size, filters.shape[2])
    shift = (torch.zeros(filters.shape[2]) if bias is None else bias).detach().numpy()
    pixels = images.detach().permute(0, 2, 3, 1).contiguous().numpy()
    down, across = kernels.tile_counts(height, width, padding)
    rows = count * down
    places = kernels.PLACES * across
    step = max(1, min(rows, _PIECE // (places * max(channels, filters.shape[2]))))
    turned = _scratch("turned", (kernels.PLACES, step * across, channels))
    products = _scratch("products", (kernels.PLACES, step * across, filters.shape[2]))
    for first in range(0, rows, step):
        piece = (first, min(rows, first + step))
        kernels.transform_tiles(pixels, piece, padding, turned.numpy())
        torch.bmm(turned, filters, out=products)
        kernels.restore_tiles(products.numpy(), shift, piece, results.numpy())
    return results.permute(0, 3, 1, 2)


def _scratch(name: str, shape: tuple[int, int, int]) -> Tensor:
    """Memory of this thread that lasts from call to call: to be given new pages costs as much as the products."""
    size = math.prod(shape)
    held: Tensor | None = getattr(_memory, name, None)
    if held is None or len(held) < size:
        with torch.inference_mode(mode=False):  # or it could not be written to outside of it
            held = torch.empty(size)
        setattr(_memory, name, held)
    return held[:size].view(shape)

"""3 x 3 convolutions on the CPU with fewer multiplications: a quarter in float32, four ninths in bfloat16."""

from __future__ import annotations

import math
import threading

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from delineate.checks import require
from delineate.kernels import winograd as kernels

# numbers of one side of the products at a time: few enough for a processor's last cache, many enough to multiply well
_PIECE = 1 << 22
_memory = threading.local()
# the transform of a filter along one side, for tiles of each type
_FILTERS = {
    torch.float32: (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    torch.bfloat16: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
}


def winograd_filters(
    weight: Float[Tensor, "K C _ _"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "places C K"]:
    """The weights of a convolution as :func:`winograd_conv2d` multiplies with them.

    Args:
        weight: of ``torch.nn.Conv2d``.
        dtype: what is multiplied: float32, 36 for each 9 weights, or bfloat16, 16.

    Raises:
        ArgumentError: when filters are not of 3 x 3, or for another dtype.
    """
    shape = tuple(weight.shape)
    require(len(shape) == 4 and shape[2:] == (3, 3), "weight", "be (K, C, 3, 3)", f"shape {shape}")
    require(dtype in _FILTERS, "dtype", "be torch.float32 or torch.bfloat16", dtype)
    rows = torch.tensor(_FILTERS[dtype], dtype=torch.float64, device=weight.device)
    turned = torch.einsum("ia,kcab,jb->ijck", rows, weight.detach().double(), rows)
    return turned.flatten(0, 1).to(dtype).contiguous()


def winograd_conv2d(
    images: Float[Tensor, "B C H W"],
    filters: Float[Tensor, "places _ K"],
    bias: Float[Tensor, " K"] | None = None,
    *,
    padding: int = 1,
    least: float = -math.inf,
) -> Float[Tensor, "B K OH OW"]:
    """``torch.nn.functional.conv2d`` with filters of 3 x 3 and a stride of 1, on the CPU, without a gradient.

    Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: F(4 x 4, 3 x 3) of float32,
    F(2 x 2, 3 x 3) of bfloat16.
    Differs: nothing. Results of float32 are those of ``conv2d`` to about 1e-5 of the largest, a rounding ten times its
    own; of bfloat16 to about 5e-3, twice its own.

    Args:
        images: of the type of ``filters``; copied unless channels are last in memory.
        filters: of :func:`winograd_filters`.
        bias: of each channel of the results.
        padding: zeros around the image, 0 or 1.
        least: what smaller results become; 0 for a ReLU.

    Returns:
        Channels last in memory.

    Raises:
        ArgumentError: when images are not on the CPU and of the filters' type, filters have other channels, padding is
            neither 0 nor 1, or an image is too small for a single result.

    Example:
        >>> image, weight = torch.randn(1, 3, 6, 9), torch.randn(5, 3, 3, 3)
        >>> found = winograd_conv2d(image, winograd_filters(weight))
        >>> torch.allclose(found, torch.nn.functional.conv2d(image, weight, padding=1), atol=1e-4)
        True
    """
    kind = filters.dtype
    require(kind in _FILTERS, "filters", "be float32 or bfloat16", kind)
    plain = images.dtype == kind and images.device.type == "cpu"
    name = str(kind).removeprefix("torch.")
    require(plain, "images", f"be {name} on the CPU", f"{images.dtype} on {images.device.type}")
    require(padding in (0, 1), "padding", "be 0 or 1", padding)
    count, channels, height, width = images.shape
    places = len(_FILTERS[kind]) ** 2
    fits = filters.shape[:2] == (places, channels)
    require(fits, "filters", f"be ({places}, {channels}, K)", f"shape {tuple(filters.shape)}")
    size = (height + 2 * padding - 2, width + 2 * padding - 2)
    require(min(size) > 0, "images", f"be of at least {3 - 2 * padding} pixels a side", (height, width))
    results = torch.empty(count, *size, filters.shape[2], dtype=kind)
    shift = (torch.zeros(filters.shape[2]) if bias is None else bias).detach().float().numpy()
    pixels = _array(images.detach().permute(0, 2, 3, 1).contiguous())
    down, across = kernels.tile_counts(height, width, padding, kernels.tile_side(pixels))
    rows = count * down
    pieces = -(-rows * places * across * max(channels, filters.shape[2]) // _PIECE)
    step = -(-rows // max(1, pieces))
    turned = _scratch("turned", (places, step * across, channels), kind)
    products = _scratch("products", (places, step * across, filters.shape[2]), kind)
    for first in range(0, rows, max(1, step)):
        piece = (first, min(rows, first + step))
        kernels.transform_tiles(pixels, piece, padding, _array(turned))
        torch.bmm(turned, filters, out=products)
        kernels.restore_tiles(_array(products), shift, piece, _array(results), least=least)
    return results.permute(0, 3, 1, 2)


def _array(numbers: Tensor) -> np.ndarray:
    """The same memory for the kernels, which take a bfloat16 as its 16 bits."""
    array: np.ndarray = (numbers.view(torch.uint16) if numbers.dtype == torch.bfloat16 else numbers).numpy()
    return array


def _scratch(name: str, shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """Memory of this thread that lasts from call to call: to be given new pages costs as much as the products."""
    name = f"{name} {dtype}"
    size = math.prod(shape)
    held: Tensor | None = getattr(_memory, name, None)
    if held is None or len(held) < size:
        with torch.inference_mode(mode=False):  # or it could not be written to outside of it
            held = torch.empty(size, dtype=dtype)
        setattr(_memory, name, held)
    return held[:size].view(shape)

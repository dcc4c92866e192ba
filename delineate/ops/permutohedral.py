"""Gaussian filtering of points in many dimensions on the permutohedral lattice, differentiable and on any device.

On the CPU, float32 goes through the compiled kernels of :mod:`delineate.kernels.permutohedral`; everything else (a GPU,
float64 for exact gradients) through the tensor operations of this file. Both build the same lattice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from delineate.checks import require
from delineate.kernels import permutohedral as kernels

_CODE_LIMIT = 1 << 62
_FARTHEST = 1e6  # standard deviations from the origin; far below where float32 loses the cell of a point


@dataclass(frozen=True)
class TensorLattice:
    """The part of the lattice that N points of D dimensions touch, as tensors.

    Args:
        vertices: the lattice points at the corners of the simplex around each point.
        weights: a point's barycentric weights, which add up to 1.
        neighbours: the lattice points before and behind along each axis; M where the lattice has none.
    """

    vertices: Int64[Tensor, "N V"]
    weights: Float[Tensor, "N V"]
    neighbours: Int64[Tensor, "V M 2"]

    @property
    def gain(self) -> float:
        """What makes up for the blur, whose three weights add up to 2 along each axis."""
        return 1.0 / (1.0 + 2.0 ** -(self.weights.shape[1] - 1))


Lattice = TensorLattice | kernels.Lattice


def build_lattice(features: Float[Tensor, "N D"]) -> Lattice:
    """The lattice for any number of filterings with the same points, in the form that is fastest where they are.

    Source: Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010.
    Differs: as in the code of Krähenbühl and Koltun's dense CRF, axes are scaled so that a blur with 1/2, 1, 1/2 along
        each has the variance of the Gaussian, and only lattice points that a point touches take part.

    Args:
        features: each divided by the Gaussian's standard deviation along it; no gradient reaches them.

    Raises:
        ArgumentError: when a feature is not finite, or more than a million standard deviations from 0.

    Example:
        >>> lattice = build_lattice(torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, 9.0]]))
        >>> lattice.vertices.tolist(), lattice.neighbours.shape[1]
        ([[0, 1, 2], [0, 1, 2], [3, 4, 5]], 6)
    """
    features = features.detach()
    if not features.is_meta:
        require(
            bool((features.abs() <= _FARTHEST).all()),
            "features",
            f"be finite and at most {_FARTHEST:g} standard deviations from 0",
            "others",
            "Look for NaN in the images, or take a larger bandwidth.",
        )
    if features.device.type == "cpu" and features.dtype == torch.float32:
        return kernels.build_lattice(features.contiguous().numpy())
    return tensor_lattice(features)


def tensor_lattice(features: Float[Tensor, "N D"]) -> TensorLattice:
    """:func:`build_lattice` with tensor operations, on any device and in any precision.

    On the meta device, which has no values, the lattice has the most lattice points it could have.
    """
    dimensions = features.shape[1]
    corners = dimensions + 1
    axis = torch.arange(dimensions, dtype=features.dtype, device=features.device)
    scaled = features * (math.sqrt(2 / 3) * corners / ((axis + 1) * (axis + 2)).sqrt())
    # onto the hyperplane of coordinates that add up to 0
    ahead = torch.nn.functional.pad(scaled.flip(1).cumsum(1).flip(1), (0, 1))
    elevated = ahead - torch.nn.functional.pad(scaled * (axis + 1), (1, 0))
    # the nearest lattice point of remainder 0: nearest multiples of D + 1, and what these miss of adding up to 0 is put
    # right at the coordinates that were rounded farthest
    whole = (elevated / corners).round()
    farthest_first = (elevated - whole * corners).argsort(dim=1, descending=True, stable=True)
    rank = farthest_first.argsort(dim=1) + whole.sum(1, keepdim=True).long()
    turn = (rank < 0).long() - (rank > dimensions).long()
    rank, whole = rank + turn * corners, whole + turn
    # differences of neighbours in the order of rank are the barycentric weights
    ordered = torch.empty_like(elevated).scatter_(1, rank, elevated / corners - whole)
    weights = torch.cat([1 - ordered[:, :1] + ordered[:, -1:], (ordered[:, :-1] - ordered[:, 1:]).flip(1)], dim=1)
    remainder = torch.arange(corners, device=features.device)[:, None]
    step = remainder - corners * (rank[:, None, :] > dimensions - remainder)  # N, corner, coordinate
    keys = (whole.long() * corners)[:, None, :dimensions] + step[..., :dimensions]
    vertices, neighbours = _numbered(keys)
    return TensorLattice(vertices, weights, neighbours)


def _numbered(keys: Int64[Tensor, "N V D"]) -> tuple[Int64[Tensor, "N V"], Int64[Tensor, "V M 2"]]:
    """Lattice points numbered from 0, and the numbers of their neighbours along each axis.

    A code of one integer stands for a point, a sum of coordinates times strides, so that neighbours are additions away.
    """
    corners, dimensions = keys.shape[1:]
    if keys.is_meta or keys.numel() == 0:
        most = keys.shape[0] * corners
        return keys.new_empty(keys.shape[:2]), keys.new_empty((corners, most, 2))
    low, high = keys.amin(dim=(0, 1)), keys.amax(dim=(0, 1))
    sizes = (high - low + 2 * corners + 1).tolist()
    if math.prod(sizes) < _CODE_LIMIT:
        strides = keys.new_tensor([math.prod(sizes[:place]) for place in range(dimensions)])
    else:  # odd numbers without a pattern: two of a million lattice points share a code with a chance below 1e-6
        generator = torch.Generator().manual_seed(0)
        strides = torch.randint(-_CODE_LIMIT, _CODE_LIMIT, (dimensions,), generator=generator).to(keys.device) | 1
    codes, vertices = torch.unique(((keys - low) * strides).sum(-1), return_inverse=True)
    steps = corners * torch.nn.functional.pad(strides, (0, 1)) - strides.sum()
    wanted = torch.stack([codes - steps[:, None], codes + steps[:, None]], dim=-1)
    place = torch.searchsorted(codes, wanted).clamp_(max=len(codes) - 1)
    return vertices, torch.where(codes[place] == wanted, place, len(codes))


def permutohedral_filter(values: Float[Tensor, "N C"], lattice: Lattice) -> Float[Tensor, "N C"]:
    """For every point the sum of all points' values, each weighted by a Gaussian of the distance, nearly.

    The gradient is the exact adjoint: the same filter with the axes blurred in the opposite order. It can be
    differentiated again.

    Args:
        values: of the type and on the device of the features the lattice was built from.
        lattice: of N points.

    Raises:
        ArgumentError: when the lattice was built for another number of points, another type or another device.

    Example:
        >>> lattice = build_lattice(torch.tensor([[0.0], [0.0], [50.0]]))
        >>> permutohedral_filter(torch.tensor([[1.0], [2.0], [4.0]]), lattice).flatten()
        tensor([2.5000, 2.5000, 3.0737])
    """
    points = lattice.weights.shape[0]
    require(values.shape[0] == points, "values", f"have a row for each of the lattice's {points} points", len(values))
    kind = lattice.weights.dtype if isinstance(lattice, TensorLattice) else torch.float32
    device = lattice.weights.device if isinstance(lattice, TensorLattice) else torch.device("cpu")
    require(
        values.dtype == kind and values.device == device,
        "values",
        f"be {kind} on {device}, as the features of the lattice were",
        f"{values.dtype} on {values.device}",
    )
    filtered: Tensor = _Filter.apply(values, lattice, False)
    return filtered


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, lattice: Lattice, reverse: bool) -> Tensor:
        ctx.lattice, ctx.reverse = lattice, reverse
        if isinstance(lattice, TensorLattice):
            return splat_blur_slice(values, lattice, reverse=reverse)
        return torch.from_numpy(kernels.filter_values(lattice, values.detach().numpy(), reverse=reverse))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Filter.apply(gradients[0], ctx.lattice, not ctx.reverse), None, None


def splat_blur_slice(
    values: Float[Tensor, "N C"], lattice: TensorLattice, *, reverse: bool = False
) -> Float[Tensor, "N C"]:
    """:func:`permutohedral_filter` in tensor operations, without its checks and its own gradient.

    Args:
        values: of the lattice's type.
        lattice: of N points.
        reverse: blur along the axes in the opposite order.
    """
    axes, count = lattice.neighbours.shape[:2]
    sums = values.new_zeros(count + 1, values.shape[1])  # the last row stands for lattice points that are not there
    for corner in range(axes):
        sums = sums.index_add(0, lattice.vertices[:, corner], lattice.weights[:, corner, None] * values)
    for axis in reversed(range(axes)) if reverse else range(axes):
        before, behind = lattice.neighbours[axis].unbind(1)
        blurred = sums[:-1] + 0.5 * (sums[before] + sums[behind])
        sums = torch.cat([blurred, sums[-1:]])
    found = torch.zeros_like(values)
    for corner in range(axes):
        found = found + lattice.weights[:, corner, None] * sums[lattice.vertices[:, corner]]
    return found * lattice.gain

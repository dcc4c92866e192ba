"""U-Net's elastic deformation: a coarse grid of random displacements, made a smooth field, and sampling by it.

Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
section 3.1: random displacement vectors on a coarse 3x3 grid, Gaussian with a standard deviation of 10 pixels, and
bicubic interpolation to every pixel.
Differs: nothing for images; label maps take the nearest pixel, so that no new label is made.

Coordinates here are pixel centres: row 0.0 is the centre of the first row. A point is ``(row, column)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from delineate.checks import require

KEYS_A = -0.75  # the cubic convolution of torch's and OpenCV's "bicubic"
INVERSE_STEPS = 30


def cubic_weights(positions: Float[Tensor, " N"], grid: int) -> Float[Tensor, "N G"]:
    """The weight of each of ``grid`` control values at each position, by cubic convolution; every row sums to one.

    Source: Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 1981, eq. 4, a = -0.75.

    Args:
        positions: in units of the grid spacing, 0 at the first control value, ``grid - 1`` at the last; clamped.
        grid: the number of control values; beyond the ends the last value is repeated.

    Example:
        >>> cubic_weights(torch.tensor([0.0, 0.5]), 3).tolist()
        [[1.0, 0.0, 0.0], [0.5, 0.59375, -0.09375]]
    """
    positions = positions.clamp(0, grid - 1)
    start = positions.floor().clamp(max=max(grid - 2, 0))
    weights = positions.new_zeros(len(positions), grid)
    for offset in range(-1, 3):
        distance = (positions - start - offset).abs()
        near = ((KEYS_A + 2) * distance - (KEYS_A + 3)) * distance**2 + 1
        far = KEYS_A * (((distance - 5) * distance + 8) * distance - 4)
        weight = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
        column = (start + offset).clamp(0, grid - 1).long()
        weights.scatter_add_(1, column[:, None], weight[:, None])
    return weights


def displacement_field(coarse: Float[Tensor, "2 G G"], size: tuple[int, int]) -> Float[Tensor, "2 H W"]:
    """The displacement (rows, columns) of every pixel, bicubic between control vectors spread from corner to corner.

    The same numbers as ``torch.nn.functional.interpolate(mode="bicubic", align_corners=True)``, as two small matrix
    products instead of sixteen taps a pixel.

    Args:
        coarse: displacements in pixels; ``coarse[:, 0, 0]`` is the first pixel's, ``coarse[:, -1, -1]`` the last one's.
        size: (height, width) of the field.

    Example:
        >>> corner = torch.zeros(2, 3, 3)
        >>> corner[:, 0, 0] = 32.0
        >>> displacement_field(corner, (5, 5))[0, 0].tolist()
        [32.0, 16.0, 0.0, -3.0, 0.0]
    """
    grid = coarse.shape[-1]
    require(coarse.ndim == 3 and coarse.shape == (2, grid, grid), "coarse", "be (2, G, G)", tuple(coarse.shape))
    rows, columns = (cubic_weights(_spread(length, grid), grid) for length in size)
    return rows @ coarse @ columns.T


def displacements_at(
    coarse: Float[Tensor, "2 G G"], points: Float[Tensor, "N 2"], size: tuple[int, int]
) -> Float[Tensor, "N 2"]:
    """The displacement at single points; beyond the field the nearest edge's."""
    grid = coarse.shape[-1]
    scale = torch.tensor([(grid - 1) / max(length - 1, 1) for length in size])
    rows, columns = (cubic_weights((points * scale)[:, axis], grid) for axis in (0, 1))
    return torch.einsum("ng,kgh,nh->nk", rows, coarse, columns)


def undeformed(
    coarse: Float[Tensor, "2 G G"], points: Float[Tensor, "N 2"], size: tuple[int, int]
) -> Float[Tensor, "N 2"]:
    """Where points of the source come to lie: ``p`` with ``p + displacement(p) = point``, by fixed-point iteration.

    It converges where the field does not fold (its slope stays below one); elsewhere the answer is approximate.
    """
    found = points
    for _ in range(INVERSE_STEPS):
        found = points - displacements_at(coarse, found, size)
    return found


def sample_image(
    image: Shaped[Tensor, "C H W"],
    rows: Float[Tensor, "h w"],
    columns: Float[Tensor, "h w"],
    fill: Sequence[float],
) -> Shaped[Tensor, "C h w"]:
    """The image at the given places, bilinear; ``fill`` (one value a channel) outside the picture.

    The border pixels keep their value to their outer edge, half a pixel beyond the centre, so that nothing is blended
    with the fill.
    """
    height, width = image.shape[-2:]
    grid = torch.stack([(columns * 2 + 1) / width - 1, (rows * 2 + 1) / height - 1], dim=-1)[None]
    source = image[None] if image.is_floating_point() else image[None].float()
    sampled = functional.grid_sample(source, grid, padding_mode="border", align_corners=False)[0]
    if not image.is_floating_point():
        sampled = sampled.round_().to(image.dtype)
    inside = _inside(rows, columns, (height, width))
    if not bool(inside.all()):
        sampled = torch.where(inside, sampled, torch.tensor(fill, dtype=sampled.dtype)[:, None, None])
    return sampled


def sample_labels(
    labels: Shaped[Tensor, "*N H W"], rows: Float[Tensor, "h w"], columns: Float[Tensor, "h w"], fill: int
) -> Shaped[Tensor, "*N h w"]:
    """The label of the pixel that covers each place; ``fill`` outside the picture."""
    height, width = labels.shape[-2:]
    row = (rows + 0.5).floor_().clamp_(0, height - 1)
    column = (columns + 0.5).floor_().clamp_(0, width - 1)
    index = (row.long() * width + column.long()).flatten()
    sampled = labels.flatten(-2)[..., index].unflatten(-1, rows.shape)
    return sampled.masked_fill_(~_inside(rows, columns, (height, width)), fill)


def _inside(rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    return (rows >= -0.5) & (rows < size[0] - 0.5) & (columns >= -0.5) & (columns < size[1] - 0.5)


def _spread(length: int, grid: int) -> Float[Tensor, " N"]:
    return torch.arange(length, dtype=torch.float32) * ((grid - 1) / max(length - 1, 1))

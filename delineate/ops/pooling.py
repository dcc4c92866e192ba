"""Averages over a grid of bins, whatever the size of the feature."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from delineate.checks import require

Length = int | torch.SymInt  # the second while a model is exported with dynamic size


def average_over_bins(features: Float[Tensor, "B C H W"], bins: int) -> Float[Tensor, "B C N N"]:
    """The means of ``bins`` x ``bins`` rectangles that cover the feature, as even in size as whole pixels allow.

    Bin i of n covers the pixels floor(i L / n) to ceil((i + 1) L / n) - 1 of L: neighbours share a row where L is no
    multiple of n, and where L is smaller than n, pixels occur again and again.

    Source: the pyramid of He et al., "Spatial Pyramid Pooling in Deep Convolutional Networks", ECCV 2014, with means.
    Differs: nothing; it is ``torch.nn.functional.adaptive_avg_pool2d``. Where that has no ONNX form (a size that is not
    known yet) or no deterministic gradient (CUDA), two matrix products give the same values.

    Args:
        features: at least 1 x 1 pixels.
        bins: in each direction, at least 1.

    Raises:
        ArgumentError: when ``bins`` is below 1.

    Example:
        >>> average_over_bins(torch.arange(5.0).view(1, 1, 1, 5), 2)[0, 0, 0].tolist()
        [1.0, 3.0]
    """
    require(bins >= 1, "bins", "be at least 1", bins)
    if bins == 1:
        return features.mean((2, 3), keepdim=True)
    if torch.compiler.is_exporting() or (features.is_cuda and torch.are_deterministic_algorithms_enabled()):
        return products_over_bins(features, bins)
    return functional.adaptive_avg_pool2d(features, bins)


def products_over_bins(features: Float[Tensor, "B C H W"], bins: int) -> Float[Tensor, "B C N N"]:
    """:func:`average_over_bins` as two matrix products, which every backend has, and which take longer on a CPU."""
    rows, row_counts = _bin_members(features.shape[2], bins, features)
    columns, column_counts = _bin_members(features.shape[3], bins, features)
    # ones and zeros are exact in every format; each sum is divided at once, lest it leave the range of float16
    across = features @ columns.T / column_counts
    return rows @ across / row_counts[:, None]


def _bin_members(length: Length, bins: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Which pixels (columns) each bin (rows) covers, as ones and zeros, and how many."""
    position = torch.arange(length, device=like.device)
    number = torch.arange(bins, device=like.device)
    first: Any = number * length  # of a symbolic length, a tensor too
    start = first // bins
    end = (first + (length + bins - 1)) // bins
    members = (position >= start[:, None]) & (position < end[:, None])
    return members.to(like.dtype), (end - start).to(like.dtype)

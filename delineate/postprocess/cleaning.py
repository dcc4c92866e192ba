"""Small regions of a label map removed: islands of a few pixels, and holes inside one class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Integer

from delineate.checks import require
from delineate.kernels.regions import merged_enclosed_regions, merged_small_regions

CONNECTIVITIES = (4, 8)


def remove_islands(
    labels: Integer[np.ndarray, "H W"],
    *,
    min_area: int,
    connectivity: int = 4,
    classes: Sequence[int] | None = None,
    ignore_index: int = 255,
) -> Integer[np.ndarray, "H W"]:
    """The label map with every region of fewer than ``min_area`` pixels given the label it shares most border with.

    The smallest region goes first. What it merges into grows, and goes as well if it is still too small; so a second
    call changes nothing. Of equal borders the smallest label wins.

    Args:
        labels: any whole numbers.
        min_area: pixels of the smallest region that stays.
        connectivity: 4 when pixels of a region share a side, 8 when a corner will do.
        classes: whose regions may go; every class when left out.
        ignore_index: a label that stays where it is and is given to no other pixel. A region with no other neighbour
            stays.

    Returns:
        A new map of the same type.

    Raises:
        ArgumentError: on a map that is not (H, W), a negative area or another connectivity.

    Example:
        >>> remove_islands(np.array([[0, 0, 1, 0], [0, 2, 2, 0], [0, 2, 2, 0]]), min_area=2)
        array([[0, 0, 0, 0],
               [0, 2, 2, 0],
               [0, 2, 2, 0]])
    """
    require(min_area >= 0, "min_area", "be 0 pixels or more", min_area)
    return _cleaned(labels, merged_small_regions, min_area - 1, connectivity, classes, ignore_index)


def fill_holes(
    labels: Integer[np.ndarray, "H W"],
    *,
    max_area: int,
    connectivity: int = 4,
    classes: Sequence[int] | None = None,
    ignore_index: int = 255,
) -> Integer[np.ndarray, "H W"]:
    """The label map with every hole of at most ``max_area`` pixels given the label around it.

    A hole is a region with neighbours of one single label and none of its pixels at the edge of the map. The smallest
    goes first, so that a hole in a hole counts towards the outer one; a second call changes nothing. A hole that two
    classes share is not one: :func:`remove_islands` removes what is small wherever it lies.

    Args:
        labels: any whole numbers.
        max_area: pixels of the largest hole that is filled.
        connectivity: 4 when pixels of a hole share a side, 8 when a corner will do.
        classes: whose holes are filled, so the label around them; every class when left out.
        ignore_index: a label that stays where it is. A region that touches it is no hole, as nobody knows what is
            there.

    Returns:
        A new map of the same type.

    Raises:
        ArgumentError: on a map that is not (H, W), a negative area or another connectivity.

    Example:
        >>> fill_holes(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]), max_area=1).tolist()
        [[1, 1, 1], [1, 1, 1], [1, 1, 1]]
    """
    require(max_area >= 0, "max_area", "be 0 pixels or more", max_area)
    return _cleaned(labels, merged_enclosed_regions, max_area, connectivity, classes, ignore_index)


def _cleaned(
    labels: np.ndarray,
    merged: Callable[..., np.ndarray],
    largest: int,
    connectivity: int,
    classes: Sequence[int] | None,
    ignore_index: int,
) -> np.ndarray:
    """The kernel's answer, with the labels numbered without gaps for it."""
    require(connectivity in CONNECTIVITIES, "connectivity", "be 4 (sides) or 8 (corners too)", connectivity)
    require(labels.ndim == 2, "labels", "be (H, W)", f"shape {labels.shape}", "Clean one map at a time.")
    values, numbers = np.unique(labels, return_inverse=True)
    chosen = np.ones(len(values), bool) if classes is None else np.isin(values, list(classes))
    ignored = int(np.flatnonzero(values == ignore_index)[0]) if ignore_index in values else -1
    result = merged(
        numbers.reshape(labels.shape), largest=largest, connectivity=connectivity, ignored=ignored, chosen=chosen
    )
    cleaned: np.ndarray = values[result] if result.size else labels.copy()
    return cleaned

"""Options of ``delineate score``: looked at before anything is read, and put down as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from delineate.checks import require

RESERVED_AREAS = ("iou50", "iou75")
"""Names that area ranges may not have: their recall would be called as that at one threshold."""


def check_object_options(
    iou_thresholds: Sequence[float | int],
    area_ranges: Mapping[str, tuple[float | int, float | int]],
    max_detections: Sequence[int],
) -> None:
    """Raise ArgumentError unless these are thresholds, area ranges and limits of the COCO tasks."""
    thresholds = np.asarray(iou_thresholds)
    numbers = thresholds.ndim == 1 and len(thresholds) > 0 and thresholds.dtype.kind in "iuf"
    possible = numbers and bool(((thresholds >= 0) & (thresholds <= 1)).all())
    require(possible, "iou_thresholds", "be at least one number from 0 to 1", iou_thresholds)
    limits = np.asarray(max_detections)
    whole = limits.ndim == 1 and len(limits) > 0 and limits.dtype.kind in "iu"
    advice = "Leave it out for COCO's limits."
    possible = whole and int(limits.min()) > 0 and int(limits.max()) < 1 << 31
    require(possible, "max_detections", "be whole numbers of at least 1, below 2**31", max_detections, advice)
    advice = "Leave it out for COCO's ranges."
    require(len(area_ranges) > 0, "area_ranges", "name at least one range", dict(area_ranges), advice)
    for name, limits_of in area_ranges.items():
        ordered = np.shape(limits_of) == (2,) and limits_of[0] <= limits_of[1]
        require(ordered, f"area_ranges['{name}']", "be (least, largest) areas", limits_of)
        free = bool(name.strip()) and not name.strip().isdigit() and name not in RESERVED_AREAS
        condition = f"have names other than numbers and {', '.join(RESERVED_AREAS)}"
        require(free, "area_ranges", condition, f"'{name}'", "Call it tiny, say.")


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as text, numbers, lists and dictionaries of these, which JSON and a report can hold.

    Example:
        >>> from pathlib import Path
        >>> plain_options({"classes": Path("a.txt"), "iou_thresholds": np.array([0.5, 0.75])})
        {'classes': 'a.txt', 'iou_thresholds': [0.5, 0.75]}
    """
    return {str(name): _plain(value) for name, value in options.items()}


def finite_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Plain options whose infinite numbers, which JSON lacks, are text.

    Example:
        >>> finite_options({"area_ranges": {"all": [0, float("inf")]}})
        {'area_ranges': {'all': [0, 'inf']}}
    """
    return {name: _finite(value) for name, value in options.items()}


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, str | bool | int | float) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return plain_options(value)
    if isinstance(value, Sequence | Set):
        return [_plain(item) for item in value]
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return finite_options(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and np.isinf(value) else value

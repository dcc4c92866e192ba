"""Outlines of one polygon each, for formats that have no other: parts are joined by slits of no width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from delineate.data.objects.outlines import Outlines, draws
from delineate.structures.rle_masks import RLEMasks


def joined_outlines(
    masks: RLEMasks, outlines: Outlines, as_read: Callable[[list[float], int], list[float]]
) -> tuple[list[list[float]], int]:
    """One polygon for each mask, within its image, that draws the very mask.

    Args:
        masks: what is to be drawn.
        outlines: polygons that draw each mask where there are any: kept where one is enough, or can be made of them.
        as_read: what a reader makes of the polygon of a row, so that no rounding changes a mask.

    Returns:
        A polygon for each mask; and how many were made anew, along the edges of the mask's pixels, though the source
        has outlines.

    Example:
        >>> from delineate.structures.rle import RLE
        >>> masks = RLEMasks.from_rles([RLE.encode(np.array([[1, 0, 1]]))])
        >>> joined_outlines(masks, [None], lambda polygon, row: polygon)[0][0]
        [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 3.0, 0.0, 3.0, 1.0, 2.0, 1.0, 2.0, 0.0, 3.0, 0.0]
    """
    limits = masks.sizes[:, ::-1].astype(np.float64)
    joined: list[list[float]] = [[] for _ in outlines]
    known = [row for row, outline in enumerate(outlines) if outline is not None]
    kept = [one_polygon(outlines[row] or (), limits[row]) for row in known]
    same = draws(masks.select(known), [[as_read(polygon, row)] for polygon, row in zip(kept, known, strict=True)])
    for row, polygon, fits in zip(known, kept, same, strict=True):
        if fits:
            joined[row] = polygon
    rest = [row for row, polygon in enumerate(joined) if not polygon]
    for row in rest:
        joined[row] = one_polygon(masks[row].to_polygons(), limits[row])
    return joined, sum(outlines[row] is not None for row in rest)


def one_polygon(parts: Sequence[Sequence[float]], limits: np.ndarray) -> list[float]:
    """The parts as one polygon: from the first corner of the first to each other part and the same way back.

    What is drawn twice changes nothing, by the even-odd rule that fills COCO's polygons and OpenCV's alike; but parts
    that overlap do not add up so.

    Args:
        parts: x, y, x, y ... of each.
        limits: width and height of the image; corners beyond go to its frame.

    Example:
        >>> one_polygon([[0, 0, 1, 0, 1, 1], [3, 3, 4, 3, 4, 9]], np.array([5, 5]))
        [0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 3.0, 3.0, 4.0, 3.0, 4.0, 5.0, 3.0, 3.0]
    """
    first, *others = (np.clip(np.array(part, np.float64).reshape(-1, 2), 0, limits) for part in parts)
    start = first[:1]
    pieces = [first]
    for part in others:
        pieces += [start, part, part[:1]]
    return np.concatenate(pieces).reshape(-1).tolist()

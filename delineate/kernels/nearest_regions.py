"""How far every pixel is from the borders of the two nearest regions, exactly, up to a reach.

First down the columns: two sweeps give every pixel the nearest border pixel of its own column, and the nearest one of
another region. No third is needed: a region that two others precede in one column is nearest or second nearest to no
pixel by way of that column. Then along the rows: each pixel looks at its neighbours' pairs, nearest columns first, and
stops where a column is further off than what it has found, or than the reach leaves room for.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen

_FAR = 1 << 30  # steps down a column without a border, and the square of a distance not found
_NONE = -1


@njit(nogil=True, cache=True)
def _borders(regions, borders):
    height, width = regions.shape
    for i in range(height):
        for j in range(width):
            region = regions[i, j]
            edge = (
                (i > 0 and regions[i - 1, j] != region)
                or (i + 1 < height and regions[i + 1, j] != region)
                or (j > 0 and regions[i, j - 1] != region)
                or (j + 1 < width and regions[i, j + 1] != region)
            )
            borders[i, j] = region if edge else _NONE


@njit(nogil=True, cache=True)
def _placed(near, near_region, next_, next_region, offer, region):
    """The two smallest offers of two distinct regions, with one more offer."""
    if region == near_region:
        return min(near, offer), near_region, next_, next_region
    if offer < near:
        return offer, region, near, near_region
    if region == next_region:
        return near, near_region, min(next_, offer), next_region
    if offer < next_:
        return near, near_region, offer, region
    return near, near_region, next_, next_region


@njit(nogil=True, cache=True)
def _sweep(borders, steps, owners):
    """Steps within the column to the two nearest regions, and which they are; ``_FAR`` and -1 where there are none."""
    height, width = borders.shape
    for downwards in (True, False):
        walked = np.full((2, width), _FAR, np.int64)
        met = np.full((2, width), _NONE, np.int64)
        for row in range(height):
            i = row if downwards else height - 1 - row
            for j in range(width):
                best = (min(walked[0, j] + 1, _FAR), met[0, j], min(walked[1, j] + 1, _FAR), met[1, j])
                if borders[i, j] >= 0:
                    best = _placed(best[0], best[1], best[2], best[3], np.int64(0), np.int64(borders[i, j]))
                walked[0, j], met[0, j], walked[1, j], met[1, j] = best
                if not downwards:
                    for k in range(2):
                        if owners[i, j, k] >= 0:
                            offer, owner = np.int64(steps[i, j, k]), np.int64(owners[i, j, k])
                            best = _placed(best[0], best[1], best[2], best[3], offer, owner)
                steps[i, j, 0], owners[i, j, 0], steps[i, j, 1], owners[i, j, 1] = best


@njit(nogil=True, cache=True)
def _search(steps, owners, reach, distances):
    height, width = steps.shape[:2]
    half = reach / 2.0
    for i in range(height):
        for j in range(width):
            best = (np.int64(_FAR), np.int64(_NONE), np.int64(_FAR), np.int64(_NONE))
            for off in range(width):
                # the nearer of the two lies within half the reach, or their sum is beyond it
                if off * off >= best[2] or off > reach or (off > half and best[0] > half * half):
                    break
                for side in range(2 if off else 1):
                    column = j + off if side else j - off
                    if column < 0 or column >= width:
                        continue
                    for k in range(2):
                        owner = np.int64(owners[i, column, k])
                        if owner < 0:
                            break
                        down = np.int64(steps[i, column, k])
                        best = _placed(best[0], best[1], best[2], best[3], down * down + off * off, owner)
            first, second = np.sqrt(np.float64(best[0])), np.sqrt(np.float64(best[2]))
            within = best[3] >= 0 and first + second <= reach
            distances[0, i, j] = first if within else np.inf
            distances[1, i, j] = second if within else np.inf


def two_nearest_distances(regions: np.ndarray, *, reach: float) -> np.ndarray:
    """The Euclidean distances to the borders of the nearest and the second nearest region.

    The border of a region is its pixels beside another region, or none, across a side; the image's frame makes none.
    From outside, the way to the border is the way to the region; from inside it is the way out of it.

    Args:
        regions: ``(H, W)`` numbers of regions from 0; negative outside all of them. Sides of at most 32,767 pixels.
        reach: pixels; where the two distances sum to more, neither is given. The time grows with it.

    Returns:
        ``(2, H, W)`` float64; infinite, both, beyond the reach, and where there are fewer than two regions.

    Example:
        >>> two_nearest_distances(np.array([[0, -1, -1, 1]]), reach=9)[:, 0].tolist()
        [[0.0, 1.0, 1.0, 0.0], [3.0, 2.0, 2.0, 3.0]]
    """
    regions = frozen(np.where(regions < 0, -1, regions), np.int32)
    borders = np.empty(regions.shape, np.int32)
    _borders(regions, borders)
    steps, owners = np.empty((*regions.shape, 2), np.int32), np.empty((*regions.shape, 2), np.int32)
    _sweep(frozen(borders), steps, owners)
    distances = np.empty((2, *regions.shape))
    _search(frozen(steps), frozen(owners), float(reach), distances)
    return distances

"""Small maps of probabilities pasted into a picture and cut at a threshold, straight to COCO's run lengths.

A map is resized bilinearly, so along one column of the picture the value is a straight line between the centres of two
rows of the map. Where both ends lie above the threshold, so do all pixels between; where neither does, none; only where
they differ are pixels looked at. The picture itself is never made: what grows with it is a list of a mask's runs.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.rle import _to_text
from delineate.kernels.rle_masks import _LONGEST, _grown, written


@njit(nogil=True, cache=True)
def _axis(origin, step, length, nodes):
    """Along one axis the pixels between the first and the last node: the first, and of each its node and share.

    In float32, as torch resizes: a pixel is inside by the same rounding.
    """
    low, high = (0.5 / step) + origin - 0.5, (nodes - 0.5) / step + origin - 0.5
    first = int(min(max(np.floor(low) - 1.0, 0.0), np.float64(length)))
    last = int(min(max(np.ceil(high) + 2.0, 0.0), np.float64(length)))
    lows, shares = np.empty(max(last - first, 0), np.int64), np.empty(max(last - first, 0), np.float32)
    begin, count = first, 0
    for pixel in range(first, last):
        place = np.float32(step) * np.float32(pixel + 0.5 - origin) - np.float32(0.5)
        if place <= np.float32(0.0):
            begin = pixel + 1
            continue
        if not place < np.float32(nodes - 1):
            break
        lows[count] = int(place)
        shares[count] = place - np.float32(lows[count])
        count += 1
    return begin, lows[:count], shares[:count]


@njit(nogil=True, cache=True)
def _inside(values, x, lows, across, y, starts, down, threshold, height, ends):
    """Where runs of ones start and end, in turn, in the column-wise picture; their number."""
    side = len(values)
    profile = np.zeros(side + 2, np.float32)  # of a column, between a row of zeros above and one below
    one, found = np.float32(1.0), 0
    for j in range(lows.size):
        left, right, share = lows[j] - 1, lows[j], across[j]
        for k in range(side):
            before = values[k, left] if left >= 0 else np.float32(0.0)
            behind = values[k, right] if right < side else np.float32(0.0)
            profile[k + 1] = before * (one - share) + behind * share
        corner = (x + j) * height + y
        for k in range(side + 1):
            first, last = starts[k], starts[k + 1]
            upper, lower = profile[k], profile[k + 1]
            if first == last or not (upper > threshold or lower > threshold):
                continue
            if not upper > threshold:
                while first < last and not upper * (one - down[first]) + lower * down[first] > threshold:
                    first += 1
            elif not lower > threshold:
                while first < last and not upper * (one - down[last - 1]) + lower * down[last - 1] > threshold:
                    last -= 1
            if first == last:
                continue
            if found > 0 and ends[found - 1] == corner + first:
                ends[found - 1] = corner + last
            else:
                ends[found], ends[found + 1] = corner + first, corner + last
                found += 2
    return found


@njit(nogil=True, cache=True)
def _paste(maps, grids, height, width, threshold, first, last, lengths):
    side, pixels = maps.shape[1], np.int64(height) * np.int64(width)
    text, used = np.empty(4096, np.uint8), 0
    ends, starts = np.empty(1024, np.int64), np.empty(side + 2, np.int64)
    for i in range(first, last):
        x, lows, across = _axis(grids[i, 0], grids[i, 2], width, side + 2)
        y, rows, down = _axis(grids[i, 1], grids[i, 3], height, side + 2)
        row = 0
        for k in range(side + 2):  # the pixels between two nodes stand together
            while row < rows.size and rows[row] < k:
                row += 1
            starts[k] = row
        ends = _grown(ends, 0, 2 * (side + 1) * lows.size + 1)
        found = _inside(maps[i], x, lows, across, y, starts, down, threshold, height, ends)
        if found == 0 or ends[found - 1] < pixels:
            ends[found] = pixels
            found += 1
        for run in range(found - 1, 0, -1):
            ends[run] -= ends[run - 1]
        text = _grown(text, used, used + _LONGEST * found)
        lengths[i] = _to_text(ends[:found], text[used:])
        used += lengths[i]
    return text[:used]


def pasted_texts(
    maps: np.ndarray, grids: np.ndarray, size: tuple[int, int], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """COCO's texts back to back, and their offsets, of the pixels where a map's value is above the threshold.

    The centre of pixel p lies at ``step * (p + 0.5 - origin) - 0.5`` of an axis of nodes, of which 0 and ``S + 1`` are
    zeros around the map's S; beyond them there is nothing either.

    Args:
        maps: ``(N, S, S)`` float32; NaN is never inside.
        grids: ``(N, 4)`` float64 origin x, origin y, step x, step y of each; finite, steps above 0.
        size: (height, width) of the picture, less than 2**31 pixels.
        threshold: 0 or more.

    Example:
        >>> grid = np.array([[0.0, 0.0, 1.0, 1.0]])  # a node a pixel
        >>> pasted_texts(np.ones((1, 1, 1), np.float32), grid, (3, 3), 0.5)[0].tobytes()
        b'414'
    """
    maps, grids = frozen(maps, np.float32), frozen(grids, np.float64)
    height, width, limit = int(size[0]), int(size[1]), np.float32(threshold)

    def paste(i: int, j: int, lengths: np.ndarray) -> np.ndarray:
        return _paste(maps, grids, height, width, limit, i, j, lengths)

    nodes = maps.shape[1] + 2
    across = np.minimum(nodes / grids[:, 2], width)
    return written(paste, np.ceil(across * nodes).astype(np.int64))

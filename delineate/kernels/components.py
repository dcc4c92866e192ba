"""Connected components of score maps, at one level or at a hundred: their sizes and their boxes.

Pixels are added from the highest level down and joined to the neighbours that are already there, so that the components
of every level come out of one pass over the map instead of one a level.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen


@njit(nogil=True, cache=True)
def _root(parents, pixel):
    while parents[pixel] != pixel:
        parents[pixel] = parents[parents[pixel]]
        pixel = parents[pixel]
    return pixel


@njit(nogil=True, cache=True)
def _overlap(box, truths):
    """The largest IoU of a box of whole pixels and any true box."""
    best = 0.0
    for t in range(truths.shape[0]):
        width = min(box[2], truths[t, 2]) - max(box[0], truths[t, 0])
        height = min(box[3], truths[t, 3]) - max(box[1], truths[t, 1])
        if width > 0.0 and height > 0.0:
            shared = width * height
            area = (box[2] - box[0]) * (box[3] - box[1])
            best = max(best, shared / (area + (truths[t, 2] - truths[t, 0]) * (truths[t, 3] - truths[t, 1]) - shared))
    return best


@njit(nogil=True, cache=True)
def _grow(levels, count, truths, largest, best):
    height, width = levels.shape
    flat = levels.reshape(-1)
    starts = np.zeros(count + 3, np.int64)
    for i in range(flat.size):
        starts[count - flat[i] + 1] += 1  # the highest level first
    for k in range(1, starts.size):
        starts[k] += starts[k - 1]
    order, places = np.empty(flat.size, np.int64), starts.copy()
    for i in range(flat.size):
        place = count - flat[i]
        order[places[place]] = i
        places[place] += 1

    parents = np.full(flat.size, -1, np.int64)  # -1: not there yet; a root is the first pixel of its component
    sizes = np.empty(flat.size, np.int64)
    boxes = np.empty((flat.size, 4), np.float64)
    roots, alive = np.empty(flat.size, np.int64), 0
    for step in range(count):
        for i in range(starts[step], starts[step + 1]):
            pixel = order[i]
            y, x = pixel // width, pixel % width
            parents[pixel], sizes[pixel] = pixel, 1
            boxes[pixel, 0], boxes[pixel, 1], boxes[pixel, 2], boxes[pixel, 3] = x, y, x + 1, y + 1
            roots[alive] = pixel
            alive += 1
            for near_y in range(max(y - 1, 0), min(y + 2, height)):
                for near_x in range(max(x - 1, 0), min(x + 2, width)):
                    near = near_y * width + near_x
                    if parents[near] < 0:
                        continue
                    a, b = _root(parents, pixel), _root(parents, near)
                    if a == b:
                        continue
                    a, b = min(a, b), max(a, b)
                    parents[b] = a
                    sizes[a] += sizes[b]
                    boxes[a, 0], boxes[a, 1] = min(boxes[a, 0], boxes[b, 0]), min(boxes[a, 1], boxes[b, 1])
                    boxes[a, 2], boxes[a, 3] = max(boxes[a, 2], boxes[b, 2]), max(boxes[a, 3], boxes[b, 3])
        kept, most = 0, -1
        for i in range(alive):
            root = roots[i]
            if parents[root] != root:
                continue
            roots[kept] = root
            kept += 1
            overlap = _overlap(boxes[root], truths)
            if overlap > best[count - 1 - step]:
                best[count - 1 - step] = overlap
            if most < 0 or sizes[root] > sizes[most] or (sizes[root] == sizes[most] and root < most):
                most = root
                largest[count - 1 - step] = overlap
        alive = kept
    return boxes[roots[:alive]], sizes[roots[:alive]]


def component_boxes(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box and the size of every connected component; pixels that touch at a corner are connected.

    Args:
        mask: (H, W); every value but 0 is inside.

    Returns:
        (C, 4) float64 x1, y1, x2, y2, the right and bottom edges behind the last pixel; and (C,) int64 pixels; in order
        of each component's first pixel, row by row.
    """
    none = np.zeros(1)
    return _grow(frozen(mask != 0, np.int64), 1, frozen(np.zeros((0, 4)), np.float64), none, none.copy())


def largest_component_box(mask: np.ndarray) -> np.ndarray | None:
    """The (4,) box of the component with the most pixels, of equal ones the first; None for an empty mask."""
    boxes, sizes = component_boxes(mask)
    return boxes[sizes.argmax()] if len(sizes) else None


def threshold_box_ious(
    score_map: np.ndarray, thresholds: np.ndarray, truths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How well the components of a score map, cut at each threshold, meet the true boxes.

    Args:
        score_map: (H, W) without NaN.
        thresholds: (T,) ascending; a pixel is in where its score is at least the threshold.
        truths: (N, 4) x1, y1, x2, y2.

    Returns:
        For each threshold the IoU of the largest component's box with the true box it meets best, and the best IoU of
        any component's box; float64, 0 where no pixel is in.
    """
    levels = np.searchsorted(thresholds, score_map.reshape(-1), side="right").reshape(score_map.shape)
    largest, best = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    _grow(frozen(levels, np.int64), len(thresholds), frozen(truths, np.float64), largest, best)
    return largest, best

"""Matching of class boundaries within a tolerance, for one image.

Boundary pixels are few, so instead of a distance transform a class (11 classes: 22 transforms of the whole image) each
boundary pixel looks around itself, nearest offsets first, and stops at the first match.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_NONE = -1  # not a boundary pixel; labels are at least 0
_IGNORED = -2


@njit(nogil=True, cache=True)
def _boundaries(labels, out):
    height, width = labels.shape
    for i in range(height):
        for j in range(width):
            label = labels[i, j]
            edge = (
                (i > 0 and labels[i - 1, j] != label and labels[i - 1, j] != _IGNORED)
                or (i + 1 < height and labels[i + 1, j] != label and labels[i + 1, j] != _IGNORED)
                or (j > 0 and labels[i, j - 1] != label and labels[i, j - 1] != _IGNORED)
                or (j + 1 < width and labels[i, j + 1] != label and labels[i, j + 1] != _IGNORED)
            )
            out[i, j] = label if edge and label != _IGNORED else _NONE


@njit(nogil=True, cache=True)
def _found(labels, label, i, j, offsets):
    height, width = labels.shape
    for k in range(offsets.shape[0]):
        y, x = i + offsets[k, 0], j + offsets[k, 1]
        if 0 <= y < height and 0 <= x < width and labels[y, x] == label:
            return True
    return False


@njit(nogil=True, cache=True)
def _match(target, target_edges, predicted_edges, offsets, unknown_offsets, counts):
    height, width = target_edges.shape
    for i in range(height):
        for j in range(width):
            label = target_edges[i, j]
            if label != _NONE:
                counts[label, 0] += 1
                if _found(predicted_edges, label, i, j, offsets):
                    counts[label, 1] += 1
            label = predicted_edges[i, j]
            if label != _NONE and not _found(target, _IGNORED, i, j, unknown_offsets):
                counts[label, 2] += 1
                if _found(target_edges, label, i, j, offsets):
                    counts[label, 3] += 1


def disk_offsets(radius: float) -> np.ndarray:
    """``(N, 2)`` int32 offsets (row, column) with a Euclidean length of at most ``radius``, nearest first."""
    reach = int(radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    squared = rows**2 + columns**2
    inside = squared <= radius**2
    order = np.argsort(squared[inside], kind="stable")
    return np.stack([rows[inside][order], columns[inside][order]], axis=1).astype(np.int32)


def class_boundaries(labels: np.ndarray) -> np.ndarray:
    """The label at every pixel with a 4-neighbour of another class, -1 elsewhere.

    Args:
        labels: ``(H, W)``, at least 0; -2 marks pixels to look away from, which make no boundary with anything.

    Returns:
        ``(H, W)`` int32. The frame of the image is no boundary.
    """
    labels = np.ascontiguousarray(labels, np.int32)
    edges = np.empty_like(labels)
    _boundaries(labels, edges)
    return edges


def boundary_counts(
    target: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_index: int, tolerance: float
) -> np.ndarray:
    """How many boundary pixels of each class have a partner of that class within ``tolerance``.

    Args:
        target: ``(H, W)`` true labels; outside ``0 .. num_classes - 1``, or ``ignore_index``: unknown.
        prediction: ``(H, W)`` predicted labels; outside the classes: no class, but still something to border on.
        num_classes: rows of the result.
        ignore_index: the target label to look away from.
        tolerance: Euclidean distance in pixels, inclusive.

    Returns:
        ``(num_classes, 4)`` int64: target boundary pixels, those matched by the prediction, predicted boundary pixels,
        those matched by the target. The truth makes no boundary with unknown pixels, and predicted boundary pixels
        within ``tolerance`` (at least 1 pixel) of an unknown one are left out: what they might match may lie there.
    """
    known = (target >= 0) & (target < num_classes) & (target != ignore_index)
    target, prediction = target.astype(np.int32), prediction.astype(np.int32)
    target[~known] = _IGNORED
    inside = (prediction >= 0) & (prediction < num_classes)
    edges = class_boundaries(np.where(inside, prediction, num_classes))
    edges[edges == num_classes] = _NONE
    counts = np.zeros((num_classes, 4), np.int64)
    unknown_offsets = disk_offsets(0 if known.all() else max(tolerance, 1))
    _match(target, class_boundaries(target), edges, disk_offsets(tolerance), unknown_offsets, counts)
    return counts

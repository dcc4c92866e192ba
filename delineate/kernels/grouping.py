"""Objects of many images put in order: a group for each class and image, the most confident first."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def _count_sort(keys, order, starts, out):
    starts[:] = 0
    for i in range(keys.size):
        starts[keys[i] + 1] += 1
    for k in range(1, starts.size):
        starts[k] += starts[k - 1]
    for i in range(order.size):
        row = order[i]
        key = keys[row]
        out[starts[key]] = row
        starts[key] += 1


@njit(nogil=True, cache=True)
def _merge(first, second, keys, first_starts, second_starts):
    a, b, groups = 0, 0, 0
    while a < first.size or b < second.size:
        if b == second.size or (a < first.size and first[a] <= second[b]):
            key = first[a]
        else:
            key = second[b]
        keys[groups], first_starts[groups], second_starts[groups] = key, a, b
        while a < first.size and first[a] == key:
            a += 1
        while b < second.size and second[b] == key:
            b += 1
        groups += 1
    first_starts[groups], second_starts[groups] = a, b
    return groups


def grouped_order(labels: np.ndarray, images: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
    """Rows in order of (label, image, falling score); equal ones stay in their order.

    Args:
        labels: ``(N,)`` int64, at least 0.
        images: ``(N,)`` int64, at least 0.
        scores: ``(N,)`` float64 without NaN, or None to keep the order within a group.

    Returns:
        ``(N,)`` int64.
    """
    count = len(labels)
    order = np.arange(count, dtype=np.int64) if scores is None else np.argsort(-scores, kind="stable")
    if count == 0:
        return order
    for keys in (images, labels):  # the last key sorted by counts most, the ones before break its ties
        out = np.empty(count, np.int64)
        _count_sort(keys, order, np.empty(int(keys.max()) + 2, np.int64), out)
        order = out
    return order


def merged_groups(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The groups that two ascending int64 key columns fall into together.

    Returns:
        The ``(G,)`` distinct keys, and for each column ``(G + 1,)`` where its rows of each group start.
    """
    most = len(first) + len(second)
    keys = np.empty(most, np.int64)
    first_starts, second_starts = np.empty(most + 1, np.int64), np.empty(most + 1, np.int64)
    groups = _merge(first, second, keys, first_starts, second_starts)
    return keys[:groups].copy(), first_starts[: groups + 1].copy(), second_starts[: groups + 1].copy()


def work_pieces(starts: np.ndarray, pieces: int) -> list[tuple[int, int]]:
    """Ranges of groups (first, behind the last) of about equal work.

    Args:
        starts: ``(G + 1,)`` where each group's work starts, ascending.
        pieces: how many ranges to aim at.
    """
    groups = len(starts) - 1
    if groups == 0:
        return []
    goals = np.linspace(starts[0], starts[-1], pieces + 1)[1:-1]
    cuts = np.unique(np.concatenate([[0], np.searchsorted(starts, goals), [groups]]))
    return [(int(a), int(b)) for a, b in pairwise(cuts)]

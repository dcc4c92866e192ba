"""Anchors and true boxes brought together: best overlaps without the matrix of all of them, and exact pairings.

An image has up to 300,000 anchors. Overlaps are computed anchor by anchor, and once more where they are needed again,
so that memory grows with the anchors and not with anchors times objects. They are float32, with torchvision's order of
operations: ties fall as they do there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.threads import run_pieces, thread_count

_SMALL = 1 << 16  # pairs below which a second thread costs more than it brings
_NOTHING = np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def _row(anchors, i, truths, row):
    """The overlap of one anchor with every truth; ``truths`` holds left, top, right, bottom and area side by side."""
    left, top, right, bottom = anchors[i, 0], anchors[i, 1], anchors[i, 2], anchors[i, 3]
    area = max(right - left, _NOTHING) * max(bottom - top, _NOTHING)
    for j in range(row.size):
        width = max(min(right, truths[2, j]) - max(left, truths[0, j]), _NOTHING)
        height = max(min(bottom, truths[3, j]) - max(top, truths[1, j]), _NOTHING)
        shared = width * height
        union = area + truths[4, j] - shared
        row[j] = shared / union if union > _NOTHING else _NOTHING


@njit(nogil=True, cache=True, error_model="numpy")
def _best(anchors, truths, first, last, overlaps, matches, tops, top_anchors):
    row = np.empty(truths.shape[1], np.float32)
    for i in range(first, last):
        _row(anchors, i, truths, row)
        most, match = row[0], 0
        for j in range(row.size):
            if row[j] > most:
                most, match = row[j], j
            if row[j] > tops[j]:
                tops[j], top_anchors[j] = row[j], i
        overlaps[i], matches[i] = most, match


@njit(nogil=True, cache=True, error_model="numpy")
def _reach(anchors, truths, first, last, goals, reached):
    row = np.empty(truths.shape[1], np.float32)
    for i in range(first, last):
        _row(anchors, i, truths, row)
        for j in range(row.size):
            if row[j] == goals[j]:
                reached[i] = True


@njit(nogil=True, cache=True, error_model="numpy")
def _pair_greedily(anchors, truths, tops, top_anchors, pairs):
    taken = np.zeros(anchors.shape[0], np.bool_)
    waiting = np.ones(tops.size, np.bool_)
    overlap = np.empty(1, np.float32)
    while True:
        best = -1
        for j in range(tops.size):
            if not waiting[j] or tops[j] <= _NOTHING:
                continue
            if best < 0 or tops[j] > tops[best] or (tops[j] == tops[best] and top_anchors[j] < top_anchors[best]):
                best = j
        if best < 0:
            return
        if not taken[top_anchors[best]]:
            pairs[best] = top_anchors[best]
            taken[top_anchors[best]] = True
            waiting[best] = False
            continue
        tops[best] = _NOTHING  # somebody with a larger overlap has it: what is the best of those left?
        for i in range(anchors.shape[0]):
            if not taken[i]:
                _row(anchors, i, truths[:, best : best + 1], overlap)
                if overlap[0] > tops[best]:
                    tops[best], top_anchors[best] = overlap[0], i


@njit(nogil=True, cache=True)
def _pair_cheaply(costs, owners):
    rows, columns = costs.shape
    row_prices, column_prices = np.zeros(rows), np.zeros(columns)
    shortest = np.empty(columns)  # way from the new row to each column, at reduced costs
    previous = np.empty(columns, np.int64)  # column before it on that way, -1 at its start
    done = np.empty(columns, np.bool_)
    for start in range(rows):
        shortest[:] = np.inf
        done[:] = False
        row, here, length = start, -1, 0.0
        while True:
            least, there = np.inf, -1
            for column in range(columns):
                if done[column]:
                    continue
                through = length + costs[row, column] - row_prices[row] - column_prices[column]
                if through < shortest[column]:
                    shortest[column], previous[column] = through, here
                if shortest[column] < least:
                    least, there = shortest[column], column
            length, here = least, there
            done[here] = True
            if owners[here] < 0:
                break
            row = owners[here]
        row_prices[start] += length
        for column in range(columns):
            if done[column] and column != here:
                row_prices[owners[column]] += length - shortest[column]
                column_prices[column] -= length - shortest[column]
        while previous[here] >= 0:
            owners[here] = owners[previous[here]]
            here = previous[here]
        owners[here] = start


def best_overlaps(anchors: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each anchor's best truth and each truth's best anchor, by IoU; the first of equals.

    Args:
        anchors: (A, 4) x1, y1, x2, y2; a box whose corners are swapped is empty.
        truths: (T, 4), at least one.

    Returns:
        (A,) float32 and (A,) int64, the overlap with the best truth and which it is; (T,) float32 and (T,) int64, the
        overlap with the best anchor and which it is, -1 where no anchor overlaps.
    """
    anchors, columns = frozen(anchors, np.float32), _columns(truths)
    count = columns.shape[1]
    overlaps, matches = np.empty(len(anchors), np.float32), np.empty(len(anchors), np.int64)

    def best(piece: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        tops, top_anchors = np.zeros(count, np.float32), np.full(count, -1, np.int64)
        _best(anchors, columns, *piece, overlaps, matches, tops, top_anchors)
        return tops, top_anchors

    tops, top_anchors = np.zeros(count, np.float32), np.full(count, -1, np.int64)
    for piece_tops, piece_anchors in run_pieces(best, _pieces(len(anchors), count)):
        better = piece_tops > tops
        tops[better], top_anchors[better] = piece_tops[better], piece_anchors[better]
    return overlaps, matches, tops, top_anchors


def reaching_anchors(anchors: np.ndarray, truths: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Which anchors overlap some truth by exactly its goal.

    Args:
        anchors: (A, 4).
        truths: (T, 4), at least one.
        goals: (T,) float32 of :func:`best_overlaps`; NaN is reached by none.

    Returns:
        (A,) bool.
    """
    anchors, columns, goals = frozen(anchors, np.float32), _columns(truths), frozen(goals, np.float32)
    reached = np.zeros(len(anchors), np.bool_)
    run_pieces(lambda piece: _reach(anchors, columns, *piece, goals, reached), _pieces(len(anchors), columns.shape[1]))
    return reached


def greedy_pairs(anchors: np.ndarray, truths: np.ndarray, tops: np.ndarray, top_anchors: np.ndarray) -> np.ndarray:
    """An anchor for each truth, no anchor twice: the pair with the largest overlap first, then the next among the rest.

    Args:
        anchors: (A, 4).
        truths: (T, 4), at least one.
        tops: (T,) overlaps of :func:`best_overlaps`.
        top_anchors: (T,) their anchors.

    Returns:
        (T,) int64, -1 for a truth that overlaps none of the anchors that are left for it.
    """
    pairs = np.full(len(tops), -1, np.int64)
    tops, top_anchors = np.array(tops, np.float32), np.array(top_anchors, np.int64)
    _pair_greedily(frozen(anchors, np.float32), _columns(truths), tops, top_anchors, pairs)
    return pairs


def cheapest_pairs(costs: np.ndarray) -> np.ndarray:
    """The pairing of all rows with different columns that costs least (the linear assignment problem).

    Shortest augmenting paths: Jonker, Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
    assignment problems", Computing 1987; at most rows * rows * columns steps.

    Args:
        costs: (R, C) finite, R at most C.

    Returns:
        (C,) int64, the row of each column, -1 for none.
    """
    owners = np.full(costs.shape[1], -1, np.int64)
    _pair_cheaply(frozen(costs, np.float64), owners)
    return owners


def _columns(truths: np.ndarray) -> np.ndarray:
    """Coordinates and area side by side, so that the loop over truths has no branch and uses vector instructions."""
    truths = np.asarray(truths, np.float32)
    sides = np.maximum(truths[:, 2:] - truths[:, :2], 0)
    return frozen(np.concatenate((truths.T, (sides[:, 0] * sides[:, 1])[None])), np.float32)


def _pieces(rows: int, columns: int) -> list[tuple[int, int]]:
    threads = thread_count() if rows * columns >= 2 * _SMALL else 1
    step = max(1, -(-rows // threads))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]

"""Precision at given recalls, for every class, area range and threshold."""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.grouping import work_pieces
from delineate.kernels.matching import IGNORED, TRUE
from delineate.kernels.threads import run_pieces, thread_count

_EPSILON = np.spacing(1)


@njit(nogil=True, cache=True)
def _accumulate(
    classes,
    starts,
    scores,
    ranks,
    states,
    positives,
    recall_thresholds,
    max_detections,
    precision,
    threshold_scores,
    recall,
):
    most = max_detections[max_detections.size - 1]
    for k in range(classes[0], classes[1]):
        begin, end = starts[k], starts[k + 1]
        order = np.argsort(-scores[begin:end], kind="mergesort")
        found = np.empty(order.size, np.float64)  # precision at each true positive
        at_score = np.empty(order.size, np.float64)
        for a in range(states.shape[0]):
            total = positives[k, a]
            if total == 0:
                continue
            for t in range(states.shape[1]):
                row = states[a, t]
                hits, counted = 0, 0
                for m in range(max_detections.size):
                    recall[a, t, k, m] = 0.0
                for j in range(order.size):
                    d = begin + order[j]
                    state = row[d]
                    if state == IGNORED or ranks[d] >= most:
                        continue
                    counted += 1
                    if state == TRUE:
                        found[hits] = (hits + 1) / (counted + _EPSILON)
                        at_score[hits] = scores[d]
                        hits += 1
                        for m in range(max_detections.size):
                            if ranks[d] < max_detections[m]:
                                recall[a, t, k, m] += 1.0
                for m in range(max_detections.size):
                    recall[a, t, k, m] /= total
                for j in range(hits - 1, 0, -1):
                    found[j - 1] = max(found[j - 1], found[j])
                j = 0
                for r in range(recall_thresholds.size):
                    while j < hits and (j + 1) / total < recall_thresholds[r]:
                        j += 1
                    precision[a, t, k, r] = found[j] if j < hits else 0.0
                    threshold_scores[a, t, k, r] = at_score[j] if j < hits else 0.0


def accumulate(
    starts: np.ndarray,
    scores: np.ndarray,
    ranks: np.ndarray,
    states: np.ndarray,
    positives: np.ndarray,
    recall_thresholds: np.ndarray,
    max_detections: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interpolated precision and final recall.

    Args:
        starts: ``(K + 1,)`` where the detections of each class start; those of a class are in order of (image, falling
            score).
        scores: ``(M,)``.
        ranks: ``(M,)`` place of each within its image and class, from 0.
        states: ``(A, T, M)`` uint8, see :func:`delineate.kernels.matching.match_groups`.
        positives: ``(K, A)`` truths that count.
        recall_thresholds: ``(R,)`` ascending.
        max_detections: ``(D,)`` how many of an image and class count, ascending; the last limits the precision.

    Returns:
        Precision and the score it is reached at, both ``(A, T, K, R)``, and recall ``(A, T, K, D)``; NaN for a class
        without truths.
    """
    areas, thresholds, _ = states.shape
    classes = len(starts) - 1
    precision = np.full((areas, thresholds, classes, len(recall_thresholds)), np.nan)
    threshold_scores = np.full_like(precision, np.nan)
    recall = np.full((areas, thresholds, classes, len(max_detections)), np.nan)

    def piece(part: tuple[int, int]) -> None:
        _accumulate(
            np.array(part, np.int64),
            starts,
            scores,
            ranks,
            states,
            positives,
            recall_thresholds,
            max_detections,
            precision,
            threshold_scores,
            recall,
        )

    run_pieces(piece, work_pieces(starts, 4 * thread_count()))
    return precision, threshold_scores, recall

"""Object keypoint similarity of groups of predicted and true persons."""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.grouping import work_pieces
from delineate.kernels.threads import run_pieces, thread_count

_EPSILON = np.spacing(1)


@njit(nogil=True, cache=True, error_model="numpy")
def _similarities(
    groups,
    detections,
    truths,
    boxes,
    areas,
    variances,
    detection_order,
    detection_starts,
    truth_order,
    truth_starts,
    out_starts,
    out,
):
    points = variances.size
    for g in range(groups[0], groups[1]):
        place = out_starts[g]
        for i in range(detection_starts[g], detection_starts[g + 1]):
            d = detection_order[i]
            for j in range(truth_starts[g], truth_starts[g + 1]):
                t = truth_order[j]
                labelled = 0
                for p in range(points):
                    labelled += truths[t, p, 2] > 0
                left, top = boxes[t, 0] - boxes[t, 2], boxes[t, 1] - boxes[t, 3]
                right, bottom = boxes[t, 0] + boxes[t, 2] * 2, boxes[t, 1] + boxes[t, 3] * 2
                total = 0.0
                for p in range(points):
                    x, y = detections[d, p, 0], detections[d, p, 1]
                    if labelled > 0:
                        if truths[t, p, 2] <= 0:
                            continue
                        dx, dy = x - truths[t, p, 0], y - truths[t, p, 1]
                    else:  # nothing to compare with: how far the point lies outside the doubled box
                        dx = max(0.0, left - x) + max(0.0, x - right)
                        dy = max(0.0, top - y) + max(0.0, y - bottom)
                    total += np.exp(-((dx * dx + dy * dy) / variances[p] / (areas[t] + _EPSILON) / 2))
                out[place] = total / (labelled if labelled > 0 else points)
                place += 1


def group_similarities(
    detections: np.ndarray,
    truths: np.ndarray,
    truth_boxes: np.ndarray,
    truth_areas: np.ndarray,
    sigmas: np.ndarray,
    detection_order: np.ndarray,
    detection_starts: np.ndarray,
    truth_order: np.ndarray,
    truth_starts: np.ndarray,
    out_starts: np.ndarray,
) -> np.ndarray:
    """Object keypoint similarity of every detection with every truth of its group.

    Args:
        detections: ``(N, P, 3)`` x, y, score.
        truths: ``(M, P, 3)`` x, y, visibility (0: not labelled).
        truth_boxes: ``(M, 4)`` x, y, width, height.
        truth_areas: ``(M,)``.
        sigmas: ``(P,)`` of the annotators, as a share of the object's size.
        detection_order: rows of ``detections``, group after group.
        detection_starts: ``(G + 1,)``.
        truth_order: rows of ``truths``, group after group.
        truth_starts: ``(G + 1,)``.
        out_starts: ``(G + 1,)`` where each group's block starts in the result.

    Returns:
        Flat float64, a row a detection and a column a truth within each block.
    """
    out = np.empty(int(out_starts[-1]), np.float64)
    variances = (sigmas * 2) ** 2

    def piece(groups: tuple[int, int]) -> None:
        _similarities(
            np.array(groups, np.int64),
            detections,
            truths,
            truth_boxes,
            truth_areas,
            variances,
            detection_order,
            detection_starts,
            truth_order,
            truth_starts,
            out_starts,
            out,
        )

    run_pieces(piece, work_pieces(out_starts, 4 * thread_count()))
    return out

"""Pascal VOC's matching: each detection looks at the one true box it overlaps most."""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.matching import FALSE, IGNORED, TRUE


@njit(nogil=True, cache=True, error_model="numpy")
def _match(
    detections,
    truths,
    difficult,
    detection_order,
    detection_starts,
    truth_order,
    truth_starts,
    thresholds,
    edge,
    taken,
    outcomes,
):
    for group in range(detection_starts.size - 1):
        for i in range(detection_starts[group], detection_starts[group + 1]):
            d = detection_order[i]
            left, top, right, bottom = detections[d, 0], detections[d, 1], detections[d, 2], detections[d, 3]
            area = (right - left + edge) * (bottom - top + edge)
            best, row = -1.0, -1
            for j in range(truth_starts[group], truth_starts[group + 1]):
                t = truth_order[j]
                width = min(right, truths[t, 2]) - max(left, truths[t, 0]) + edge
                height = min(bottom, truths[t, 3]) - max(top, truths[t, 1]) + edge
                if width > 0.0 and height > 0.0:
                    shared = width * height
                    area2 = (truths[t, 2] - truths[t, 0] + edge) * (truths[t, 3] - truths[t, 1] + edge)
                    iou = shared / (area + area2 - shared)
                    if iou > best:  # of equal ones the first
                        best, row = iou, t
            for k in range(thresholds.size):
                if best < thresholds[k]:
                    outcomes[d, k] = FALSE
                elif difficult[row]:
                    outcomes[d, k] = IGNORED
                elif taken[row, k]:
                    outcomes[d, k] = FALSE
                else:
                    taken[row, k] = True
                    outcomes[d, k] = TRUE


def match_voc(
    detections: np.ndarray,
    truths: np.ndarray,
    difficult: np.ndarray,
    detection_order: np.ndarray,
    detection_starts: np.ndarray,
    truth_order: np.ndarray,
    truth_starts: np.ndarray,
    thresholds: np.ndarray,
    edge: float,
) -> np.ndarray:
    """What becomes of each detection at each threshold.

    Args:
        detections: (D, 4) x1, y1, x2, y2.
        truths: (T, 4).
        difficult: (T,); a detection that falls on such a truth is neither right nor wrong.
        detection_order: rows of detections, group by group (an image and a class), the most confident first.
        detection_starts: (G + 1,) where each group starts in it.
        truth_order: rows of truths, group by group.
        truth_starts: (G + 1,).
        thresholds: (K,) the least IoU, above 0.
        edge: added to each width and height: 1 where corners name pixels that belong to the box, else 0.

    Returns:
        (D, K) uint8: 0 wrong, 1 right, 2 ignored.
    """
    outcomes = np.empty((len(detections), len(thresholds)), np.uint8)
    _match(
        frozen(detections, np.float64),
        frozen(truths, np.float64),
        frozen(difficult, np.bool_),
        frozen(detection_order, np.int64),
        frozen(detection_starts, np.int64),
        frozen(truth_order, np.int64),
        frozen(truth_starts, np.int64),
        frozen(thresholds, np.float64),
        float(edge),
        np.zeros((len(truths), len(thresholds)), np.bool_),
        outcomes,
    )
    return outcomes

"""Why each false positive is one, and pairs of detections and truths taken by overlap alone."""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.grouping import work_pieces
from delineate.kernels.matching import FALSE, IGNORED
from delineate.kernels.threads import run_pieces, thread_count

# what a false positive turns out to be, beside kernels.matching's TRUE and IGNORED
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = 3, 4, 5, 6, 7


@njit(nogil=True, cache=True)
def _explain(
    images,
    ious,
    iou_starts,
    detection_starts,
    truth_starts,
    detection_labels,
    truth_labels,
    truth_silent,
    truth_taken,
    foreground,
    background,
    kinds,
    targets,
    repairs,
):
    for image in range(images[0], images[1]):
        first, last = truth_starts[image], truth_starts[image + 1]
        row = iou_starts[image] - first
        for d in range(detection_starts[image], detection_starts[image + 1]):
            if kinds[d] == FALSE:
                same, other, silent = 0.0, 0.0, False
                same_truth, other_truth = -1, -1
                for t in range(first, last):
                    iou = ious[row + t]
                    if truth_silent[t]:
                        silent |= truth_labels[t] == detection_labels[d] and iou >= foreground
                    elif truth_labels[t] == detection_labels[d]:
                        if iou > same:
                            same, same_truth = iou, t
                    elif iou > other:
                        other, other_truth = iou, t
                if silent:
                    kinds[d] = IGNORED
                elif background <= same <= foreground:
                    kinds[d], targets[d] = LOCALISATION, same_truth
                elif other >= foreground:
                    kinds[d], targets[d] = CLASSIFICATION, other_truth
                elif same > foreground:
                    kinds[d], targets[d] = DUPLICATE, same_truth
                elif other <= background:
                    kinds[d] = BACKGROUND
                else:
                    kinds[d], targets[d] = BOTH, other_truth
                if kinds[d] == LOCALISATION or kinds[d] == CLASSIFICATION:
                    target = targets[d]
                    if not truth_taken[target] and repairs[target] < 0:  # scores fall: the first is the best
                        repairs[target] = d
            row += last - first


@njit(nogil=True, cache=True)
def _take(detections, truths, detection_pairs, truth_pairs):
    for p in range(detections.size):
        d, t = detections[p], truths[p]
        if detection_pairs[d] < 0 and truth_pairs[t] < 0:
            detection_pairs[d], truth_pairs[t] = t, d


def explain_false_positives(
    ious: np.ndarray,
    iou_starts: np.ndarray,
    detection_starts: np.ndarray,
    truth_starts: np.ndarray,
    detection_labels: np.ndarray,
    truth_labels: np.ndarray,
    truth_silent: np.ndarray,
    truth_taken: np.ndarray,
    states: np.ndarray,
    *,
    foreground: float,
    background: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The error that each unmatched detection makes, image by image; classes may differ.

    All rows are in the order of the images; an image's detections have falling scores.

    Args:
        ious: flat; the block of image i starts at ``iou_starts[i]``, a row a detection and a column a truth.
        iou_starts: ``(I + 1,)``.
        detection_starts: ``(I + 1,)``.
        truth_starts: ``(I + 1,)``.
        detection_labels: ``(M,)``.
        truth_labels: ``(N,)``.
        truth_silent: ``(N,)`` truths on which nothing is an error.
        truth_taken: ``(N,)`` truths that a true positive found.
        states: ``(M,)`` of :mod:`delineate.kernels.matching`.
        foreground: the overlap from which a detection is on an object.
        background: the overlap up to which it is on nothing.

    Returns:
        ``(M,)`` uint8, ``states`` with every false positive replaced by its error; ``(M,)`` int64, the truth that it
        aimed at, -1 where there is none; ``(N,)`` int64, for each free truth the most confident detection that would
        find it if its class or its place were right, -1 for none.
    """
    kinds = np.array(states, np.uint8)
    targets, repairs = np.full(len(kinds), -1, np.int64), np.full(len(truth_labels), -1, np.int64)
    starts = [frozen(column, np.int64) for column in (iou_starts, detection_starts, truth_starts)]
    labels = [frozen(column, np.int64) for column in (detection_labels, truth_labels)]
    silent, taken = frozen(truth_silent, np.bool_), frozen(truth_taken, np.bool_)
    overlaps = frozen(ious, np.float64)

    def explain(images: tuple[int, int]) -> None:
        _explain(
            np.array(images, np.int64),
            overlaps,
            starts[0],
            starts[1],
            starts[2],
            labels[0],
            labels[1],
            silent,
            taken,
            float(foreground),
            float(background),
            kinds,
            targets,
            repairs,
        )

    run_pieces(explain, work_pieces(starts[0] + starts[1], thread_count()))
    return kinds, targets, repairs


def taken_pairs(
    detections: np.ndarray, truths: np.ndarray, num_detections: int, num_truths: int
) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one pairs, taken in the order given: a pair counts when neither of its two has been taken before.

    Args:
        detections: ``(P,)`` rows, the best pair first.
        truths: ``(P,)`` rows.
        num_detections: how many detections there are.
        num_truths: how many truths there are.

    Returns:
        ``(num_detections,)`` int64 the truth of each detection, and ``(num_truths,)`` int64 the detection of each
        truth; -1 for none.
    """
    detection_pairs, truth_pairs = np.full(num_detections, -1, np.int64), np.full(num_truths, -1, np.int64)
    _take(frozen(detections, np.int64), frozen(truths, np.int64), detection_pairs, truth_pairs)
    return detection_pairs, truth_pairs

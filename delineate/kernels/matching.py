"""Predicted objects paired with true ones, greedily from the most confident down, as the COCO API does it."""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.grouping import work_pieces
from delineate.kernels.threads import run_pieces, thread_count

FALSE, TRUE, IGNORED = 0, 1, 2  # what a prediction comes to
_BELOW_ONE = 1 - 1e-10  # a threshold of 1 is met by an overlap that rounding kept from 1


@njit(nogil=True, cache=True)
def _match(
    groups,
    ious,
    iou_starts,
    detection_starts,
    truth_starts,
    detection_areas,
    truth_areas,
    truth_ignored,
    truth_crowd,
    thresholds,
    area_ranges,
    states,
    matched,
):
    areas, steps = area_ranges.shape[0], thresholds.size
    lowest = thresholds.min()
    longest = 0
    for g in range(groups[0], groups[1]):
        longest = max(longest, truth_starts[g + 1] - truth_starts[g])
    silent = np.empty((longest, areas), np.bool_)
    taken = np.empty((longest, areas, steps), np.bool_)
    near, overlaps = np.empty(longest, np.int64), np.empty(longest)  # the truths that one detection may take at all
    for g in range(groups[0], groups[1]):
        first, truths = truth_starts[g], truth_starts[g + 1] - truth_starts[g]
        taken[:truths] = False
        for i in range(truths):
            area = truth_areas[first + i]
            for a in range(areas):
                outside = area < area_ranges[a, 0] or area > area_ranges[a, 1]
                silent[i, a] = truth_ignored[first + i] or outside
        row = iou_starts[g]
        for d in range(detection_starts[g], detection_starts[g + 1]):
            count = 0
            for i in range(truths):
                if ious[row + i] >= lowest:
                    near[count], overlaps[count] = i, ious[row + i]
                    count += 1
            row += truths
            for a in range(areas):
                outside = detection_areas[d] < area_ranges[a, 0] or detection_areas[d] > area_ranges[a, 1]
                for t in range(steps):
                    counted, spare = -1, -1  # the best of those that count and of those that do not
                    most, most_spare = thresholds[t], thresholds[t]
                    for k in range(count):
                        i = near[k]
                        if taken[i, a, t]:
                            continue
                        if silent[i, a]:
                            if overlaps[k] >= most_spare:
                                most_spare, spare = overlaps[k], i
                        elif overlaps[k] >= most:
                            most, counted = overlaps[k], i
                    found = spare if counted < 0 else counted
                    state = IGNORED if outside else FALSE
                    if found >= 0:
                        taken[found, a, t] = not truth_crowd[first + found]
                        state = IGNORED if counted < 0 else TRUE
                        if a == 0:
                            matched[t, d] = first + found
                    states[a, t, d] = state


def match_groups(
    ious: np.ndarray,
    iou_starts: np.ndarray,
    detection_starts: np.ndarray,
    truth_starts: np.ndarray,
    detection_areas: np.ndarray,
    truth_areas: np.ndarray,
    truth_ignored: np.ndarray,
    truth_crowd: np.ndarray,
    thresholds: np.ndarray,
    area_ranges: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What becomes of each detection at each threshold and area range.

    All rows are in the order of the groups; a group's detections have falling scores.

    Args:
        ious: flat; the block of group g starts at ``iou_starts[g]``, a row a detection and a column a truth.
        iou_starts: ``(G + 1,)``.
        detection_starts: ``(G + 1,)``.
        truth_starts: ``(G + 1,)``.
        detection_areas: ``(M,)``.
        truth_areas: ``(N,)``.
        truth_ignored: ``(N,)`` count neither as found nor as missed, crowds among them.
        truth_crowd: ``(N,)`` may be taken by any number of detections.
        thresholds: ``(T,)`` least overlaps.
        area_ranges: ``(A, 2)``, both ends inside.

    Returns:
        ``(A, T, M)`` uint8, :data:`FALSE`, :data:`TRUE` or :data:`IGNORED`; and ``(T, M)`` int64, for the first area
        range the truth that was taken (its place in the order of the groups), -1 for none.
    """
    count = len(detection_areas)
    states = np.empty((len(area_ranges), len(thresholds), count), np.uint8)
    matched = np.full((len(thresholds), count), -1, np.int64)
    lowered = np.minimum(thresholds, _BELOW_ONE)

    def match(groups: tuple[int, int]) -> None:
        _match(
            np.array(groups, np.int64),
            ious,
            iou_starts,
            detection_starts,
            truth_starts,
            detection_areas,
            truth_areas,
            truth_ignored,
            truth_crowd,
            lowered,
            area_ranges,
            states,
            matched,
        )

    run_pieces(match, work_pieces(detection_starts, 4 * thread_count()))
    return states, matched

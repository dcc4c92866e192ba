"""Overlaps of boxes: IoU and its generalised, distance and complete forms, and COCO's for many images at once."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.grouping import work_pieces
from delineate.kernels.threads import run_pieces, thread_count

_SMALL = 1 << 16  # pairs below which a second thread costs more than it brings
_GENERALISED, _DISTANCE, _COMPLETE = 0, 1, 2


@njit(nogil=True, cache=True, error_model="numpy")
def _ious(boxes1, columns2, out):
    left2, top2, right2, bottom2 = columns2[0], columns2[1], columns2[2], columns2[3]
    for i in range(boxes1.shape[0]):
        left1, top1, right1, bottom1 = boxes1[i, 0], boxes1[i, 1], boxes1[i, 2], boxes1[i, 3]
        area1 = max(right1 - left1, 0.0) * max(bottom1 - top1, 0.0)
        row = out[i]
        for j in range(row.size):
            width = max(min(right1, right2[j]) - max(left1, left2[j]), 0.0)
            height = max(min(bottom1, bottom2[j]) - max(top1, top2[j]), 0.0)
            shared = width * height
            area2 = max(right2[j] - left2[j], 0.0) * max(bottom2[j] - top2[j], 0.0)
            union = area1 + area2 - shared
            row[j] = shared / union if union > 0.0 else 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def _subtract_penalties(boxes1, boxes2, kind, ious):
    for i in range(boxes1.shape[0]):
        left1, top1, right1, bottom1 = boxes1[i, 0], boxes1[i, 1], boxes1[i, 2], boxes1[i, 3]
        width1, height1 = max(right1 - left1, 0.0), max(bottom1 - top1, 0.0)
        angle1 = math.atan2(width1, height1) if kind == _COMPLETE else 0.0
        for j in range(boxes2.shape[0]):
            left2, top2, right2, bottom2 = boxes2[j, 0], boxes2[j, 1], boxes2[j, 2], boxes2[j, 3]
            width2, height2 = max(right2 - left2, 0.0), max(bottom2 - top2, 0.0)
            wide = max(max(right1, right2) - min(left1, left2), 0.0)
            high = max(max(bottom1, bottom2) - min(top1, top2), 0.0)
            if kind == _GENERALISED:
                width = max(min(right1, right2) - max(left1, left2), 0.0)
                height = max(min(bottom1, bottom2) - max(top1, top2), 0.0)
                enclosing = wide * high
                union = width1 * height1 + width2 * height2 - width * height
                if enclosing > 0.0:
                    ious[i, j] -= (enclosing - union) / enclosing
                continue
            iou = ious[i, j]
            diagonal = wide * wide + high * high
            if diagonal > 0.0:
                across, down = left1 + right1 - left2 - right2, top1 + bottom1 - top2 - bottom2
                ious[i, j] -= (across * across + down * down) / 4.0 / diagonal
            if kind == _COMPLETE:
                turn = (angle1 - math.atan2(width2, height2)) * (2.0 / math.pi)
                shape = turn * turn
                if shape > 0.0:
                    ious[i, j] -= shape * shape / (1.0 - iou + shape)


@njit(nogil=True, cache=True, error_model="numpy")
def _group_ious(
    detections,
    truths,
    crowd,
    detection_order,
    detection_starts,
    truth_order,
    truth_starts,
    iou_starts,
    first,
    last,
    out,
):
    longest = 0
    for group in range(first, last):
        longest = max(longest, truth_starts[group + 1] - truth_starts[group])
    # the group's truths side by side, so that the loop over them has no branch and uses vector instructions
    left, top, right, bottom, area = np.empty((5, longest))
    counted = np.empty(longest)  # 0 for a crowd, whose area does not enter
    for group in range(first, last):
        place = iou_starts[group]
        many = truth_starts[group + 1] - truth_starts[group]
        if detection_starts[group] == detection_starts[group + 1]:
            continue
        for j in range(many):
            t = truth_order[truth_starts[group] + j]
            left[j], top[j] = truths[t, 0], truths[t, 1]
            right[j], bottom[j] = truths[t, 2] + truths[t, 0], truths[t, 3] + truths[t, 1]
            area[j], counted[j] = truths[t, 2] * truths[t, 3], not crowd[t]
        for i in range(detection_starts[group], detection_starts[group + 1]):
            d = detection_order[i]
            left1, top1 = detections[d, 0], detections[d, 1]
            right1, bottom1 = detections[d, 2] + left1, detections[d, 3] + top1
            area1 = detections[d, 2] * detections[d, 3]
            block = out[place : place + many]
            for j in range(many):
                width = min(right1, right[j]) - max(left1, left[j])
                height = min(bottom1, bottom[j]) - max(top1, top[j])
                shared = width * height
                # COCO's order of operations: a different rounding would move ties
                union = area1 + area[j] - shared if counted[j] else area1
                block[j] = shared / union if (width > 0.0) & (height > 0.0) else 0.0
            place += many


def box_ious(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """The IoU of every box of one set with every box of another.

    Args:
        boxes1: (N, 4) x1, y1, x2, y2; a box whose corners are swapped is empty.
        boxes2: (M, 4).

    Returns:
        (N, M) float64; 0 where neither box has an area.
    """
    boxes1, boxes2 = frozen(boxes1, np.float64), np.asarray(boxes2, np.float64)
    columns2 = frozen(boxes2.T, np.float64)  # side by side, so that the loop over them uses vector instructions
    out = np.empty((len(boxes1), len(boxes2)))
    run_pieces(lambda rows: _ious(boxes1[rows], columns2, out[rows]), _row_pieces(*out.shape))
    return out


def generalised_box_ious(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """IoU less the share of the smallest enclosing box that neither box covers; (N, M) in -1 .. 1.

    Where the enclosing box has no area, nothing is subtracted.
    """
    return _penalised(boxes1, boxes2, _GENERALISED)


def distance_box_ious(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """IoU less the squared distance of the centres over the squared diagonal of the enclosing box; (N, M) in -1 .. 1.

    Where the enclosing box is a point, nothing is subtracted.
    """
    return _penalised(boxes1, boxes2, _DISTANCE)


def complete_box_ious(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """The distance IoU less a penalty for different aspect ratios; (N, M) in -2 .. 1."""
    return _penalised(boxes1, boxes2, _COMPLETE)


def _penalised(boxes1: np.ndarray, boxes2: np.ndarray, kind: int) -> np.ndarray:
    boxes1, boxes2 = frozen(boxes1, np.float64), frozen(boxes2, np.float64)
    out = box_ious(boxes1, boxes2)
    run_pieces(lambda rows: _subtract_penalties(boxes1[rows], boxes2, kind, out[rows]), _row_pieces(*out.shape))
    return out


def group_box_ious(
    detection_boxes: np.ndarray,
    truth_boxes: np.ndarray,
    truth_crowd: np.ndarray,
    detection_order: np.ndarray,
    detection_starts: np.ndarray,
    truth_order: np.ndarray,
    truth_starts: np.ndarray,
    iou_starts: np.ndarray,
) -> np.ndarray:
    """COCO's IoU of detections and true boxes, group by group (an image and a class), bit for bit pycocotools'.

    Args:
        detection_boxes: (D, 4) x, y, width, height.
        truth_boxes: (T, 4) x, y, width, height.
        truth_crowd: (T,); the overlap with a crowd is the share of the detection that lies in it.
        detection_order: rows of detections; those of group g at ``detection_starts[g] : detection_starts[g + 1]``.
        detection_starts: (G + 1,).
        truth_order: rows of truths, those of group g at ``truth_starts[g] : truth_starts[g + 1]``.
        truth_starts: (G + 1,).
        iou_starts: (G + 1,), where the block of each group begins in the result.

    Returns:
        float64 of ``iou_starts[-1]`` elements; each block (detections, truths) row by row.
    """
    detections, truths = frozen(detection_boxes, np.float64), frozen(truth_boxes, np.float64)
    crowd = frozen(truth_crowd, np.bool_)
    orders = [frozen(order, np.int64) for order in (detection_order, truth_order)]
    starts = [frozen(start, np.int64) for start in (detection_starts, truth_starts, iou_starts)]
    out = np.empty(int(iou_starts[-1]))

    def fill(groups: tuple[int, int]) -> None:
        _group_ious(
            detections, truths, crowd, orders[0], starts[0], orders[1], starts[1], starts[2], groups[0], groups[1], out
        )

    run_pieces(fill, work_pieces(iou_starts, thread_count() if out.size >= 2 * _SMALL else 1))
    return out


def _row_pieces(rows: int, columns: int) -> list[slice]:
    threads = thread_count() if rows * columns >= 2 * _SMALL else 1
    step = max(1, -(-rows // threads))
    return [slice(start, start + step) for start in range(0, rows, step)]

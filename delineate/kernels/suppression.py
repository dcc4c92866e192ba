"""Suppression of overlapping boxes, hard and soft, and their fusion.

Hard suppression compares each box, best first, with the boxes kept so far. Those are stored by width and by place along
one axis, because boxes far apart, or of very different widths, cannot overlap enough: what is compared is a few short
columns, one after another, which the processor reads as vectors.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.grouping import work_pieces
from delineate.kernels.threads import run_pieces, thread_count

_LEVELS = 16  # classes of width, each half the one before; the last takes all that is narrower
_STRIPS = 256  # places of a level along the axis, at most
_CROWD = 32  # boxes of a level for which one more strip pays
_BLOCK = 256  # boxes compared before one looks whether there was a hit
_SLACK = 1e-5  # far above what rounding does to a float32 IoU
_TINY = 1e-30  # areas below may be so coarse in float32 that the slack does not cover their rounding
_SMALL = 1 << 12  # boxes below which a second thread costs more than it brings


@njit(nogil=True, cache=True, error_model="numpy")
def _any_above(kept, first, last, left, top, right, bottom, area, threshold):
    lefts, tops, rights, bottoms, areas = kept[0], kept[1], kept[2], kept[3], kept[4]
    zero = kept.dtype.type(0)
    for start in range(first, last, _BLOCK):
        hit = False
        for k in range(start, min(start + _BLOCK, last)):
            width = max(min(right, rights[k]) - max(left, lefts[k]), zero)
            height = max(min(bottom, bottoms[k]) - max(top, tops[k]), zero)
            shared = width * height
            # the division and its order of operations are torchvision's: another rounding would move ties
            hit |= shared / (area + areas[k] - shared) > threshold  # a count would be int64, and halve the vectors
        if hit:
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def _strip(x, origin, scale, strips):
    place = (x - origin) * scale
    if place >= strips:
        return strips - 1
    return int(place) if place > 0.0 else 0


@njit(nogil=True, cache=True, error_model="numpy")
def _suppress(boxes, order, threshold, survives):
    # the boxes that can overlap anything, in order; the others neither suppress nor are suppressed
    columns, rows = np.empty((5, order.size), boxes.dtype), np.empty(order.size, np.int64)
    count, smallest, across, down = 0, np.inf, 0.0, 0.0
    for place in range(order.size):
        row = order[place]
        left, top, right, bottom = boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3]
        width, height = right - left, bottom - top
        area = width * height
        if not (width > 0.0 and height > 0.0 and area > 0.0 and area < np.inf):
            survives[row] = True
            continue
        columns[0, count], columns[1, count], columns[2, count], columns[3, count] = left, top, right, bottom
        columns[4, count], rows[count] = area, row
        smallest, across, down = min(smallest, area), across + width, down + height
        count += 1
    if count == 0:
        return

    lefts, tops = columns[0, :count], columns[1, :count]
    wide, high = np.float64(lefts.max()) - lefts.min(), np.float64(tops.max()) - tops.min()
    if across * high > down * wide:  # long rows: apart from each other along y; to swap the axes changes no IoU
        for k in range(count):
            columns[0, k], columns[1, k] = columns[1, k], columns[0, k]
            columns[2, k], columns[3, k] = columns[3, k], columns[2, k]
        wide = high
    # what an IoU above the threshold says of one axis: the widths' ratio is above it too, and the left ends are apart
    # by less than (1 - threshold) of the width of the box that begins first
    least = threshold * (1.0 - _SLACK) if threshold > 1e-6 and smallest > _TINY else 0.0
    reach = (1.0 - least) * (1.0 + _SLACK)

    exponents, least_exponent, most_exponent = np.empty(count, np.int64), 10000, -10000
    for k in range(count):
        exponent = math.frexp(np.float64(columns[2, k]) - columns[0, k])[1]
        exponents[k] = exponent
        least_exponent, most_exponent = min(least_exponent, exponent), max(most_exponent, exponent)
    levels = min(_LEVELS, most_exponent - least_exponent + 1) if count > 2 * _CROWD else 1
    narrowest, widest, numbers = np.full(levels, np.inf), np.zeros(levels), np.zeros(levels, np.int64)
    for k in range(count):
        level = min(most_exponent - exponents[k], levels - 1)
        exponents[k] = level
        width = np.float64(columns[2, k]) - columns[0, k]
        narrowest[level], widest[level] = min(narrowest[level], width), max(widest[level], width)
        numbers[level] += 1
    origin = np.float64(lefts.min())
    strips, scales, cells = np.ones(levels, np.int64), np.zeros(levels), np.zeros(levels + 1, np.int64)
    for level in range(levels):
        if 0.0 < wide < np.inf:
            strips[level] = min(_STRIPS, 1 + numbers[level] // _CROWD)
            scales[level] = strips[level] / wide
        cells[level + 1] = cells[level] + strips[level]

    cell, begins = exponents, np.zeros(cells[levels] + 1, np.int64)
    for k in range(count):
        level = exponents[k]
        cell[k] = cells[level] + _strip(columns[0, k], origin, scales[level], strips[level])
        begins[cell[k] + 1] += 1
    for c in range(1, begins.size):
        begins[c] += begins[c - 1]
    ends, kept = begins.copy(), np.empty((5, count), boxes.dtype)
    for k in range(count):
        left, top, right, bottom, area = columns[0, k], columns[1, k], columns[2, k], columns[3, k], columns[4, k]
        width, alone = np.float64(right) - left, True
        for level in range(levels):
            if numbers[level] == 0 or widest[level] < least * width or narrowest[level] * least > width:
                continue
            before = cells[level] + _strip(left - reach * widest[level], origin, scales[level], strips[level])
            behind = cells[level] + _strip(left + reach * width, origin, scales[level], strips[level])
            for c in range(before, behind + 1):
                if ends[c] > begins[c] and _any_above(
                    kept, begins[c], ends[c], left, top, right, bottom, area, threshold
                ):
                    alone = False
                    break
            if not alone:
                break
        if alone:
            survives[rows[k]] = True
            end = ends[cell[k]]
            kept[0, end], kept[1, end], kept[2, end], kept[3, end], kept[4, end] = left, top, right, bottom, area
            ends[cell[k]] += 1


@njit(nogil=True, cache=True)
def _suppress_groups(boxes, order, starts, first, last, threshold, survives):
    for group in range(first, last):
        _suppress(boxes, order[starts[group] : starts[group + 1]], threshold, survives)


@njit(nogil=True, cache=True, error_model="numpy")
def _iou(left1, top1, right1, bottom1, left2, top2, right2, bottom2):
    width, height = min(right1, right2) - max(left1, left2), min(bottom1, bottom2) - max(top1, top2)
    if not (width > 0.0 and height > 0.0):
        return 0.0
    shared = width * height
    return shared / ((right1 - left1) * (bottom1 - top1) + (right2 - left2) * (bottom2 - top2) - shared)


@njit(nogil=True, cache=True)
def _decay(boxes, scores, gaussian, sigma, iou_threshold, score_threshold, chosen):
    waiting, rows, count = boxes.copy(), np.arange(scores.size), 0
    for row in range(scores.size):
        if scores[row] >= score_threshold:
            waiting[count], rows[count] = boxes[row], row
            count += 1
    found = 0
    while count > 0:
        best = 0
        for k in range(1, count):
            if scores[rows[k]] > scores[rows[best]]:
                best = k
        left, top, right, bottom = waiting[best, 0], waiting[best, 1], waiting[best, 2], waiting[best, 3]
        chosen[found] = rows[best]
        found += 1
        left_over = 0
        for k in range(count):  # those that stay move up, in their order, so that of equal scores the first row wins
            if k == best:
                continue
            row = rows[k]
            iou = _iou(left, top, right, bottom, waiting[k, 0], waiting[k, 1], waiting[k, 2], waiting[k, 3])
            if iou > 0.0:
                if gaussian:
                    scores[row] *= math.exp(-iou * iou / sigma)
                elif iou > iou_threshold:
                    scores[row] *= 1.0 - iou
                if scores[row] < score_threshold:
                    continue
            rows[left_over] = row
            for side in range(4):
                waiting[left_over, side] = waiting[k, side]
            left_over += 1
        count = left_over
    return found


@njit(nogil=True, cache=True)
def _fuse(boxes, scores, order, starts, iou_threshold, fused, totals, members, groups):
    count = 0
    for group in range(starts.size - 1):
        base = count
        for place in range(starts[group], starts[group + 1]):
            row = order[place]
            left, top, right, bottom, score = boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3], scores[row]
            match, most = count, iou_threshold
            for k in range(base, count):
                iou = _iou(left, top, right, bottom, fused[k, 0], fused[k, 1], fused[k, 2], fused[k, 3])
                if iou > most:
                    match, most = k, iou
            total = totals[match] + score
            share = score / total if total > 0.0 else 0.0
            for side in range(4):
                if match == count:
                    fused[match, side] = boxes[row, side]
                else:  # the running form of the weighted mean
                    fused[match, side] += share * (boxes[row, side] - fused[match, side])
            totals[match] = total
            members[match] += 1
            if match == count:
                groups[count] = group
                count += 1
    return count


def surviving_boxes(boxes: np.ndarray, order: np.ndarray, starts: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Which boxes no better box of their group overlaps by more than the threshold; better ones that survive count.

    The arithmetic is that of the boxes' type, and its order torchvision's.

    Args:
        boxes: (N, 4) x1, y1, x2, y2, float32 or float64. One whose corners are swapped, whose area is 0 or whose area
            is not finite overlaps nothing.
        order: rows of boxes, the best first; those of group g at ``starts[g] : starts[g + 1]``.
        starts: (G + 1,).
        iou_threshold: 0 to 1.

    Returns:
        (N,) bool; false for rows that are not in ``order``.

    Example:
        >>> pile = np.array([[0, 0, 2, 2], [0, 0, 2, 3], [0, 0, 2, 4]], np.float32)
        >>> surviving_boxes(pile, np.array([0, 1, 2]), np.array([0, 3]), 0.5).tolist()
        [True, False, True]
    """
    boxes, order, starts = frozen(boxes), frozen(order, np.int64), frozen(starts, np.int64)
    threshold = boxes.dtype.type(iou_threshold)
    if float(threshold) > iou_threshold:  # rounded down, a comparison with it has the truth value of one in float64
        threshold = np.nextafter(threshold, boxes.dtype.type(-1))
    survives = np.zeros(len(boxes), np.bool_)
    pieces = [(0, len(starts) - 1)]
    if len(starts) > 2 and len(order) >= _SMALL:  # groups of unequal size even out over more pieces than threads
        pieces = work_pieces(starts, 4 * thread_count())
    run_pieces(lambda groups: _suppress_groups(boxes, order, starts, groups[0], groups[1], threshold, survives), pieces)
    return survives


def decayed_scores(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    gaussian: bool,
    sigma: float,
    iou_threshold: float,
    score_threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The boxes best first, each taken out by its score as the better ones before it have lowered it.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,), at least 0, without NaN.
        gaussian: times ``exp(-IoU**2 / sigma)``; else times ``1 - IoU`` where the IoU is above ``iou_threshold``.
        sigma: above 0.
        iou_threshold: 0 to 1.
        score_threshold: a box is dropped when its score falls below.

    Returns:
        (M,) int64 rows and (M,) float64 scores, which fall.
    """
    boxes, lowered = frozen(boxes, np.float64), np.array(scores, np.float64)
    rows = np.empty(len(lowered), np.int64)
    found = _decay(boxes, lowered, gaussian, float(sigma), float(iou_threshold), float(score_threshold), rows)
    return rows[:found].copy(), lowered[rows[:found]]


def fused_boxes(
    boxes: np.ndarray, scores: np.ndarray, order: np.ndarray, starts: np.ndarray, iou_threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Clusters of overlapping boxes, each grown in the order given, and their means weighted by score.

    A box joins the cluster of its group whose mean so far it overlaps most, if that is more than the threshold, or
    starts one of its own. Where all scores of a cluster are 0, its first box stands.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,), at least 0, without NaN.
        order: rows of boxes; those of group g at ``starts[g] : starts[g + 1]``.
        starts: (G + 1,).
        iou_threshold: 0 to 1.

    Returns:
        Of each cluster, by group and start: (M, 4) float64 box, (M,) float64 sum of scores, (M,) int64 number of boxes
        and (M,) int64 group.
    """
    boxes, scores = frozen(boxes, np.float64), frozen(scores, np.float64)
    order, starts = frozen(order, np.int64), frozen(starts, np.int64)
    fused, totals = np.zeros((len(order), 4)), np.zeros(len(order))
    members, groups = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    count = _fuse(boxes, scores, order, starts, float(iou_threshold), fused, totals, members, groups)
    return fused[:count], totals[:count], members[:count], groups[:count]

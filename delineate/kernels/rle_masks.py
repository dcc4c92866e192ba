"""Many masks as COCO run lengths, back to back in one array of text: checked, measured and compared.

Checking a mask measures it on the way and keeps nothing else. Two masks are compared by walking their runs of ones side
by side, in a few hundred bytes that stay in the nearest cache; no array of pixels is ever made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.grouping import work_pieces
from delineate.kernels.rle import _to_text
from delineate.kernels.threads import run_pieces, thread_count

_NEW = 48  # the first character of the compressed alphabet, "0"
_DAMAGED = (-1, 0, 0, 0, 0)
# places in texts are unsigned, which spares a test for negative indices at each character
_U0, _U1, _U2, _U32, _U63 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(32), np.uint64(63)
_LONGEST = 7  # characters of a run of less than 2**31 pixels
_SMALL = 1 << 16  # bytes of text below which a second thread costs more than it brings
_CHUNKS = 16  # a thread: masks differ, so threads take many small pieces in turn


class GroupedMasks(NamedTuple):
    """Masks that were checked and measured, and which of them belong to which group.

    Args:
        text: ``(C,)`` uint8, the compressed texts back to back.
        offsets: ``(N + 1,)`` int64, where each begins, and where the last ends.
        sizes: ``(N, 2)`` int32 height and width.
        areas: ``(N,)`` int64.
        boxes: ``(N, 4)`` float64 x, y, width, height.
        order: int64, the masks of group 0, then those of group 1 ...
        starts: ``(G + 1,)`` int64, where each group begins in ``order``, and where the last ends.
    """

    text: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    order: np.ndarray
    starts: np.ndarray


@njit(nogil=True, cache=True)
def _number(text, place, end):
    """The number at ``place``, which is before ``end``, and the place after it: 0 where it is damaged."""
    part = np.int64(text[place]) - _NEW
    place += _U1
    if np.uint64(part) < _U32:  # one character, as most numbers have
        return (part ^ 16) - 16, place
    value, shift = np.int64(0), np.int64(0)
    while True:
        if np.uint64(part) > _U63:
            return np.int64(0), _U0
        value |= (part & 31) << shift
        shift += 5
        if part < 32:
            break
        if place == end or shift > 55:
            return np.int64(0), _U0
        part = np.int64(text[place]) - _NEW
        place += _U1
    if part & 16:
        value |= np.int64(-1) << shift
    return value, place


@njit(nogil=True, cache=True)
def _check(text, place, end, height, width):
    """The area of one mask and the box x0, y0, x1, y1; an area of -1 for a text that is damaged or of another size."""
    place, end = np.uint64(place), np.uint64(end)
    left, area, zeros, ones, pairs = height * width, 0, 0, 0, 0
    row, column = 0, 0  # kept without a division for most runs
    x0, y0, x1, y1 = width, height, 0, 0
    while place < end:
        value, place = _number(text, place, end)
        if pairs == 1:  # the third run is the last one that is written in full
            zeros = 0
        zeros += value
        if place == _U0 or np.uint64(zeros) > np.uint64(left):
            return _DAMAGED
        left -= zeros
        row += zeros
        if row >= height:
            row -= height
            column += 1
            if row >= height:
                column += row // height
                row %= height
        if place == end:
            break
        value, place = _number(text, place, end)
        ones += value
        if place == _U0 or np.uint64(ones) > np.uint64(left):
            return _DAMAGED
        left -= ones
        pairs += 1
        if ones:
            area += ones
            x0 = min(x0, column)
            y0 = min(y0, row)
            row += ones
            if row < height:
                x1, y1 = column + 1, max(y1, row)
            else:
                y0 = 0 if row > height else y0
                y1 = height
                column += row // height
                row %= height
                x1 = column + int(row > 0)
    if left:
        return _DAMAGED
    if area == 0:
        x0 = y0 = 0
    return area, x0, y0, x1, y1


@njit(nogil=True, cache=True)
def _read(text, place, end, ends):
    """Where the runs of a mask that was checked end, into ``ends``; their number."""
    place, end = np.uint64(place), np.uint64(end)
    runs, total, last, last_but_one = _U0, 0, 0, 0
    while place < end:
        value, place = _number(text, place, end)
        if runs > _U2:
            value += last_but_one
        last_but_one, last = last, value
        total += value
        ends[runs] = total
        runs += _U1
    return np.int64(runs)


@njit(nogil=True, cache=True)
def _measure(text, offsets, sizes, first, last, areas, boxes):
    """Areas and boxes of the masks ``first`` to ``last``; the first damaged one ends it and is returned, else -1."""
    for i in range(first, last):
        area, x0, y0, x1, y1 = _check(text, offsets[i], offsets[i + 1], np.int64(sizes[i, 0]), np.int64(sizes[i, 1]))
        if area < 0:
            return i
        areas[i] = area
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = x0, y0, x1 - x0, y1 - y0
    return -1


@njit(nogil=True, cache=True)
def _gather(text, offsets, indices, first, last, out_offsets, out):
    for i in range(first, last):
        source = text[offsets[indices[i]] : offsets[indices[i] + 1]]
        target = out[out_offsets[i] : out_offsets[i + 1]]
        for j in range(source.size):
            target[j] = source[j]


@njit(nogil=True, cache=True)
def _intersection(first, a, a_end, second, b, b_end):
    """Pixels in both masks; ``first[a:a_end]`` and ``second[b:b_end]`` are starts and ends of runs of ones in turn."""
    a, a_end, b, b_end = np.uint64(a), np.uint64(a_end), np.uint64(b), np.uint64(b_end)
    pixels = np.int64(0)
    if b < b_end:
        while a < a_end and first[a + _U1] <= second[b]:
            a += _U2
    if a < a_end:
        while b < b_end and second[b + _U1] <= first[a]:
            b += _U2
    while a < a_end and b < b_end:
        stop, other = first[a + _U1], second[b + _U1]
        pixels += max(np.int64(0), np.int64(min(stop, other)) - np.int64(max(first[a], second[b])))
        if stop <= other:
            a += _U2
        else:
            b += _U2
    return pixels


@njit(nogil=True, cache=True)
def _compare(detections, truths, crowd, iou_starts, first, last, ious):
    ends, truth_ends = np.empty(1024, np.int32), np.empty(4096, np.int32)
    places = np.empty((64, 2), np.int64)  # of each truth's runs of ones in ``truth_ends``; -1 before it is read
    for group in range(first, last):
        begin, number = truths.starts[group], truths.starts[group + 1] - truths.starts[group]
        if number > len(places):
            places = np.empty((2 * number, 2), np.int64)
        places[:number] = -1
        used, place = 0, iou_starts[group]
        for d in detections.order[detections.starts[group] : detections.starts[group + 1]]:
            runs = -1
            x0, y0 = detections.boxes[d, 0], detections.boxes[d, 1]
            x1, y1 = x0 + detections.boxes[d, 2], y0 + detections.boxes[d, 3]
            for k in range(number):
                t = truths.order[begin + k]
                left, top = truths.boxes[t, 0], truths.boxes[t, 1]
                right, bottom = left + truths.boxes[t, 2], top + truths.boxes[t, 3]
                iou = 0.0
                same = detections.sizes[d, 0] == truths.sizes[t, 0] and detections.sizes[d, 1] == truths.sizes[t, 1]
                if same and min(x1, right) > max(x0, left) and min(y1, bottom) > max(y0, top):
                    if runs < 0:
                        start, stop = detections.offsets[d], detections.offsets[d + 1]
                        ends = _grown(ends, 0, stop - start)
                        runs = _read(detections.text, start, stop, ends)
                    if places[k, 0] < 0:
                        start, stop = truths.offsets[t], truths.offsets[t + 1]
                        truth_ends = _grown(truth_ends, used, used + stop - start)
                        places[k, 0] = used
                        used += _read(truths.text, start, stop, truth_ends[used:]) // 2 * 2
                        places[k, 1] = used
                    both = _intersection(ends, 0, runs // 2 * 2, truth_ends, places[k, 0], places[k, 1])
                    whole = detections.areas[d] if crowd[t] else detections.areas[d] + truths.areas[t] - both
                    iou = both / max(whole, 1)
                ious[place] = iou
                place += 1


@njit(nogil=True, cache=True)
def _grown(array, used, needed):
    """``array``, or a larger one with the ``used`` first values of it."""
    if needed <= array.size:
        return array
    larger = np.empty(2 * needed, array.dtype)
    larger[:used] = array[:used]
    return larger


@njit(nogil=True, cache=True)
def _write(counts, starts, first, last, lengths):
    text = np.empty(_LONGEST * (starts[last] - starts[first]), np.uint8)
    used = 0
    for i in range(first, last):
        lengths[i] = _to_text(counts[starts[i] : starts[i + 1]], text[used:])
        used += lengths[i]
    return text[:used]


def measures(text: np.ndarray, offsets: np.ndarray, sizes: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Check every mask, and measure it on the way.

    Args:
        text: ``(C,)`` uint8, the compressed texts back to back.
        offsets: ``(N + 1,)`` int64, where each begins, and where the last ends.
        sizes: ``(N, 2)`` int32 height and width, positive, of less than 2**31 pixels.

    Returns:
        The first mask that is damaged or does not sum to its size, -1 where none is; ``(N,)`` int64 areas; ``(N, 4)``
        float64 boxes x, y, width, height, zeros for an empty mask. The arrays are complete only where the first is -1.
    """
    text, offsets, sizes = frozen(text, np.uint8), frozen(offsets, np.int64), frozen(sizes, np.int32)
    areas, boxes = np.empty(len(sizes), np.int64), np.empty((len(sizes), 4))
    found = run_shares(lambda i, j: _measure(text, offsets, sizes, i, j, areas, boxes), np.diff(offsets))
    return min((i for i in found if i >= 0), default=-1), areas, boxes


def selected_text(text: np.ndarray, offsets: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The texts of the masks ``indices`` (at least 0) back to back, and their offsets."""
    text, offsets, indices = frozen(text, np.uint8), frozen(offsets, np.int64), frozen(indices, np.int64)
    lengths = np.diff(offsets)[indices]
    out_offsets = frozen(_starts(lengths), np.int64)
    out = np.empty(out_offsets[-1], np.uint8)
    run_shares(lambda i, j: _gather(text, offsets, indices, i, j, out_offsets, out), lengths)
    return out, out_offsets


def texts_of_counts(counts: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The text and the offsets of masks given as run lengths.

    Args:
        counts: int64, the run lengths of all masks, from 0 to below 2**31.
        starts: ``(N + 1,)`` int64, where the runs of each mask begin, and where the last end.
    """
    counts, starts = frozen(counts, np.int64), frozen(starts, np.int64)
    return written(lambda i, j, lengths: _write(counts, starts, i, j, lengths), np.diff(starts))


def grouped_ious(
    detections: GroupedMasks, truths: GroupedMasks, crowd: np.ndarray, iou_starts: np.ndarray
) -> np.ndarray:
    """IoU of each detection with each truth of its group (an image and a class), as ``pycocotools.mask.iou`` has them.

    A mask is read at most once a group, and only where its box meets another. Differs: masks of different sizes have
    0, where the original has -1; and runs of length 0 between others, which no encoder writes, change nothing, where
    the original may stop at them.

    Args:
        detections: of G groups.
        truths: of the same groups.
        crowd: bool, one a truth; the IoU with a crowd is the share of the detection that lies in it.
        iou_starts: ``(G + 1,)`` int64, where each group's block begins in the result, and the result's length.

    Returns:
        float64; the block of a group is its detections x its truths, row by row.
    """
    detections, truths = _grouped(detections), _grouped(truths)
    crowd, iou_starts = frozen(crowd, np.bool_), frozen(iou_starts, np.int64)
    ious = np.zeros(int(iou_starts[-1]))
    numbers = np.diff(truths.starts)
    size = np.diff(_starts(np.diff(detections.offsets)[detections.order])[detections.starts])
    truth_size = np.diff(_starts(np.diff(truths.offsets)[truths.order])[truths.starts])
    work = np.where(numbers > 0, size * (1 + numbers) + (1 + np.diff(detections.starts)) * truth_size, 0)
    run_shares(lambda i, j: _compare(detections, truths, crowd, iou_starts, i, j, ious), work)
    return ious


def run_shares(function: Callable[[int, int], Any], work: np.ndarray) -> list[Any]:
    """``function(first, last)`` of consecutive stretches of items, in order; threads take them in turn.

    Args:
        function: reads and writes items ``first`` to ``last - 1`` only.
        work: of each item, in about bytes of text; decides where stretches end.
    """
    starts = _starts(work)
    threads = thread_count() if starts[-1] > _SMALL else 1
    return run_pieces(lambda ends: function(*ends), work_pieces(starts, threads * _CHUNKS if threads > 1 else 1))


def written(function: Callable[[int, int, np.ndarray], np.ndarray], work: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Text and offsets of all masks; ``function(first, last, lengths)`` returns the text of some of them."""
    lengths = np.zeros(len(work), np.int64)
    parts = run_shares(lambda i, j: function(i, j, lengths), work)
    return np.concatenate([np.empty(0, np.uint8), *parts]), _starts(lengths)


def _grouped(masks: GroupedMasks) -> GroupedMasks:
    dtypes = (np.uint8, np.int64, np.int32, np.int64, np.float64, np.int64, np.int64)
    return GroupedMasks(*(frozen(array, dtype) for array, dtype in zip(masks, dtypes, strict=True)))


def _starts(lengths: np.ndarray) -> np.ndarray:
    """0, and where each of the items ends."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts

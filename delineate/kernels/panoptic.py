"""Counting of (id, id) pairs of two id maps, and the boxes of segments, in one pass over the pixels.

Ids are arbitrary, so a pair is looked up in a table; but maps of segments are made of long runs, and only the first
pixel of a run is looked up. A map that fits no small table (noise, not segments) is sorted instead: slower, and never
slower than that.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen

_SLOTS = 1 << 13  # 128 KiB, which stays in the cache; an image has some hundred pairs
_LAST, _ONE = np.uint64(_SLOTS - 1), np.uint64(1)
_SHIFT = np.uint64(64 - 13)  # the product's highest bits are its best mixed
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: neighbouring ids land far apart
_PROBES = 64  # slots looked at for one pair before the table counts as crowded
_STRETCH = 1 << 12  # pixels compared before their runs are counted
_HIGH = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@njit(nogil=True, cache=True)
def _mark_changes(one_before, one, other_before, other, marks):
    for i in range(one.size):  # no branch and no sum, so that many pixels are compared at once
        marks[i] = (one[i] != one_before[i]) | (other[i] != other_before[i])


@njit(nogil=True, cache=True)
def _count_runs(first, second, marks, words, ends, keys, counts):
    size = first.size
    start = 0  # of the run that is going on
    for low in range(1, size + 1, marks.size):
        high = min(low + marks.size, size)
        _mark_changes(first[low - 1 : high - 1], first[low:high], second[low - 1 : high - 1], second[low:high], marks)
        if high == size:
            marks[high - low :] = 0
            if high - low < marks.size:
                marks[high - low] = 1  # the end of the map ends the last run
        found = 0
        for word in range(words.size):
            if words[word] != 0:
                for mark in range(word * 8, word * 8 + 8):  # written always and kept if marked: again no branch
                    ends[found] = low + mark
                    found += marks[mark]
        for end in ends[:found]:
            key = (np.uint64(first[start]) << _HIGH) | np.uint64(second[start])
            slot = (key * _GOLDEN) >> _SHIFT
            probes = 0
            while counts[slot] != 0 and keys[slot] != key:
                slot = (slot + _ONE) & _LAST
                probes += 1
                if probes == _PROBES:
                    return False
            keys[slot] = key
            counts[slot] += end - start
            start = end
    return True


@njit(nogil=True, cache=True)
def _stretch_boxes(ids, segment_ids, boxes):
    height, width = ids.shape
    for y in range(height):
        end = 0
        while end < width:
            start = end
            value = ids[y, start]
            end += 1
            while end < width and ids[y, end] == value:
                end += 1
            low, high = 0, segment_ids.size  # the first segment id that is not below the value
            while low < high:
                middle = (low + high) // 2
                if segment_ids[middle] < value:
                    low = middle + 1
                else:
                    high = middle
            if low < segment_ids.size and segment_ids[low] == value:
                box = boxes[low]
                box[0], box[1] = min(box[0], start), min(box[1], y)
                box[2], box[3] = max(box[2], end), max(box[3], y + 1)


def pair_counts(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many pixels each pair of ids has that occurs at one place of two maps.

    Args:
        first: int32 ids of at least 0.
        second: the same, of the same shape.

    Returns:
        The ids in the first map, those in the second and the pixels, int64 each, one a pair; ordered by the first id
        and then by the second.
    """
    one, other = _flat(first), _flat(second)
    keys, counts = np.empty(_SLOTS, np.uint64), np.zeros(_SLOTS, np.int64)
    words = np.empty(_STRETCH // 8, np.uint64)
    ends = np.empty(_STRETCH + 8, np.int64)
    if _count_runs(one, other, words.view(np.uint8), words, ends, keys, counts):
        used = np.flatnonzero(counts)
        used = used[np.argsort(keys[used])]
        keys, counts = keys[used], counts[used]
    else:
        keys, counts = np.unique((one.astype(np.uint64) << _HIGH) | other, return_counts=True)
    return (keys >> _HIGH).astype(np.int64), (keys & _LOW).astype(np.int64), counts.astype(np.int64, copy=False)


def segment_boxes(ids: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
    """The smallest box around the pixels of each segment.

    Args:
        ids: ``(H, W)`` int32.
        segment_ids: the segments in question, each once, in any order.

    Returns:
        ``(S, 4)`` int64 x0, y0, x1, y1, the last two exclusive; zeros for a segment without pixels.
    """
    order = np.argsort(segment_ids)
    boxes = np.zeros((len(order), 4), np.int64)
    boxes[:, :2] = ids.shape[1], ids.shape[0]
    _stretch_boxes(frozen(ids), frozen(segment_ids[order], np.int64), boxes)
    boxes[boxes[:, 2] == 0] = 0
    placed = np.empty_like(boxes)
    placed[order] = boxes
    return placed


def _flat(ids: np.ndarray) -> np.ndarray:
    return frozen(np.ascontiguousarray(ids).reshape(-1).view(np.uint32))

"""Outlines of masks: polygons drawn to run lengths and drawn back, and the bands along the inside of outlines.

No array of pixels is made: the work goes with the number of runs and of columns. What comes from a mask starts from its
runs cut at the ends of the columns.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.rle import _most_crossings, _polygon, _sorted, _to_text
from delineate.kernels.rle_masks import _LONGEST, _U1, _U2, _check, _grown, _read, written


@njit(nogil=True, cache=True)
def _columns(ends, runs, height, x0, x1, starts, tops, bottoms):
    """The runs of ones column by column: those of column ``x0 + j`` are ``starts[j]`` to ``starts[j + 1] - 1``.

    Runs that touch within a column are one. Returns their number, and counts on where there is no room for them.
    """
    found, column, last = 0, 0, -1
    starts[0] = 0
    for run in range(1, runs, 2):
        start, end = int(ends[run - 1]), int(ends[run])
        while start < end:
            x = start // height
            floor = x * height
            stop = min(end, floor + height)
            while column < x - x0:
                column += 1
                starts[column] = found
            if start == last and start > floor:
                bottoms[found - 1] = stop - floor
            else:
                tops[found], bottoms[found] = start - floor, stop - floor
                found += 1
            last = start = stop
    while column < x1 - x0:
        column += 1
        starts[column] = found
    return found


@njit(nogil=True, cache=True)
def _shared(first, a, a_end, second, b, b_end, out, place):
    """Intervals that lie in both lists (start, end, start, end ...), into ``out`` from ``place``; the place after."""
    a, a_end, b, b_end = np.uint64(a), np.uint64(a_end), np.uint64(b), np.uint64(b_end)
    place = np.uint64(place)
    while a < a_end and b < b_end:
        stop, other = first[a + _U1], second[b + _U1]
        top, bottom = max(first[a], second[b]), min(stop, other)
        if top < bottom:
            out[place], out[place + _U1] = top, bottom
            place += _U2
        if stop <= other:
            a += _U2
        else:
            b += _U2
    return np.int64(place)


@njit(nogil=True, cache=True)
def _inner(starts, tops, bottoms, distance, short, short_starts):
    """Each run shortened by ``distance`` at both ends, as lists of intervals column by column."""
    used = 0
    short_starts[0] = 0
    for x in range(starts.size - 1):
        for i in range(starts[x], starts[x + 1]):
            if bottoms[i] - tops[i] > 2 * distance:
                short[used], short[used + 1] = tops[i] + distance, bottoms[i] - distance
                used += 2
        short_starts[x + 1] = used


@njit(nogil=True, cache=True)
def _band(tops, bottoms, starts, x0, height, distance, counts):
    """Runs of the pixels from which a square of half-width ``distance`` leaves the mask.

    The rest of a column is the intersection of its neighbours', each shortened by ``distance`` at both ends of each
    run. Of windows of ``D = 2 distance + 1`` columns that is done as van Herk does: blocks of D columns, the
    intersections from each column to its block's end, and those from the next block's start, meet in every window.
    Returns the counts, as an array that may have grown, their number, and where the last ends.
    """
    columns, window = starts.size - 1, 2 * distance + 1
    short, short_starts = np.empty(2 * tops.size, np.int64), np.empty(columns + 1, np.int64)
    _inner(starts, tops, bottoms, distance, short, short_starts)
    most = 2 * (height // (window + 1) + 2)  # of a list: the gaps between its intervals are of ``window`` pixels
    tails, tail_starts = np.empty(window * most, np.int64), np.empty(window + 1, np.int64)
    head, spare, inner = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    head_size, size, end = 0, 0, 0
    for x in range(columns):
        inner_size = 0
        j = x - distance  # the window's first column
        if j >= 0 and j + window <= columns:
            place = j % window
            a, b = short_starts[j + window - 1], short_starts[j + window]
            if place == 0:
                # the tail of the k-th column from the block's end lies from tail_starts[k] to tail_starts[k + 1]
                tail_starts[0], tail_starts[1] = 0, b - a
                for i in range(a, b):
                    tails[i - a] = short[i]
                for k in range(1, window):
                    a, b = short_starts[j + window - 1 - k], short_starts[j + window - k]
                    used = tail_starts[k]
                    tail_starts[k + 1] = _shared(short, a, b, tails, tail_starts[k - 1], used, tails, used)
                for i in range(tail_starts[window - 1], tail_starts[window]):
                    inner[inner_size] = tails[i]
                    inner_size += 1
            else:
                if place == 1:
                    for i in range(a, b):
                        head[i - a] = short[i]
                    head_size = b - a
                else:
                    head_size = _shared(head, 0, head_size, short, a, b, spare, 0)
                    head, spare = spare, head
                k = window - 1 - place
                inner_size = _shared(tails, tail_starts[k], tail_starts[k + 1], head, 0, head_size, inner, 0)
        counts = _grown(counts, size, size + 2 * (starts[x + 1] - starts[x]) + inner_size + 1)
        floor, k = (x0 + x) * height, 0
        for i in range(starts[x], starts[x + 1]):
            top, bottom = np.int64(tops[i]), np.int64(bottoms[i])
            while top < bottom:
                stop = following = bottom
                if k < inner_size and inner[k] < bottom:
                    stop, following = inner[k], inner[k + 1]
                    k += 2
                if top < stop:
                    if size and floor + top == end:
                        counts[size - 1] += stop - top
                    else:
                        counts[size], counts[size + 1] = floor + top - end, stop - top
                        size += 2
                    end = floor + stop
                top = following
    return counts, size, end


@njit(nogil=True, cache=True)
def _bands(text, offsets, sizes, distances, first, last, lengths):
    out, used = np.empty(4096, np.uint8), 0
    ends, counts, starts = np.empty(256, np.int32), np.empty(1024, np.int64), np.empty(1024, np.int64)
    tops, bottoms = np.empty((2, 1024), np.int32)
    for i in range(first, last):
        length = offsets[i + 1] - offsets[i]
        height, width = np.int64(sizes[i, 0]), np.int64(sizes[i, 1])
        _, x0, y0, x1, y1 = _check(text, offsets[i], offsets[i + 1], height, width)
        window = 2 * distances[i] + 1
        if x1 - x0 < window or y1 - y0 < window:  # nothing lies deep enough
            out = _grown(out, used, used + length)
            out[used : used + length] = text[offsets[i] : offsets[i + 1]]
            lengths[i] = length
        else:
            ends = _grown(ends, 0, length)
            runs = _read(text, offsets[i], offsets[i + 1], ends)
            most = runs // 2 + x1 - x0  # each column's end cuts one run at most
            if most > tops.size:
                tops, bottoms = np.empty((2, 2 * most), np.int32)
            starts = _grown(starts, 0, x1 - x0 + 1)
            found = _columns(ends, runs, height, x0, x1, starts, tops, bottoms)
            counts, size, end = _band(
                tops[:found], bottoms[:found], starts[: x1 - x0 + 1], x0, height, distances[i], counts
            )
            counts = _grown(counts, size, size + 1)
            if end < height * width:
                counts[size] = height * width - end
                size += 1
            out = _grown(out, used, used + _LONGEST * size)
            lengths[i] = _to_text(counts[:size], out[used:])
        used += lengths[i]
    return out[:used]


@njit(nogil=True, cache=True)
def _successors(starts, tops, bottoms, following):
    """Which horizontal edge comes next along an outline, the mask on its right.

    Edge 2 r is the top of run r, walked to the right, and 2 r + 1 its bottom, walked to the left. Between two edges
    the outline goes straight up or down, or nowhere. Pixels that touch at a corner only are kept apart.
    """
    columns = starts.size - 1
    for x in range(columns):
        q = starts[x + 1]
        q_end = starts[x + 2] if x + 1 < columns else q
        for r in range(starts[x], starts[x + 1]):
            while q < q_end and bottoms[q] <= tops[r]:
                q += 1
            # q is the first run of the next column that ends below the top of r
            if q < q_end and tops[q] <= tops[r]:
                up = tops[q] < tops[r] and r > starts[x] and bottoms[r - 1] > tops[q]
                following[2 * r] = 2 * (r - 1) + 1 if up else 2 * q
            elif q < q_end and tops[q] < bottoms[r]:
                following[2 * r] = 2 * q
            else:
                following[2 * r] = 2 * r + 1
        p = starts[x] - 1
        p_start = starts[x - 1] if x > 0 else starts[x]
        for r in range(starts[x + 1] - 1, starts[x] - 1, -1):
            while p >= p_start and tops[p] >= bottoms[r]:
                p -= 1
            # p is the last run of the column before that begins above the bottom of r
            if p >= p_start and bottoms[p] >= bottoms[r]:
                down = bottoms[p] > bottoms[r] and r + 1 < starts[x + 1] and tops[r + 1] < bottoms[p]
                following[2 * r + 1] = 2 * (r + 1) if down else 2 * p + 1
            elif p >= p_start and bottoms[p] > tops[r]:
                following[2 * r + 1] = 2 * p + 1
            else:
                following[2 * r + 1] = 2 * r


@njit(nogil=True, cache=True)
def _rings(starts, tops, bottoms, x0, corners, ring_starts):
    """The corners of every outline, those of holes drawn into the one around them; returns the number of rings."""
    runs = tops.size
    following, before = np.empty(2 * runs, np.int64), np.empty(2 * runs, np.int64)
    columns, outer = np.empty(runs, np.int64), np.zeros(2 * runs, np.bool_)
    for x in range(starts.size - 1):
        columns[starts[x] : starts[x + 1]] = x0 + x
    _successors(starts, tops, bottoms, following)
    for edge in range(2 * runs):
        before[following[edge]] = edge
    seen = np.zeros(2 * runs, np.bool_)
    for first in range(2 * runs):
        if seen[first]:
            continue
        edge = first
        while not seen[edge]:
            seen[edge] = True
            edge = following[edge]
        if first & 1:
            # A hole is met first at its leftmost column, below a run whose top belongs to an outline met before: the
            # way to that top goes down beside the run, around the hole and up again.
            upper = first - 1
            last, inside = before[upper], following[first]
            following[last], before[inside] = inside, last
            following[first], before[upper] = upper, first
        else:
            outer[first] = True
    rings, used = 0, 0
    ring_starts[0] = 0
    for first in range(2 * runs):
        if not outer[first]:
            continue
        edge = first
        while True:
            nearest = following[edge]
            y = bottoms[edge >> 1] if edge & 1 else tops[edge >> 1]
            next_y = bottoms[nearest >> 1] if nearest & 1 else tops[nearest >> 1]
            if y != next_y:  # else straight on
                x = columns[edge >> 1] + 1 - (edge & 1)
                corners[used, 0], corners[used, 1] = x, y
                corners[used + 1, 0], corners[used + 1, 1] = x, next_y
                used += 2
            edge = nearest
            if edge == first:
                break
        rings += 1
        ring_starts[rings] = used
    return rings


@njit(nogil=True, cache=True)
def _union(intervals, count, pixels, counts):
    """Runs of the union of sorted intervals, each ``start << 32 | end``."""
    size, end = 0, 0
    for i in range(count):
        start, stop = intervals[i] >> 32, intervals[i] & 0xFFFFFFFF
        if size and start <= end:
            counts[size - 1] += max(stop - end, 0)
        else:
            counts[size], counts[size + 1] = start - end, stop - start
            size += 2
        end = max(end, stop)
    if end < pixels or size == 0:
        counts[size] = pixels - end
        size += 1
    return size


@njit(nogil=True, cache=True)
def _draw(coordinates, polygon_starts, mask_starts, sizes, first, last, lengths):
    text, written = np.empty(4096, np.uint8), 0
    points, counts, intervals = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.int64)
    for i in range(first, last):
        height, width = np.int64(sizes[i, 0]), np.int64(sizes[i, 1])
        alone, runs, found = mask_starts[i + 1] - mask_starts[i] == 1, 0, 0
        for polygon in range(mask_starts[i], mask_starts[i + 1]):
            corners = coordinates[polygon_starts[polygon] : polygon_starts[polygon + 1]]
            most = _most_crossings(corners, width) + 1
            points, counts = _grown(points, 0, most), _grown(counts, 0, most)
            runs = _polygon(corners, height, width, points, counts)
            if not alone:
                # one after the other, the unions of many polygons would take the square of their number
                intervals = _grown(intervals, found, found + runs)
                end = 0
                for run in range(0, runs - 1, 2):
                    start = end + counts[run]
                    end = start + counts[run + 1]
                    intervals[found] = start << 32 | end
                    found += 1
        if not alone:
            points, counts = _grown(points, 0, found), _grown(counts, 0, 2 * found + 1)
            runs = _union(_sorted(intervals, found, points), found, height * width, counts)
        text = _grown(text, written, written + _LONGEST * runs)
        lengths[i] = _to_text(counts[:runs], text[written:])
        written += lengths[i]
    return text[:written]


def outlines(ends: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The outlines of a mask along the edges of its pixels, one a 4-connected component.

    A hole belongs to the outline around it, joined by a slit of no width. Corners are places between pixels, 0 at the
    frame, so that the polygons that they make are filled to the very same mask.

    Args:
        ends: where each run ends, column-wise, zeros first.
        height: of the mask.
        width: of the mask.

    Returns:
        ``(P, 2)`` float64 corners x, y of all outlines, none between two others on one line; and where each outline
        begins, and where the last ends.
    """
    ends = frozen(ends, np.int64)
    runs, starts = len(ends), np.empty(width + 1, np.int64)
    most = runs // 2 + width
    tops, bottoms = np.empty(most, np.int64), np.empty(most, np.int64)
    found = _columns(ends, runs, height, 0, width, starts, tops, bottoms)
    corners, ring_starts = np.empty((4 * found, 2)), np.empty(found + 1, np.int64)
    rings = _rings(starts, tops[:found], bottoms[:found], 0, corners, ring_starts)
    return corners[: ring_starts[rings]], ring_starts[: rings + 1]


def texts_of_polygons(
    coordinates: np.ndarray, polygon_starts: np.ndarray, mask_starts: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The text and the offsets of masks, each the union of its polygons, as pycocotools draws and merges them.

    Args:
        coordinates: float64 x, y, x, y ... of all polygons, finite and small enough for 32 bits on a grid of fifths.
        polygon_starts: ``(P + 1,)`` int64, where the coordinates of each polygon begin, and where the last end.
        mask_starts: ``(N + 1,)`` int64, where the polygons of each mask begin, and where the last end.
        sizes: ``(N, 2)`` int32 height and width.
    """
    coordinates, sizes = frozen(coordinates, np.float64), frozen(sizes, np.int32)
    polygon_starts, mask_starts = frozen(polygon_starts, np.int64), frozen(mask_starts, np.int64)

    def draw(i: int, j: int, lengths: np.ndarray) -> np.ndarray:
        return _draw(coordinates, polygon_starts, mask_starts, sizes, i, j, lengths)

    return written(draw, np.diff(polygon_starts[mask_starts]) * 8)


def boundary_texts(
    text: np.ndarray, offsets: np.ndarray, sizes: np.ndarray, distances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The text and the offsets of each mask without its erosion by a square; beyond the image's frame lies no mask.

    Args:
        text: ``(C,)`` uint8, compressed texts back to back, checked before.
        offsets: ``(N + 1,)`` int64, where each begins, and where the last ends.
        sizes: ``(N, 2)`` int32 height and width.
        distances: ``(N,)`` int64, half the width of the square, at least 1; ``2 d + 1`` is the width.
    """
    text, offsets = frozen(text, np.uint8), frozen(offsets, np.int64)
    sizes, distances = frozen(sizes, np.int32), frozen(distances, np.int64)
    return written(lambda i, j, lengths: _bands(text, offsets, sizes, distances, i, j, lengths), np.diff(offsets))

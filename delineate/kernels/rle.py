"""Run-length coded masks as COCO writes them: runs down the columns, 0 first; and polygons drawn to such runs.

The rasteriser and the union repeat pycocotools' arithmetic step by step, so that every run equals its run.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_SCALE = 5.0  # polygon edges are walked on a grid five times finer than the pixels
_NEW = 48  # the first character of the compressed alphabet, "0"


@njit(nogil=True, cache=True)
def _count_changes(columns):
    changes, value = 0, False
    for i in range(columns.size):
        changes += columns[i] != value
        value = columns[i]
    return changes


@njit(nogil=True, cache=True)
def _encode(columns, counts):
    run, start, value = 0, 0, False
    for i in range(columns.size):
        if columns[i] != value:
            counts[run] = i - start
            run, start, value = run + 1, i, columns[i]
    counts[run] = columns.size - start


@njit(nogil=True, cache=True)
def _paint(counts, columns, value):
    start = 0
    for run in range(counts.size):
        end = start + counts[run]
        if run & 1:
            for i in range(start, end):
                columns[i] = value
        start = end


@njit(nogil=True, cache=True)
def _to_text(counts, text):
    place = 0
    for i in range(counts.size):
        rest = counts[i]
        if i > 2:
            rest -= counts[i - 2]
        more = True
        while more:
            part = rest & 31
            rest >>= 5
            more = rest != -1 if part & 16 else rest != 0
            if more:
                part |= 32
            text[place] = part + _NEW
            place += 1
    return place


@njit(nogil=True, cache=True)
def _from_text(text, counts):
    runs, place = 0, 0
    while place < text.size:
        value, shift, more = 0, 0, True
        while more:
            if place == text.size or shift > 55:
                return -1
            part = int(text[place]) - _NEW
            if part < 0 or part > 63:
                return -1
            value |= (part & 31) << shift
            more = (part & 32) != 0
            place += 1
            shift += 5
            if not more and part & 16:
                value |= -1 << shift
        if runs > 2:
            value += counts[runs - 2]
        if value < 0 or value > 1 << 40:
            return -1
        counts[runs] = value
        runs += 1
    return runs


@njit(nogil=True, cache=True)
def _runs_between(points, counts):
    """Runs between sorted crossings; a crossing met twice cancels itself."""
    counts[0] = points[0]
    runs, j = 1, 1
    while j < points.size:
        step = points[j] - points[j - 1]
        j += 1
        if step > 0:
            counts[runs] = step
            runs += 1
        elif j < points.size:
            counts[runs - 1] += points[j] - points[j - 1]
            j += 1
    return runs


@njit(nogil=True, cache=True)
def _most_crossings(corners, width):
    """No outline crosses more columns than this."""
    most, total = 0, corners.size // 2
    for j in range(total):
        k = j + 1 if j + 1 < total else 0
        most += 2 + int(min(abs(corners[2 * k] - corners[2 * j]), np.float64(width)))
    return most


@njit(nogil=True, cache=True)
def _crossings(corners, height, width, points):
    """Where the outline crosses from one pixel column to the next, as offsets into the column-wise image.

    The original walks every step of the fine grid. Only the step from ``5 k + 2`` to ``5 k + 3`` counts for column k,
    so this one goes from column to column; along a steep edge the step is guessed and put right.
    """
    found, total = 0, corners.size // 2
    for j in range(total):
        k = j + 1 if j + 1 < total else 0
        xs, ys = int(_SCALE * corners[2 * j] + 0.5), int(_SCALE * corners[2 * j + 1] + 0.5)
        xe, ye = int(_SCALE * corners[2 * k] + 0.5), int(_SCALE * corners[2 * k + 1] + 0.5)
        dx, dy = abs(xe - xs), abs(ye - ys)
        # (low - 2) / 5 rounded up, (high - 3) / 5 rounded down
        first, last = max((min(xs, xe) + 2) // 5, 0), min((max(xs, xe) - 3) // 5, width - 1)
        columns = last - first + 1
        back = xe < xs  # crossings in the order of the outline are nearly sorted
        if (dx >= dy and back) or (dx < dy and ys > ye):
            xs, xe, ys, ye = xe, xs, ye, ys
        if dx >= dy:
            slope = (ye - ys) / max(dx, 1)
        else:
            slope = (xe - xs) / dy
        for i in range(columns):
            column = last - i if back else first + i
            edge = 5 * column + 2
            if dx >= dy:
                t = edge - xs
                v = min(int(ys + slope * t + 0.5), int(ys + slope * (t + 1) + 0.5))
            else:
                t = min(max(int((edge + 0.5 - xs) / slope), 1), dy)
                if slope > 0:
                    while t > 1 and int(xs + slope * (t - 1) + 0.5) > edge:
                        t -= 1
                    while t < dy and int(xs + slope * t + 0.5) <= edge:
                        t += 1
                else:
                    while t > 1 and int(xs + slope * (t - 1) + 0.5) <= edge:
                        t -= 1
                    while t < dy and int(xs + slope * t + 0.5) > edge:
                        t += 1
                if min(int(xs + slope * (t - 1) + 0.5), int(xs + slope * t + 0.5)) != edge:
                    continue
                v = ys + t - 1
            points[found] = column * height + min(max((v + 2) // 5, 0), height)
            found += 1
    return found


@njit(nogil=True, cache=True)
def _sorted(points, count, spare):
    """``points`` or ``spare``, whichever holds the sorted values: a merge sort of the stretches that are there."""
    start = 0
    while start < count:
        end = start + 1
        while end < count and points[end] < points[end - 1]:
            end += 1
        for i in range((end - start) // 2):
            points[start + i], points[end - 1 - i] = points[end - 1 - i], points[start + i]
        while end < count and points[end] >= points[end - 1]:
            end += 1
        start = end
    source, target = points, spare
    while True:
        start = 0
        while start < count:
            middle = start + 1
            while middle < count and source[middle] >= source[middle - 1]:
                middle += 1
            if start == 0 and middle == count:
                return source
            end = min(middle + 1, count)
            while end < count and source[end] >= source[end - 1]:
                end += 1
            left, right = start, middle
            for place in range(start, end):
                if right == end or (left < middle and source[left] <= source[right]):
                    target[place] = source[left]
                    left += 1
                else:
                    target[place] = source[right]
                    right += 1
            start = end
        if count == 0:
            return source
        source, target = target, source


@njit(nogil=True, cache=True)
def _polygon(corners, height, width, points, counts):
    """Runs of a polygon in ``counts``, which like ``points`` holds :func:`_most_crossings` and one more."""
    found = _crossings(corners, height, width, points)
    crossed = _sorted(points, found, counts)
    if crossed is not points:
        points[:found] = crossed[:found]
    points[found] = height * width
    return _runs_between(points[: found + 1], counts)


@njit(nogil=True, cache=True)
def _merge(first, second, needed, counts):
    """Runs of the pixels inside at least ``needed`` of two masks: 1 for the union, 2 for the intersection."""
    left, right = first[0], second[0]
    value_a = value_b = value = False
    a, b, runs, length = 1, 1, 0, 0
    rest = 1
    while rest > 0:
        step = min(left, right)
        length += step
        rest = 0
        left -= step
        if left == 0 and a < first.size:
            left = first[a]
            a += 1
            value_a = not value_a
        rest += left
        right -= step
        if right == 0 and b < second.size:
            right = second[b]
            b += 1
            value_b = not value_b
        rest += right
        before, value = value, int(value_a) + int(value_b) >= needed
        if value != before or rest == 0:
            counts[runs] = length
            runs += 1
            length = 0
    return runs


def mask_counts(mask: np.ndarray) -> np.ndarray:
    """The run lengths (int64) of an ``(H, W)`` boolean or integer mask: zeros first, down the columns."""
    columns = np.ascontiguousarray(mask.T != 0).reshape(-1)
    counts = np.empty(_count_changes(columns) + 1, np.int64)
    _encode(columns, counts)
    return counts


def counts_mask(counts: np.ndarray, height: int, width: int) -> np.ndarray:
    """The ``(height, width)`` boolean mask of run lengths that sum to its area; column-major in memory."""
    columns = np.zeros(height * width, np.bool_)
    _paint(counts, columns, True)
    return columns.reshape(width, height).T


def paint(counts: np.ndarray, columns: np.ndarray, value: int) -> None:
    """Write ``value`` where the mask is one, into a flat column-major map of as many pixels as the runs sum to."""
    _paint(counts, columns, value)


def counts_area(counts: np.ndarray) -> int:
    """The number of ones."""
    return int(counts[1::2].sum())


def counts_box(counts: np.ndarray, height: int) -> tuple[int, int, int, int]:
    """x, y, width and height of the box around the ones, the whole height where a run goes on into the next column."""
    ends = np.cumsum(counts)
    inside = counts[1::2] > 0
    starts, stops = ends[: len(inside) * 2 : 2][inside], ends[1::2][inside] - 1
    if not starts.size:
        return 0, 0, 0, 0
    x, last = int(starts[0]) // height, int(stops[-1]) // height
    if (starts // height < stops // height).any():
        return x, 0, last - x + 1, height
    y = int((starts % height).min())
    return x, y, last - x + 1, int((stops % height).max()) - y + 1


def counts_text(counts: np.ndarray) -> bytes:
    """The compressed text of run lengths, from the fourth on as their change since the last but one."""
    text = np.empty(counts.size * 13, np.uint8)  # 64 bits at most, 5 a character
    return text[: _to_text(counts, text)].tobytes()


def text_counts(text: bytes) -> np.ndarray | None:
    """The run lengths (int64) of a compressed text; None when it is not one: cut off, negative, a foreign character."""
    counts = np.empty(len(text), np.int64)
    runs = _from_text(np.frombuffer(text, np.uint8), counts)
    return None if runs < 0 else counts[:runs]


def polygon_counts(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """The run lengths of a polygon.

    Args:
        corners: ``(N, 2)`` float64 x, y, finite; the last corner joins the first.
        height: of the mask; what lies outside is cut off.
        width: of the mask.
    """
    flat = np.array(corners, np.float64).reshape(-1)
    most = _most_crossings(flat, width) + 1
    points, counts = np.empty(most, np.int64), np.empty(most, np.int64)
    return counts[: _polygon(flat, height, width, points, counts)]


def union_counts(parts: list[np.ndarray]) -> np.ndarray:
    """The run lengths of the union of masks of one size; a single mask is returned as it is."""
    return _merged(parts, 1)


def intersection_counts(parts: list[np.ndarray]) -> np.ndarray:
    """The run lengths of the intersection of masks of one size; a single mask is returned as it is."""
    return _merged(parts, 2)


def _merged(parts: list[np.ndarray], needed: int) -> np.ndarray:
    """Two by two, so that the work of many small masks does not grow with the square of their number."""
    while len(parts) > 1:
        pairs = []
        for first, second in zip(parts[::2], parts[1::2], strict=False):
            counts = np.empty(first.size + second.size, np.int64)
            pairs.append(counts[: _merge(first, second, needed, counts)])
        parts = pairs + parts[len(pairs) * 2 :]
    return parts[0]

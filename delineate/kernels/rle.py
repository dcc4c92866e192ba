"""Run-length coded masks as COCO writes them: runs down the columns, 0 first; and polygons drawn to such runs.

The rasteriser and the union repeat pycocotools' arithmetic step by step, so that every run equals its run.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_SCALE = 5.0  # polygon edges are walked on a grid five times finer than the pixels
_NEW = 48  # the first character of the compressed alphabet, "0"


@njit(nogil=True, cache=True)
def _count_changes(columns):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    changes, value = 0, False
    for i in range(columns.size):
        changes += columns[i] != value
        value = columns[i]
    return changes


@njit(nogil=True, cache=True)
def _encode(columns, counts):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    run, start, value = 0, 0, False
    for i in range(columns.size):
        if columns[i] != value:
            counts[run] = i - start
            run, start, value = run + 1, i, columns[i]
    counts[run] = columns.size - start


@njit(nogil=True, cache=True)
def _paint(counts, columns, value):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    start = 0
    for run in range(counts.size):
        end = start + counts[run]
        if run & 1:
            for i in range(start, end):
                columns[i] = value
        start = end


@njit(nogil=True, cache=True)
def _to_text(counts, text):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
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
def _from_text(text, counts):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
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
def _boundary(corners, height, width, points):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Where the outline crosses from one pixel column to the next, as offsets into the column-wise image.

    Counts every crossing, and writes as many as ``points`` holds.
    """
    found, total = 0, corners.shape[0]
    last_u, last_v, first = 0, 0, True
    for j in range(total):
        k = j + 1 if j + 1 < total else 0
        xs, ys = int(_SCALE * corners[j, 0] + 0.5), int(_SCALE * corners[j, 1] + 0.5)
        xe, ye = int(_SCALE * corners[k, 0] + 0.5), int(_SCALE * corners[k, 1] + 0.5)
        dx, dy = abs(xe - xs), abs(ye - ys)
        flip = (dx >= dy and xs > xe) or (dx < dy and ys > ye)
        if flip:
            xs, xe, ys, ye = xe, xs, ye, ys
        steps = max(dx, dy)
        slope = 0.0
        if dx >= dy and dx > 0:
            slope = (ye - ys) / dx
        elif dy > dx:
            slope = (xe - xs) / dy
        for d in range(steps + 1):
            t = steps - d if flip else d
            if dx >= dy:
                u, v = t + xs, int(ys + slope * t + 0.5)
            else:
                u, v = int(xs + slope * t + 0.5), t + ys
            if not first and u != last_u:
                x = ((u if u < last_u else u - 1) + 0.5) / _SCALE - 0.5
                if np.floor(x) == x and 0 <= x <= width - 1:
                    y = (min(v, last_v) + 0.5) / _SCALE - 0.5
                    y = np.ceil(min(max(y, 0.0), np.float64(height)))
                    if found < points.size:
                        points[found] = np.int64(x) * height + np.int64(y)
                    found += 1
            last_u, last_v, first = u, v, False
    return found


@njit(nogil=True, cache=True)
def _runs_between(points, counts):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Runs between sorted crossings; a crossing met twice cancels itself."""
    steps = np.empty_like(points)
    last = 0
    for j in range(points.size):
        steps[j] = points[j] - last
        last = points[j]
    counts[0] = steps[0]
    runs, j = 1, 1
    while j < steps.size:
        if steps[j] > 0:
            counts[runs] = steps[j]
            runs += 1
            j += 1
        else:
            j += 1
            if j < steps.size:
                counts[runs - 1] += steps[j]
                j += 1
    return runs


@njit(nogil=True, cache=True)
def _union(first, second, counts):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
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
        before, value = value, value_a or value_b
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


def counts_text(counts: np.ndarray) -> bytes:
    """The compressed text of run lengths, from the fourth on as their change since the last but one."""
    text = np.empty(counts.size * 9, np.uint8)
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
    points = np.empty(4 * (height + width) + 4 * len(corners), np.int64)
    found = _boundary(corners, height, width, points)
    if found > points.size:
        points = np.empty(found, np.int64)
        _boundary(corners, height, width, points)
    ends = np.append(np.sort(points[:found]), height * width)
    counts = np.empty_like(ends)
    return counts[: _runs_between(ends, counts)]


def union_counts(parts: list[np.ndarray]) -> np.ndarray:
    """The run lengths of the union of masks of one size; a single mask is returned as it is."""
    union = parts[0]
    for part in parts[1:]:
        counts = np.empty(union.size + part.size, np.int64)
        union = counts[: _union(union, part, counts)]
    return union

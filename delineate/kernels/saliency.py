"""What the saliency measures need of one map and its mask: counts, moments and weighted errors.

The curves over 256 thresholds follow from two histograms, and the structure measure from the means and the scatter of
the map in eight regions (four quadrants, object and background apart). Only the weighted F-measure looks at
neighbourhoods: its window is needed on the object alone, and its distances only in rows where the map is not zero.

The innermost loops take one row, name each array once and multiply instead of branching: that is what lets the
compiler vectorise them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.distance_transform import nearest_pixels

_LEVELS = 256
_COPIES = 4  # histograms filled in turn: additions to one cell wait for each other, and neighbours are alike
_REACH = 3  # half of the 7 x 7 window
_WINDOW = 2 * _REACH + 1
_SPREAD = 5.0  # the window's sigma in pixels
_HALVING = 5.0  # pixels over which what a false alarm weighs less than 2 halves
_FLAT = 70_226  # squared distance at which 2 - 0.5 ** (distance / 5) has become 2 in float64


@njit(nogil=True, cache=True)
def _look_up(prediction, table, values):
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            values[i, j] = table[prediction[i, j]]


@njit(nogil=True, cache=True)
def _line_counts(mask, rows, columns):
    """Mask pixels of each row and of each column."""
    for i in range(mask.shape[0]):
        line, count = mask[i], 0
        for j in range(line.size):
            count += line[j]
            columns[j] += line[j]
        rows[i] = count


@njit(nogil=True, cache=True)
def _codes(values, mask, codes):
    for j in range(values.size):
        codes[j] = np.int32(values[j] * 255.0) + np.int32(mask[j]) * np.int32(_LEVELS)


@njit(nogil=True, cache=True)
def _count(values, mask, threshold, histograms, above):
    codes = np.empty(values.shape[1], np.int32)
    for i in range(values.shape[0]):
        _codes(values[i], mask[i], codes)
        for j in range(codes.size):
            histograms[np.uint64(j) % np.uint64(_COPIES), np.uint32(codes[j])] += 1
        line, inside, either, both = values[i], mask[i], 0, 0
        for j in range(line.size):
            either += line[j] >= threshold
            both += (line[j] >= threshold) * inside[j]
        above[0] += either - both
        above[1] += both


@njit(nogil=True, cache=True)
def _sum(mask):
    total = 0
    for j in range(mask.size):
        total += mask[j]
    return total


@njit(nogil=True, cache=True)
def _first(values, mask, region):
    j = 0
    while mask[j] != region:
        j += 1
    return values[j]


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _add_row(values, mask, origin0, origin1, sums):
    sum0, square0, sum1, square1 = 0.0, 0.0, 0.0, 0.0
    for j in range(values.size):
        inside = np.float64(mask[j])
        off0, off1 = (values[j] - origin0) * (1.0 - inside), (values[j] - origin1) * inside
        sum0 += off0
        square0 += off0 * off0
        sum1 += off1
        square1 += off1 * off1
    sums[0, 1] += sum0
    sums[0, 2] += square0
    sums[1, 1] += sum1
    sums[1, 2] += square1


@njit(nogil=True, cache=True)
def _moments(values, mask, row, column, moments):
    # sums about a value of the region itself: a constant region scatters by 0 exactly, and little is cancelled
    origins = np.zeros((2, 2, 2))
    for i in range(values.shape[0]):
        lower = int(i >= row)
        for right in range(2):
            line, inside = values[i, :column], mask[i, :column]
            if right:
                line, inside = values[i, column:], mask[i, column:]
            origin, sums = origins[lower, right], moments[lower, right]
            pixels = _sum(inside)
            for region, count in enumerate((line.size - pixels, pixels)):
                if count > 0 and sums[region, 0] == 0:
                    origin[region] = _first(line, inside, region)
                sums[region, 0] += count
            _add_row(line, inside, origin[0], origin[1], sums)
    for lower in range(2):
        for right in range(2):
            for region in range(2):
                sums = moments[lower, right, region]
                if sums[0] > 0:
                    sums[2] -= sums[1] * sums[1] / sums[0]
                    sums[1] = sums[1] / sums[0] + origins[lower, right, region]


@njit(nogil=True, cache=True)
def _not_zero(values, found):
    """The rows that are not all zero."""
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if values[i, j] != 0:
                found[i] = True
                break


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _false_alarms(values, mask, i, rows, columns, decay):
    total = 0.0
    for j in range(values.size):
        column = columns[j]
        down, across = np.int64(rows[np.uint32(column)]) - i, np.int64(column) - j
        squared = min(down * down + across * across, _FLAT)
        total += values[j] * (1.0 - np.float64(mask[j])) * (2.0 - decay[np.uint64(squared)])
    return total


@njit(nogil=True, cache=True)
def _object_errors(values, mask, i, rows, columns, first, errors):
    """Errors of a row from column ``first - 3``; a background pixel takes over that of the nearest object pixel."""
    errors[:] = 0.0  # and so it stays outside the image
    for j in range(max(first - _REACH, 0), min(first - _REACH + errors.size, values.shape[1])):
        if mask[i, j]:
            errors[j - first + _REACH] = 1.0 - values[i, j]
        else:
            column = columns[i, j]
            row = rows[i, column]
            down, across = np.int64(row) - i, np.int64(column) - j
            if down * down + across * across <= 2 * _REACH * _REACH:  # else no object pixel's window reaches here
                errors[j - first + _REACH] = 1.0 - values[row, column]


@njit(nogil=True, cache=True)
def _blur_row(line, taps, out):
    for j in range(out.size):
        out[j] = (
            taps[0] * (line[j] + line[j + 6])
            + taps[1] * (line[j + 1] + line[j + 5])
            + taps[2] * (line[j + 2] + line[j + 4])
            + taps[3] * line[j + 3]
        )


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _misses(values, mask, a, b, c, d, e, f, g, taps):
    total = 0.0
    for j in range(values.size):
        blurred = taps[0] * (a[j] + g[j]) + taps[1] * (b[j] + f[j]) + taps[2] * (c[j] + e[j]) + taps[3] * d[j]
        own = 1.0 - values[j]
        total += (blurred if blurred < own else own) * np.float64(mask[j])
    return total


@njit(nogil=True, cache=True)
def _weigh(values, mask, rows, columns, wanted, box, taps, decay):
    top, bottom, left, right = box  # of the object, the ends not included
    height, background, foreground = values.shape[0], 0.0, 0.0
    for i in range(height):
        if wanted[i]:
            background += _false_alarms(values[i], mask[i], i, rows[i], columns[i], decay)
    errors, ring = np.empty(right - left + 2 * _REACH), np.zeros((_WINDOW, right - left))
    for i in range(top - _REACH, bottom + _REACH):
        here = ring[i % _WINDOW]
        if 0 <= i < height:
            _object_errors(values, mask, i, rows, columns, left, errors)
            _blur_row(errors, taps, here)
        else:
            here[:] = 0.0
        done = i - _REACH
        if done >= top:
            foreground += _misses(
                values[done, left:right],
                mask[done, left:right],
                ring[(i - 6) % _WINDOW],
                ring[(i - 5) % _WINDOW],
                ring[(i - 4) % _WINDOW],
                ring[(i - 3) % _WINDOW],
                ring[(i - 2) % _WINDOW],
                ring[(i - 1) % _WINDOW],
                here,
                taps,
            )
    return background, foreground


def unit_range(prediction: np.ndarray) -> np.ndarray:
    """A saliency map stretched so that its smallest value is 0 and its largest 1.

    Args:
        prediction: ``(H, W)`` uint8, or floating point from 0 to 1, not empty.

    Returns:
        ``(H, W)`` float64, contiguous. A constant map is not stretched: bytes are divided by 255, the rest stays.
    """
    if prediction.dtype == np.uint8:
        table = np.arange(256) / 255
        low, high = table[prediction.min()], table[prediction.max()]
        if low != high:
            table = (table - low) / (high - low)
        values = np.empty(prediction.shape)
        _look_up(frozen(prediction), frozen(table), values)
        return values
    values = prediction.astype(np.float64, order="C")
    low, high = values.min(), values.max()
    if low != high:
        values -= low
        values /= high - low
    return values


def passing_counts(values: np.ndarray, mask: np.ndarray, threshold: float) -> np.ndarray:
    """How many pixels of the background and of the object reach each threshold.

    Args:
        values: ``(H, W)`` float64 from 0 to 1.
        mask: ``(H, W)`` bool, the object.
        threshold: one more threshold, compared with the values themselves.

    Returns:
        ``(2, 257)`` int64, rows background and object: pixels whose value times 255, rounded down, is at least 255,
        254, ... 0; and at last the pixels whose value is at least ``threshold``.
    """
    histograms, above = np.zeros((_COPIES, 2 * _LEVELS + 16), np.int64), np.zeros(2, np.int64)
    _count(frozen(values), _mask_bytes(mask), threshold, histograms, above)
    levels = histograms.sum(axis=0)[: 2 * _LEVELS].reshape(2, _LEVELS)
    return np.concatenate([levels[:, ::-1].cumsum(axis=1), above[:, None]], axis=1)


def quadrant_moments(values: np.ndarray, mask: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """Size, mean and scatter of the map in the four quadrants, the background and the object of each apart.

    Args:
        values: ``(H, W)`` float64.
        mask: ``(H, W)`` bool, the object.
        corner: the first row of the lower quadrants and the first column of the right ones.

    Returns:
        ``(2, 2, 2, 3)`` float64: upper or lower, left or right, background or object; the number of pixels, their mean
        and the sum of their squared differences from it, which is exactly 0 where they are all alike.
    """
    moments = np.zeros((2, 2, 2, 3))
    _moments(frozen(values), _mask_bytes(mask), corner[0], corner[1], moments)
    return moments


def line_counts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(H,)`` and ``(W,)`` int64: the mask pixels of each row and of each column."""
    rows, columns = np.zeros(mask.shape[0], np.int64), np.zeros(mask.shape[1], np.int64)
    _line_counts(_mask_bytes(mask), rows, columns)
    return rows, columns


def weighted_errors(values: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """The two sums of errors behind the weighted F-measure.

    Args:
        values: ``(H, W)`` float64 from 0 to 1.
        mask: ``(H, W)`` bool, the object; at least one pixel.

    Returns:
        The background's: the map itself, weighted from 1 at the object to 2 far from it, ``2 - 0.5 ** (distance / 5)``.
        And the object's: one minus the map, or its Gaussian mean over 7 x 7 pixels (sigma 5, nothing outside the image)
        where that is less; in that mean a background pixel has the error of the object pixel nearest to it.
    """
    row_counts, column_counts = line_counts(mask)
    (top, bottom), (left, right) = (_span(counts) for counts in (row_counts, column_counts))
    wanted = np.zeros(len(values), np.bool_)
    _not_zero(frozen(values), wanted)
    wanted[max(top - _REACH, 0) : bottom + _REACH] = True
    rows, columns = nearest_pixels(mask, wanted)
    offsets = np.arange(-_REACH, _REACH + 1)
    taps = np.exp(-(offsets**2) / (2 * _SPREAD**2))
    box = top, bottom, left, right
    return _weigh(
        frozen(values),
        _mask_bytes(mask),
        frozen(rows),
        frozen(columns),
        frozen(wanted),
        box,
        frozen(taps / taps.sum()),
        _decay(),
    )


@cache
def _decay() -> np.ndarray:
    """``0.5 ** (distance / 5)`` for every squared distance in whole numbers."""
    return frozen(np.exp(np.log(0.5) / _HALVING * np.sqrt(np.arange(_FLAT + 1))))


def _span(counts: np.ndarray) -> tuple[int, int]:
    """Where the counts above 0 begin and end."""
    found = np.flatnonzero(counts)
    return int(found[0]), int(found[-1]) + 1


def _mask_bytes(mask: np.ndarray) -> np.ndarray:
    return frozen(np.ascontiguousarray(mask, np.bool_).view(np.uint8))

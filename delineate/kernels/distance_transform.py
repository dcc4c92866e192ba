"""The exact Euclidean distance transform with the nearest pixel itself, in time linear in the number of pixels.

Down the columns first: two sweeps give every pixel the nearest mask pixel of its own column. Then along the rows: each
column offers a parabola, the squared distance to its pixel, and the lower envelope of these parabolas names the column
of the nearest mask pixel (Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions", 2012; Meijster,
Roerdink, Hesselink, 2000). All quantities are whole numbers, so ties are decided and never rounded.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen

_NOWHERE = np.int32(-(1 << 30))  # the row of a mask pixel in a column without one: further off than any real row


@njit(nogil=True, cache=True)
def _from_above(mask, above, row, nearest):
    for j in range(nearest.size):  # products and one array a name: a branch would keep the loop from being vectorised
        nearest[j] = above[j] + np.int32(row - above[j]) * np.int32(mask[j])


@njit(nogil=True, cache=True)
def _from_below(below, row, nearest):
    for j in range(nearest.size):
        nearer = np.int32(abs(np.int32(below[j] - row))) < np.int32(row - nearest[j])
        nearest[j] += np.int32(below[j] - nearest[j]) * np.int32(nearer)


@njit(nogil=True, cache=True)
def _sweep_columns(mask, rows):
    rows[0] = _NOWHERE
    for i in range(rows.shape[0]):
        _from_above(mask[i], rows[max(i - 1, 0)], np.int32(i), rows[i])
    for i in range(rows.shape[0] - 2, -1, -1):
        _from_below(rows[i + 1], np.int32(i), rows[i])


@njit(nogil=True, cache=True)
def _envelope(rows, row, site, height, start):
    """Columns on the lower envelope of one row, and where each begins to be the nearest; entry 0 is not used."""
    last, y = 0, np.float64(row)
    for column in range(rows.size):
        if rows[column] < 0:
            continue
        x, down = np.float64(column), np.float64(rows[column]) - y
        offer = down * down + x * x
        begin = -0.5
        while last > 0:
            # where the older column is as near; the half keeps the quotient of whole numbers from being whole, so that
            # rounding cannot move it past a pixel, and gives a tie to the older
            begin = (offer - height[last] + 0.5) / (2.0 * (x - site[last]))
            if begin > start[last]:
                break
            last -= 1
            begin = -0.5
        last += 1
        site[last], height[last], start[last] = x, offer, begin
    return last


@njit(nogil=True, cache=True)
def _running_maximum(values):
    """In place, for numbers of at least 0; in four chains, since in one each pixel would wait for the one before."""
    part = values.size // 4
    a = b = c = d = np.int32(0)
    for j in range(part):
        a, b = max(a, values[j]), max(b, values[j + part])
        c, d = max(c, values[j + 2 * part]), max(d, values[j + 3 * part])
        values[j], values[j + part], values[j + 2 * part], values[j + 3 * part] = a, b, c, d
    for j in range(4 * part, values.size):
        d = max(d, values[j])
        values[j] = d
    b = max(a, b)
    c = max(b, c)
    for begin, end, before in ((part, 2 * part, a), (2 * part, 3 * part, b), (3 * part, values.size, c)):
        chain = values[begin:end]
        for j in range(chain.size):
            chain[j] = max(chain[j], before)


@njit(nogil=True, cache=True)
def _sweep_rows(rows, wanted, columns):
    width = rows.shape[1]
    site, height, start = np.empty(width + 1), np.empty(width + 1), np.empty(width + 1)
    for i in range(rows.shape[0]):
        if not wanted[i]:
            continue
        nearest = columns[i]
        nearest[:] = 0
        for k in range(1, _envelope(rows[i], i, site, height, start) + 1):
            first = int(np.floor(start[k])) + 1
            if first < width:
                nearest[first] = np.int32(site[k])
        _running_maximum(nearest)  # columns on the envelope increase, so the last one begun is the largest


@njit(nogil=True, cache=True)
def _measure(rows, columns, distances, nearest):
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            column = columns[i, j]
            row = rows[i, column]
            nearest[0, i, j], nearest[1, i, j] = row, column
            distances[i, j] = np.sqrt(np.float64((row - i) * (row - i) + (column - j) * (column - j)))


def nearest_pixels(mask: np.ndarray, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The nearest mask pixel of every pixel, as the two halves in which it is found.

    Args:
        mask: ``(H, W)`` bool with at least one True.
        wanted: ``(H,)`` bool, the rows to work out; all when None.

    Returns:
        ``rows`` and ``columns``, ``(H, W)`` int32: the mask pixel nearest to ``(i, j)`` is
        ``(rows[i, columns[i, j]], columns[i, j])``. ``rows`` alone holds the nearest mask pixel within a column, and is
        negative in a column without one. Rows of ``columns`` that are not wanted are left as they came from memory.
    """
    mask = np.ascontiguousarray(mask, np.bool_)
    wanted = np.ones(len(mask), np.bool_) if wanted is None else wanted
    rows, columns = np.empty(mask.shape, np.int32), np.empty(mask.shape, np.int32)
    _sweep_columns(frozen(mask.view(np.uint8)), rows)
    _sweep_rows(frozen(rows), frozen(wanted), columns)
    return rows, columns


def distance_transform(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far every pixel is from the nearest pixel of a mask, and which one that is.

    SciPy's ``distance_transform_edt`` measures the way to the nearest zero, so this is its result for ``~mask``; ties
    are decided as there: of equally near pixels the one in the leftmost column, and in that column the topmost.

    Args:
        mask: ``(H, W)`` bool.

    Returns:
        ``(H, W)`` float64 Euclidean distances between pixel centres, 0 on the mask; and ``(2, H, W)`` int32, the row
        and the column of the nearest mask pixel. For a mask without a pixel: infinite and -1.

    Example:
        >>> distances, nearest = distance_transform(np.array([[True, False, False], [False, False, False]]))
        >>> distances.round(3).tolist(), nearest[:, 1, 2].tolist()
        ([[0.0, 1.0, 2.0], [1.0, 1.414, 2.236]], [0, 0])
    """
    if not mask.any():
        return np.full(mask.shape, np.inf), np.full((2, *mask.shape), -1, np.int32)
    distances, nearest = np.empty(mask.shape), np.empty((2, *mask.shape), np.int32)
    rows, columns = nearest_pixels(mask)
    _measure(frozen(rows), frozen(columns), distances, nearest)
    return distances, nearest

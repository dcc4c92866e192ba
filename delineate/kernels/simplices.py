"""Which simplex of the permutohedral lattice holds each point, and how near its corners are.

The steps that treat all points alike run over a block of points at a time, one coordinate after the other, so that the
compiler vectorises them; what remains for each point by itself is to sort by rank and to look its corners up. Integer
codes stand for lattice points: a sum of coordinates times strides, so that a neighbour is one addition away.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.threads import run_pieces

_BLOCK = 128  # points of which the simplices are found together
_CODE_LIMIT = float(1 << 62)
_EMPTY = np.int32(-1)
_FIRST_SIZE = 1 << 12  # of a table, before it grows


@njit(nogil=True, cache=True)
def _slot(code, table_codes, table_rows):
    """Where the code is in an open table, or the empty place where it belongs."""
    mask = np.uint64(table_rows.size - 1)
    mixed = np.uint64(code) * np.uint64(0x9E3779B97F4A7C15)
    slot = (mixed ^ (mixed >> np.uint64(32))) & mask
    while table_rows[slot] >= 0 and table_codes[slot] != code:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(nogil=True, cache=True)
def _grown(codes, count, table_rows):
    """The same entries in a table of twice the size, which leaves room to double their number."""
    table_rows = np.empty(2 * table_rows.size, np.int32)
    for slot in range(table_rows.size):
        table_rows[slot] = _EMPTY
    table_codes = np.empty(table_rows.size, np.int64)
    longer = np.empty(table_rows.size // 2, np.int64)
    for row in range(count):
        longer[row] = codes[row]
        place = _slot(codes[row], table_codes, table_rows)
        table_codes[place], table_rows[place] = codes[row], row
    return longer, table_codes, table_rows


@njit(nogil=True, cache=True)
def _extent(features, low, high):
    for i in range(features.shape[0]):
        for k in range(features.shape[1]):
            x = features[i, k]
            low[k], high[k] = min(low[k], x), max(high[k], x)
            if np.isnan(x):  # which no comparison keeps
                high[k] = np.inf


@njit(nogil=True, cache=True)
def _clear(size, total, surplus, code, rank):
    for j in range(size):
        total[j], surplus[j], code[j] = np.float32(0.0), 0, 0
    for k in range(rank.shape[0]):
        line = rank[k]
        for j in range(size):
            line[j] = 0


@njit(nogil=True, cache=True)
def _fetch(features, first, size, feature, factor, line):
    for j in range(size):
        line[j] = features[first + j, feature] * factor


@njit(nogil=True, cache=True)
def _elevate(line, size, step, total, elevated):
    for j in range(size):
        elevated[j] = total[j] - step * line[j]
        total[j] += line[j]


@njit(nogil=True, cache=True)
def _round(elevated, size, corners, stride, surplus, code):
    """What is left of a coordinate after the nearest multiple of D + 1, in place."""
    inverse = np.float32(1.0) / corners
    for j in range(size):
        whole = np.rint(elevated[j] * inverse)
        elevated[j] -= whole * corners
        surplus[j] += np.int32(whole)
        code[j] += np.int64(np.int32(whole)) * stride


@njit(nogil=True, cache=True)
def _rank(residual, other, size, rank, other_rank):
    for j in range(size):
        less = np.int32(residual[j] < other[j])
        rank[j] += less
        other_rank[j] += np.int32(1) - less


@njit(nogil=True, cache=True)
def _turn(rank, size, surplus, corners, stride, residual, code):
    """Add the surplus to the rank, round the circle; who passes its end moves by one multiple of D + 1."""
    most = np.int32(corners - np.float32(1.0))
    inverse = np.float32(1.0) / corners
    for j in range(size):
        place = rank[j] + min(max(surplus[j], -most), most)  # bounds: where float32 ends, memory is still safe
        turns = np.int32(place > most) - np.int32(place < np.int32(0))
        rank[j] = place - turns * np.int32(corners)
        residual[j] = residual[j] * inverse + np.float32(turns)
        code[j] -= np.int64(turns) * stride


@njit(nogil=True, cache=True)
def _simplices(features, first, size, scale, strides, line, elevated, rank, surplus, code):
    """Rank, residual (in ``elevated``) and the code of the first corner for a block of points, all points at a time."""
    corners, total = np.float32(scale.size + 1), elevated[0]
    _clear(size, total, surplus, code, rank)
    # onto the hyperplane of coordinates that add up to 0, scaled so that the blur has the variance of the Gaussian
    for k in range(scale.size, 0, -1):
        _fetch(features, first, size, k - 1, scale[k - 1], line)
        _elevate(line, size, np.float32(k), total, elevated[k])
    # to the nearest multiples of D + 1; what these miss of adding up to 0 is put right by rank
    for k in range(scale.size + 1):
        _round(elevated[k], size, corners, strides[k], surplus, code)
    for k in range(scale.size + 1):
        for m in range(k + 1, scale.size + 1):
            _rank(elevated[k], elevated[m], size, rank[k], rank[m])
    for k in range(scale.size + 1):
        _turn(rank[k], size, surplus, corners, strides[k], elevated[k], code)


@njit(nogil=True, cache=True)
def _corners(first, size, elevated, rank, code, step_of, table_codes, table_rows, codes, count, weights, rows):
    """Weights and corners of a block of points; returns how many corners the table then holds."""
    corners = rows.shape[1]
    sorted_by_rank, steps = np.empty(corners, np.float32), np.empty(corners, np.int64)
    for j in range(size):
        for k in range(corners):
            place = np.uint64(rank[k, j])
            sorted_by_rank[place] = elevated[k, j]
            steps[place] = step_of[k]
        # differences of neighbours in the order of rank are the weights, and each corner is one step further
        i, last, here = first + j, corners - 1, code[j]
        weights[i, 0] = np.float32(1.0) - sorted_by_rank[0] + sorted_by_rank[last]
        for r in range(corners):
            if r:
                weights[i, r] = sorted_by_rank[last - r] - sorted_by_rank[corners - r]
            slot = _slot(here, table_codes, table_rows)
            if table_rows[slot] < 0:
                table_codes[slot], table_rows[slot] = here, count
                codes[count] = here
                count += 1
            rows[i, r] = table_rows[slot]
            here += steps[last - r]
    return count


@njit(nogil=True, cache=True)
def _embed(features, scale, strides, steps, weights, rows):
    """Weights and corners of the points of one band; returns the codes of the corners in the order of their meeting.

    ``strides`` are what D + 1 along a coordinate adds to a code, ``steps`` what leads to the next corner.
    """
    points, corners = rows.shape
    line, elevated = np.empty(_BLOCK, np.float32), np.empty((corners, _BLOCK), np.float32)
    rank, surplus = np.empty((corners, _BLOCK), np.int32), np.empty(_BLOCK, np.int32)
    code = np.empty(_BLOCK, np.int64)
    codes, table_codes, table_rows = _grown(code, 0, np.empty(_FIRST_SIZE // 2, np.int32))
    count = 0
    for first in range(0, points, _BLOCK):
        size = min(_BLOCK, points - first)
        _simplices(features, first, size, scale, strides, line, elevated, rank, surplus, code)
        while 2 * (count + size * corners) > table_rows.size:
            codes, table_codes, table_rows = _grown(codes, count, table_rows)
        count = _corners(first, size, elevated, rank, code, steps, table_codes, table_rows, codes, count, weights, rows)
    return codes[:count]


@njit(nogil=True, cache=True)
def _number(codes, found, count, table_codes, table_rows, members):
    for row in range(codes.size):
        slot = _slot(codes[row], table_codes, table_rows)
        if table_rows[slot] < 0:
            table_codes[slot], table_rows[slot] = codes[row], count
            found[count] = codes[row]
            count += 1
        members[row] = table_rows[slot]
    return count


@njit(nogil=True, cache=True)
def _join(codes, bounds, members):
    """Number the lattice points of all bands in the order of their meeting; the table, and the codes by number."""
    found, table_codes, table_rows = _grown(np.empty(0, np.int64), 0, np.empty(_FIRST_SIZE // 2, np.int32))
    count = 0
    for band in range(bounds.size - 1):
        own = codes[bounds[band] : bounds[band + 1]]
        while 2 * (count + own.size) > table_rows.size:
            found, table_codes, table_rows = _grown(found, count, table_rows)
        count = _number(own, found, count, table_codes, table_rows, members[bounds[band] : bounds[band + 1]])
    return table_codes, table_rows, found[:count]


@njit(nogil=True, cache=True)
def _look_around(codes, table_codes, table_rows, steps, begin, end, neighbours):
    for axis in range(steps.size):
        for i in range(begin, end):
            for side in range(2):
                step = steps[axis] if side else -steps[axis]
                row = table_rows[_slot(codes[i] + step, table_codes, table_rows)]
                neighbours[axis, i, side] = row if row >= 0 else codes.size


def _strides(span: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Strides that give every lattice point in reach of the features a code of its own.

    Where 62 bits do not hold that many, odd numbers without a pattern stand in: two of a million lattice points then
    share a code with a chance below 1e-6.
    """
    dimensions = span.size
    reach = np.abs(elevation[:dimensions]) @ span + 8 * (dimensions + 1)  # neighbours of neighbours as well
    sizes = np.ceil(np.concatenate([[1.0], reach]))
    if sizes.prod() < _CODE_LIMIT:
        return np.append(sizes.cumprod()[:-1], 0).astype(np.int64)
    drawn = np.random.default_rng(0).integers(-(1 << 62), 1 << 62, dimensions)
    return np.append(drawn | 1, 0)


def _span(features: np.ndarray, bands: list[tuple[int, int]]) -> np.ndarray:
    """``(D,)`` float64, how far apart the features are along each dimension."""
    low = np.full((len(bands), features.shape[1]), np.inf, np.float32)
    high = -low
    run_pieces(lambda band: _extent(features[slice(*bands[band])], low[band], high[band]), range(len(bands)))
    if len(features) == 0:
        return np.zeros(features.shape[1])
    span: np.ndarray = high.max(axis=0).astype(float) - low.min(axis=0)
    if not np.isfinite(span).all():  # read anyway; without a simplex, the loops would write anywhere
        raise ValueError("features must be finite")
    return span


def _scale(dimensions: int) -> np.ndarray:
    """What each feature is multiplied by so that one lattice blur has the variance of a Gaussian of sigma 1."""
    k = np.arange(dimensions)
    return np.sqrt(2 / 3) * (dimensions + 1) / np.sqrt((k + 1) * (k + 2))


def embedded(
    features: np.ndarray, bands: list[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Simplices of points in any number of dimensions, and the neighbours of all lattice points that they touch.

    Args:
        features: ``(N, D)`` float32, finite.
        bands: where the bands of points begin and end; each numbers its corners for itself.

    Returns:
        ``weights`` ``(N, D + 1)`` float32; ``rows`` ``(N, D + 1)`` int32, the corners numbered band by band;
        ``members`` ``(R,)`` int32, the lattice point of each of these rows; ``row_bounds`` ``(bands + 1,)`` int64,
        where each band's rows begin; ``neighbours`` ``(D + 1, M, 2)`` int32 as in a lattice.

    Raises:
        ValueError: for a feature that is not finite, for which there is no simplex.
    """
    points, dimensions = features.shape
    features = frozen(features, np.float32)
    scale = _scale(dimensions)
    elevation = np.triu(np.ones((dimensions + 1, dimensions + 1)))[:, 1:] * scale
    elevation[np.arange(1, dimensions + 1), np.arange(dimensions)] = -np.arange(1, dimensions + 1) * scale
    strides = _strides(_span(features, bands), elevation)
    steps = frozen(strides.sum() - (dimensions + 1) * strides)
    strides = frozen((dimensions + 1) * strides)  # codes may pass the end of 64 bits, and come round
    scale = frozen(scale, np.float32)
    weights = np.empty((points, dimensions + 1), np.float32)
    rows = np.empty((points, dimensions + 1), np.int32)

    def embed(band: tuple[int, int]) -> np.ndarray:
        piece = slice(*band)
        codes: np.ndarray = _embed(features[piece], scale, strides, steps, weights[piece], rows[piece])
        return codes

    codes = run_pieces(embed, bands)
    row_bounds = np.concatenate([[0], np.cumsum([len(found) for found in codes])]).astype(np.int64)
    members = np.empty(row_bounds[-1], np.int32)
    table_codes, table_rows, found = _join(frozen(np.concatenate(codes)), frozen(row_bounds), members)
    neighbours = np.empty((dimensions + 1, len(found), 2), np.int32)

    def finish(band: int) -> None:
        begin, end = bands[band]
        rows[begin:end] += np.int32(row_bounds[band])
        part = len(found) * band // len(bands), len(found) * (band + 1) // len(bands)
        _look_around(found, table_codes, table_rows, steps, *part, neighbours)

    run_pieces(finish, range(len(bands)))
    return weights, rows, members, row_bounds, neighbours

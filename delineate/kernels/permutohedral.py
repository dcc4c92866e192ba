"""Gaussian filtering of points in any number of dimensions, on the permutohedral lattice.

Every point hands its values to the corners of the lattice simplex around it (splat), the lattice is blurred along its
axes, and the point collects from the same corners (slice): work that grows with the number of points, where the sum
over all pairs grows with its square (Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral
Lattice", Eurographics 2010).

The points are cut into bands, by their number alone: each band has rows of its own for the corners that it meets, and
the rows of one corner are added up in the order of the bands. Threads therefore never write to the same place, and the
result does not depend on how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.lanes import LANES, add, fill, load, multiply_add, store
from delineate.kernels.simplices import embedded
from delineate.kernels.threads import run_pieces

_BAND = 1 << 15  # points of a band, about
_MOST_BANDS = 32


@dataclass(frozen=True)
class Lattice:
    """Where points lie on a permutohedral lattice: N points of D dimensions, of which M lattice points are near.

    Args:
        weights: ``(N, D + 1)`` float32, a point's barycentric weights; they add up to 1.
        neighbours: ``(D + 1, M, 2)`` int32, the lattice points before and behind along each axis; M where the lattice
            has none.
        rows: ``(N, D + 1)`` int32, the corners of a point, numbered band by band.
        members: ``(R,)`` int32, the lattice point of each of these rows.
        row_bounds: ``(bands + 1,)`` int64, where the rows of each band begin.
        order: ``(R,)`` int32, all rows by their lattice point.
        order_bounds: ``(M + 1,)`` int64, where in ``order`` the rows of each lattice point begin.
    """

    weights: np.ndarray
    neighbours: np.ndarray
    rows: np.ndarray
    members: np.ndarray
    row_bounds: np.ndarray
    order: np.ndarray
    order_bounds: np.ndarray

    @property
    def vertices(self) -> np.ndarray:
        """``(N, D + 1)`` int32, the lattice points at the corners of the simplex around each point."""
        return self.members[self.rows]

    @property
    def bands(self) -> list[tuple[int, int]]:
        """Where each band of points begins and ends."""
        return cuts(len(self.rows), len(self.row_bounds) - 1)

    @property
    def gain(self) -> float:
        """What makes up for the blur, whose three weights add up to 2 along each axis."""
        return 1.0 / (1.0 + 2.0 ** -(self.weights.shape[1] - 1))


def cuts(length: int, pieces: int) -> list[tuple[int, int]]:
    """``(begin, end)`` of nearly equal pieces of ``range(length)``."""
    bounds = [length * piece // pieces for piece in range(pieces + 1)]
    return list(pairwise(bounds))


def padded(channels: int) -> int:
    """The next multiple of ``LANES``: how many numbers a row of that many channels takes."""
    return -(-channels // LANES) * LANES


@njit(nogil=True, cache=True)
def _sort(members, order, bounds):
    """Counting sort of the rows by lattice point."""
    for row in range(members.size):
        bounds[members[row] + 1] += 1
    for vertex in range(bounds.size - 1):
        bounds[vertex + 1] += bounds[vertex]
    place = bounds[:-1].copy()
    for row in range(members.size):
        order[place[members[row]]] = row
        place[members[row]] += 1


@njit(nogil=True, cache=True)
def _splat(rows, weights, values, width, begin, end, sums):
    corners = rows.shape[1]
    for i in range(begin, end):
        for k in range(corners):
            row, weight = rows[i, k] * width, fill(weights[i, k])
            for c in range(0, width, LANES):
                store(sums, row + c, multiply_add(weight, load(values, i * width + c), load(sums, row + c)))


@njit(nogil=True, cache=True)
def _gather(sums, order, bounds, width, begin, end, values):
    for vertex in range(begin, end):
        for c in range(0, width, LANES):
            value = fill(np.float32(0.0))
            for place in range(bounds[vertex], bounds[vertex + 1]):
                value = add(value, load(sums, order[place] * width + c))
            store(values, vertex * width + c, value)


@njit(nogil=True, cache=True)
def _blur(neighbours, old, width, begin, end, new):
    half = fill(np.float32(0.5))
    for i in range(begin, end):
        before, behind = neighbours[i, 0] * width, neighbours[i, 1] * width
        for c in range(0, width, LANES):
            both = add(load(old, before + c), load(old, behind + c))
            store(new, i * width + c, multiply_add(half, both, load(old, i * width + c)))


@njit(nogil=True, cache=True)
def _slice(rows, members, weights, values, width, gain, begin, end, out):
    corners = rows.shape[1]
    for i in range(begin, end):
        for c in range(0, width, LANES):
            value = fill(np.float32(0.0))
            for k in range(corners):
                place = members[rows[i, k]] * width + c
                value = multiply_add(fill(weights[i, k] * gain), load(values, place), value)
            store(out, i * width + c, value)


@njit(nogil=True, cache=True)
def _splat_ones(rows, weights, begin, end, sums):
    for i in range(begin, end):
        for k in range(rows.shape[1]):
            sums[np.uint64(rows[i, k] * LANES)] += weights[i, k]


@njit(nogil=True, cache=True)
def _slice_ones(rows, members, weights, values, gain, begin, end, out):
    for i in range(begin, end):
        value = np.float32(0.0)
        for k in range(rows.shape[1]):
            value += weights[i, k] * values[np.uint64(members[np.uint64(rows[i, k])] * LANES)]
        out[i] = value * gain


def build_lattice(features: np.ndarray) -> Lattice:
    """The part of the permutohedral lattice that points touch, for any number of filterings with the same points.

    Source: Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010.
    Differs: lattice points are found by a code of one integer; rows by bands, see the module.

    Args:
        features: ``(N, D)`` float32, finite, each divided by the Gaussian's standard deviation along it.

    Returns:
        The lattice, to be handed to :func:`filter_values`.

    Example:
        >>> lattice = build_lattice(np.array([[0.0, 0.0], [0.0, 0.0], [9.0, 9.0]], np.float32))
        >>> lattice.vertices.tolist(), lattice.neighbours.shape
        ([[0, 1, 2], [0, 1, 2], [3, 4, 5]], (3, 6, 2))
    """
    points = len(features)
    bands = cuts(points, min(1 << max(0, (points // _BAND).bit_length() - 1), _MOST_BANDS))
    weights, rows, members, row_bounds, neighbours = embedded(features, bands)
    order, order_bounds = np.empty(len(members), np.int32), np.zeros(neighbours.shape[1] + 1, np.int64)
    _sort(members, order, order_bounds)
    return Lattice(weights, neighbours, rows, members, row_bounds, order, order_bounds)


def blurred(
    lattice: Lattice, sums: np.ndarray, buffers: tuple[np.ndarray, np.ndarray], *, reverse: bool = False
) -> np.ndarray:
    """The values of the lattice points after the blur, from the sums that the bands' rows hold.

    Args:
        lattice: of M lattice points and R rows.
        sums: ``(R * width,)`` float32, width a multiple of ``LANES``.
        buffers: to work in, from :func:`work_space`; the last row of each is set to 0.
        reverse: along the axes from the last to the first.

    Returns:
        The buffer in which the result is.
    """
    vertices = lattice.neighbours.shape[1]
    width = buffers[0].size // (vertices + 1)
    pieces = cuts(vertices, max(1, min(16, vertices * width // 8192)))
    old, new = buffers
    old[vertices * width :] = new[vertices * width :] = 0.0
    run_pieces(lambda cut: _gather(sums, lattice.order, lattice.order_bounds, width, *cut, old), pieces)
    axes = range(len(lattice.neighbours))
    for axis in reversed(axes) if reverse else axes:
        neighbours = lattice.neighbours[axis]
        run_pieces(lambda cut, n=neighbours, a=old, b=new: _blur(n, a, width, cut[0], cut[1], b), pieces)
        old, new = new, old
    return old


def reach(lattice: Lattice) -> np.ndarray:
    """``(N,)`` float32: how much of other points reaches each point, the filter of ones."""
    rows, members, weights, bands = lattice.rows, lattice.members, lattice.weights, lattice.bands
    sums, out = np.zeros(len(members) * LANES, np.float32), np.empty(len(rows), np.float32)
    run_pieces(lambda band: _splat_ones(rows, weights, *band, sums), bands)
    values = blurred(lattice, sums, work_space(lattice, LANES))
    gain = np.float32(lattice.gain)
    run_pieces(lambda band: _slice_ones(rows, members, weights, values, gain, *band, out), bands)
    return out


def work_space(lattice: Lattice, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays for :func:`blurred`: a row for each lattice point, and one for where the lattice has none."""
    size = (lattice.neighbours.shape[1] + 1) * width
    return np.empty(size, np.float32), np.empty(size, np.float32)


def filter_values(lattice: Lattice, values: np.ndarray, *, reverse: bool = False) -> np.ndarray:
    """For every point the sum of all points' values, each weighted by a Gaussian of the distance, nearly.

    The lattice is an approximation. Its kernel is piecewise linear and depends a little on where a point lies in its
    simplex; it adds up to less than the Gaussian (12 % less on a grid of two dimensions), which a normalisation by
    :func:`reach` undoes. Where points are sparse the blur meets holes, and distant points receive less than is due.

    Args:
        lattice: of N points, from :func:`build_lattice`.
        values: ``(N, C)`` float32.
        reverse: blur along the axes in the opposite order, which is exactly the adjoint (transpose) of the filter: the
            gradient by the values is the reverse filter of the gradient by the result.

    Returns:
        ``(N, C)`` float32.

    Example:
        >>> lattice = build_lattice(np.array([[0.0], [0.0], [50.0]], np.float32))
        >>> filter_values(lattice, np.array([[1.0], [2.0], [4.0]], np.float32)).ravel().astype(float).round(3).tolist()
        [2.5, 2.5, 3.074]
    """
    points, channels = values.shape
    width = padded(channels)
    wide = frozen(values, np.float32)
    if width != channels:
        wide = np.zeros((points, width), np.float32)
        wide[:, :channels] = values
    flat, out = frozen(wide.reshape(-1)), np.empty(points * width, np.float32)
    sums = np.zeros(len(lattice.members) * width, np.float32)
    rows, members, weights, bands = lattice.rows, lattice.members, lattice.weights, lattice.bands
    run_pieces(lambda band: _splat(rows, weights, flat, width, *band, sums), bands)
    vertex_values = blurred(lattice, sums, work_space(lattice, width), reverse=reverse)
    gain = np.float32(lattice.gain)
    run_pieces(lambda band: _slice(rows, members, weights, vertex_values, width, gain, *band, out), bands)
    return np.ascontiguousarray(out.reshape(points, width)[:, :channels])

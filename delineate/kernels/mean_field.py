"""Mean field of a dense conditional random field, on permutohedral lattices.

One visit to a pixel does all that one iteration needs of it: collect from the corners of every lattice, take the
softmax, hand the new probabilities to the same corners for the next iteration. The corners of all lattices stand side
by side in one list, and the probabilities themselves are never kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.lanes import (
    LANES,
    add,
    exponential,
    fill,
    larger,
    largest,
    load,
    multiply_add,
    store,
    total,
)
from delineate.kernels.permutohedral import Lattice, blurred, cuts, padded, reach, work_space
from delineate.kernels.threads import run_pieces

_NEVER = np.float32(-1e30)  # the logit of the labels that only fill up a row
_TILE = 64  # pixels that go through each step together
_TILE_NUMBERS = 1 << 13  # and not more than fit into the nearest cache


class PairwiseKernel(NamedTuple):
    """One Gaussian kernel of the energy.

    Args:
        lattice: of the N points.
        potential: what agreement is worth: ``(K,)`` float32, for each label, or ``(K, K)`` float32, what label ``k``
            gains from neighbours of label ``l`` at ``[k, l]``.
    """

    lattice: Lattice
    potential: np.ndarray


@njit(nogil=True, cache=True)
def _interleave(planes, width, begin, end, rows):
    labels = planes.shape[0]
    for first in range(begin, end, _TILE):
        last = min(first + _TILE, end)
        for label in range(width):
            if label < labels:
                for i in range(first, last):
                    rows[np.uint64(i * width + label)] = planes[label, i]
            else:
                for i in range(first, last):
                    rows[np.uint64(i * width + label)] = _NEVER


@njit(nogil=True, cache=True)
def _separate(rows, width, begin, end, planes):
    for first in range(begin, end, _TILE):
        last = min(first + _TILE, end)
        for label in range(planes.shape[0]):
            for i in range(first, last):
                planes[label, i] = rows[np.uint64(i * width + label)]


@njit(nogil=True, cache=True)
def _scale(weights, factors, begin, end, column, out):
    for i in range(begin, end):
        for k in range(weights.shape[1]):
            out[i, column + k] = weights[i, k] * factors[i]


@njit(nogil=True, cache=True)
def _shift(rows, offset, begin, end, column, out):
    for i in range(begin, end):
        for k in range(rows.shape[1]):
            out[i, column + k] = rows[i, k] + offset


@njit(nogil=True, cache=True)
def _spread(values, members, factors, width, begin, end, offset, spread):
    """Give every row of a band the value of its lattice point, times a factor for each label."""
    for row in range(begin, end):
        source, target = members[row] * width, (offset + row) * width
        for c in range(0, width, LANES):
            value = multiply_add(load(values, source + c), load(factors, c), fill(np.float32(0.0)))
            store(spread, target + c, value)


@njit(nogil=True, cache=True)
def _collect(logits, rows, weights, spread, width, first, last, tile):
    for i in range(first, last):
        here, there, c = (i - first) * width, i * width, 0
        while c + 3 * LANES <= width:
            one, two = load(logits, there + c), load(logits, there + c + LANES)
            three = load(logits, there + c + 2 * LANES)
            for k in range(weights.shape[1]):
                place, weight = rows[i, k] * width + c, fill(weights[i, k])
                one = multiply_add(weight, load(spread, place), one)
                two = multiply_add(weight, load(spread, place + LANES), two)
                three = multiply_add(weight, load(spread, place + 2 * LANES), three)
            store(tile, here + c, one)
            store(tile, here + c + LANES, two)
            store(tile, here + c + 2 * LANES, three)
            c += 3 * LANES
        while c < width:
            one = load(logits, there + c)
            for k in range(weights.shape[1]):
                one = multiply_add(fill(weights[i, k]), load(spread, rows[i, k] * width + c), one)
            store(tile, here + c, one)
            c += LANES


@njit(nogil=True, cache=True)
def _softmax(tile, width, points):
    for here in range(0, points * width, width):
        top = fill(_NEVER)
        for c in range(here, here + width, LANES):
            top = larger(top, load(tile, c))
        lowered, whole = fill(-largest(top)), fill(np.float32(0.0))
        for c in range(here, here + width, LANES):
            value = exponential(add(load(tile, c), lowered))
            store(tile, c, value)
            whole = add(whole, value)
        share, zero = fill(np.float32(1.0) / total(whole)), fill(np.float32(0.0))
        for c in range(here, here + width, LANES):
            store(tile, c, multiply_add(load(tile, c), share, zero))


@njit(nogil=True, cache=True)
def _hand_out(tile, rows, weights, sums, width, first, last):
    for i in range(first, last):
        here, c = (i - first) * width, 0
        while c + 3 * LANES <= width:
            one, two, three = load(tile, here + c), load(tile, here + c + LANES), load(tile, here + c + 2 * LANES)
            for k in range(weights.shape[1]):
                place, weight = rows[i, k] * width + c, fill(weights[i, k])
                store(sums, place, multiply_add(weight, one, load(sums, place)))
                place += LANES
                store(sums, place, multiply_add(weight, two, load(sums, place)))
                place += LANES
                store(sums, place, multiply_add(weight, three, load(sums, place)))
            c += 3 * LANES
        while c < width:
            one = load(tile, here + c)
            for k in range(weights.shape[1]):
                place = rows[i, k] * width + c
                store(sums, place, multiply_add(fill(weights[i, k]), one, load(sums, place)))
            c += LANES


@njit(nogil=True, cache=True)
def _visit(logits, rows, collecting, spread, handing, sums, width, begin, end, kept):
    """One iteration at the pixels of a band; arrays of no columns, or of no length, skip what they are for.

    Some pixels at a time: the processor works on several of them at once where no step waits for the one before.
    """
    step = max(4, min(_TILE, _TILE_NUMBERS // width))
    tile = np.empty(step * width, np.float32)
    for first in range(begin, end, step):
        last = min(first + step, end)
        _collect(logits, rows, collecting, spread, width, first, last, tile)
        _softmax(tile, width, last - first)
        for place in range(0, (last - first) * width if kept.size else 0, LANES):
            store(kept, first * width + place, load(tile, place))
        _hand_out(tile, rows, handing, sums, width, first, last)


@njit(nogil=True, cache=True)
def _place(image, sigma, sigma_colour, begin, end, features):
    for row in range(begin, end):
        for column in range(image.shape[1]):
            here = features[row, column]
            here[0], here[1] = np.float32(column) / sigma, np.float32(row) / sigma
            for channel in range(image.shape[2]):
                here[2 + channel] = np.float32(image[row, column, channel]) / sigma_colour


def pixel_features(image: np.ndarray, *, sigma: float, sigma_colour: float = 1.0) -> np.ndarray:
    """Column, row and colours of every pixel, each over its standard deviation: the features of the bilateral kernel.

    Args:
        image: ``(H, W, C)`` uint8; without a channel the features are those of the Gaussian kernel.
        sigma: pixels.
        sigma_colour: levels of 0 to 255.

    Returns:
        ``(H * W, 2 + C)`` float32.

    Example:
        >>> pixel_features(np.full((1, 2, 1), 26, np.uint8), sigma=2.0, sigma_colour=13.0).tolist()
        [[0.0, 0.0, 2.0], [0.5, 0.0, 2.0]]
    """
    height, width, channels = image.shape
    image, features = frozen(image, np.uint8), np.empty((height, width, 2 + channels), np.float32)
    sigmas = np.float32(sigma), np.float32(sigma_colour)
    run_pieces(lambda rows: _place(image, *sigmas, *rows, features), cuts(height, 16))
    return features.reshape(height * width, 2 + channels)


def _normalisers(lattice: Lattice, normalisation: str) -> tuple[np.ndarray, np.ndarray]:
    """``(N,)`` float32 factors of each point before and after the filter."""
    ones = np.ones(len(lattice.rows), np.float32)
    if normalisation == "none":
        return ones, ones
    reached = reach(lattice) + np.float32(1e-20)
    if normalisation == "symmetric":
        factors = 1 / np.sqrt(reached)
        return factors, factors
    return (1 / reached, ones) if normalisation == "before" else (ones, 1 / reached)


class _Field:
    """The arrays of one image; bands of pixels are visited in any order, their rows belong to them alone."""

    def __init__(self, logits: np.ndarray, kernels: Sequence[PairwiseKernel], normalisation: str) -> None:
        labels, points = logits.shape
        self.planes, self.kernels, self.width = frozen(logits, np.float32), kernels, padded(labels)
        self.lattices = [kernel.lattice for kernel in kernels]
        self.bands = self.lattices[0].bands if kernels else cuts(points, 1)
        self.first_rows = np.cumsum([0, *(len(lattice.members) for lattice in self.lattices)])
        self.norms = [_normalisers(lattice, normalisation) for lattice in self.lattices]
        self.factors = [np.zeros(self.width, np.float32) for _ in kernels]
        for kernel, factors in zip(kernels, self.factors, strict=True):
            factors[:labels] = kernel.lattice.gain * (kernel.potential if kernel.potential.ndim == 1 else 1.0)
        corners = sum(lattice.rows.shape[1] for lattice in self.lattices)
        self.rows = np.empty((points, corners), np.int32)
        self.handing = self.collecting = np.empty((points, corners), np.float32)
        if normalisation in ("before", "after"):
            self.collecting = np.empty((points, corners), np.float32)
        self.lines = np.empty(points * self.width, np.float32)
        self.buffers = [work_space(lattice, self.width) for lattice in self.lattices]
        self.values = [buffers[0] for buffers in self.buffers]
        self.sums = np.empty(self.first_rows[-1] * self.width, np.float32)
        self.spread = np.empty_like(self.sums)
        run_pieces(self._prepare, self.bands)

    def _prepare(self, band: tuple[int, int]) -> None:
        """Copy the band's part of all lattices side by side, the normalisation within the weights."""
        _interleave(self.planes, self.width, *band, self.lines)
        column = 0
        for lattice, (before, after), first_row in zip(self.lattices, self.norms, self.first_rows[:-1], strict=True):
            _shift(lattice.rows, np.int32(first_row), *band, column, self.rows)
            _scale(lattice.weights, before, *band, column, self.handing)
            if self.collecting is not self.handing:
                _scale(lattice.weights, after, *band, column, self.collecting)
            column += lattice.rows.shape[1]

    def visit(self, band: int, *, first: bool, result: np.ndarray | None) -> None:
        """One iteration in a band; the first has nothing to collect, the last writes its probabilities down."""
        nothing, width, (begin, end) = np.empty((0, 0), np.float32), self.width, self.bands[band]
        for index, lattice in enumerate(self.lattices):
            row, last = (int(bound) for bound in lattice.row_bounds[band : band + 2])
            target = int(self.first_rows[index])
            if result is None:
                self.sums[(target + row) * width : (target + last) * width] = 0.0
            if not first:
                _spread(self.values[index], lattice.members, self.factors[index], width, row, last, target, self.spread)
        collecting = nothing if first else self.collecting
        handing, kept = (self.handing, nothing[0:0].reshape(-1)) if result is None else (nothing, self.lines)
        _visit(self.lines, self.rows, collecting, self.spread, handing, self.sums, width, begin, end, kept)
        if result is not None:
            _separate(self.lines, width, begin, end, result)

    def exchange(self) -> None:
        """Blur what the pixels handed out, and weigh the labels against each other."""
        for index, (lattice, potential) in enumerate(self.kernels):
            own = self.sums[self.first_rows[index] * self.width : self.first_rows[index + 1] * self.width]
            self.values[index] = blurred(lattice, own, self.buffers[index])
            if potential.ndim == 2:
                table, labels = self.values[index].reshape(-1, self.width), len(potential)
                table[:, :labels] = table[:, :labels] @ potential.T


def mean_field(
    logits: np.ndarray,
    kernels: Sequence[PairwiseKernel],
    *,
    iterations: int,
    normalisation: str,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Marginal probabilities of a dense CRF after some iterations of mean field, all pixels at once.

    Source: Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS
    2011, algorithm 1.
    Differs: symmetric normalisation, as in the authors' later code; a pixel is its own neighbour, as there.

    Args:
        logits: ``(K, N)`` float32, minus the unary energies, up to a constant for each point.
        kernels: with lattices of the same N points.
        iterations: at least 0.
        normalisation: by ``n``, the kernel's sum over all points: "symmetric" divides by its root before and after the
            filter, "before" and "after" by ``n`` on one side, "none" not at all.
        out: where to put the result, ``(K, N)`` float32 and contiguous; a new array when None.

    Returns:
        ``(K, N)`` float32 probabilities.
    """
    if iterations == 0:
        kernels = ()
    field = _Field(logits, kernels, normalisation)
    result = np.empty(logits.shape, np.float32) if out is None else out
    rounds = iterations if kernels else 0
    for i in range(rounds):
        run_pieces(lambda band, i=i: field.visit(band, first=i == 0, result=None), range(len(field.bands)))
        field.exchange()
    run_pieces(lambda band: field.visit(band, first=rounds == 0, result=result), range(len(field.bands)))
    return result

"""Bilinear pooling of boxes from feature maps into grids of one size (RoIAlign), and its adjoint.

The value of a bin is the mean of samples on a regular grid, each interpolated between four pixels. All of it separates
into a sum along y and one along x, and samples that fall between the same pixels share them. So a box is first turned
into two short lists of pixels and weights for every row and every column of bins; a bin then adds up
``weight_y * weight_x * features[y, x]`` over whole rows of channels. With channels last in memory these are contiguous,
which is what processors are fast at, and a pixel is read about once for a bin however many samples fall beside it.

Threads take boxes of their own in the pooling, and channels of their own in the adjoint, where boxes overlap: the
result never depends on how many threads there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.threads import run_pieces, thread_count

_Settings = tuple[np.ndarray, np.ndarray, np.ndarray, np.floating, np.floating, np.floating, int]
_BOXES = 16  # of a piece of the pooling
_CHANNELS = 16  # of a piece of the adjoint at least: a cache line of float32


@dataclass(frozen=True)
class Regions:
    """Boxes, each with the map it is pooled from, and how.

    Args:
        boxes: ``(R, 4)`` xyxy in image pixels, of the maps' type.
        images: ``(R,)`` int64, the image of each box.
        maps: ``(R,)`` int64, which of the maps (of a feature pyramid, say) each box is pooled from.
        scales: for each map its pixels per image pixel.
        output_size: rows and columns of bins.
        sampling_ratio: samples of a bin along each side; 0 for as many as the bin has pixels, rounded up.
        aligned: whether a pixel's value stands in its middle, half a pixel from its edge; otherwise it stands at the
            pixel's upper left corner, and boxes count as at least one pixel of the map wide and high.
    """

    boxes: np.ndarray
    images: np.ndarray
    maps: np.ndarray
    scales: Sequence[float]
    output_size: tuple[int, int]
    sampling_ratio: int = 0
    aligned: bool = True


@njit(nogil=True, cache=True)
def _put(place, weight, places, weights, count):
    """Add to the weight of a pixel, which is among the last two of the list or new."""
    for known in range(max(0, count - 2), count):
        if places[known] == place:
            weights[known] += weight
            return count
    places[count], weights[count] = place, weight
    return count + 1


@njit(nogil=True, cache=True)
def _axis(begin, end, smallest, ratio, length, places, weights, counts):
    """Along one axis, the pixels that each bin between ``begin`` and ``end`` is made of, and their weights.

    Coordinates are computed in the type of the boxes, in the order of operations that Detectron and torchvision have:
    a sample more or less than theirs would be a visible difference.
    """
    kind = weights.dtype.type
    bins = counts.size
    counts[:] = 0
    extent = max(end - begin, smallest)
    if not (abs(begin) < 1e15 and abs(end) < 1e15):  # NaN too
        return
    size = extent / kind(bins)
    samples = ratio if ratio > 0 else math.ceil(extent / kind(bins))
    for b in range(bins):
        origin = begin + kind(b) * size
        first, last = 0, samples
        if ratio == 0 and samples > 2 * length:  # a box far larger than the map: pass over what lies outside
            slack = 2.0 + 1e-6 * (abs(begin) + abs(extent))
            first = max(0, int((-1.0 - origin) / (size / samples) - slack))
            last = min(samples, int((length - origin) / (size / samples) + slack))
        count = 0
        for sample in range(first, last):
            place = origin + (kind(sample) + kind(0.5)) * size / kind(samples)
            if not (place >= -1.0 and place <= length):
                continue
            place = max(place, kind(0.0))
            low = int(place)
            if low >= length - 1:
                count = _put(length - 1, kind(1.0), places[b], weights[b], count)
            else:
                high_weight = place - kind(low)
                count = _put(low, kind(1.0) - high_weight, places[b], weights[b], count)
                if high_weight > 0.0:
                    count = _put(low + 1, high_weight, places[b], weights[b], count)
        for known in range(count):
            weights[b, known] /= kind(samples)
        counts[b] = count


@njit(nogil=True, cache=True)
def _both_axes(box, scale, offset, smallest, ratio, y, x):
    height, places_y, weights_y, counts_y = y
    width, places_x, weights_x, counts_x = x
    left, top, right, bottom = box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale
    _axis(top - offset, bottom - offset, smallest, ratio, height, places_y, weights_y, counts_y)
    _axis(left - offset, right - offset, smallest, ratio, width, places_x, weights_x, counts_x)


@njit(nogil=True, cache=True)
def _lists(bins, length, ratio, like):
    most = 2 * ratio if ratio > 0 else length
    return length, np.empty((bins, most), np.int64), np.empty((bins, most), like.dtype), np.empty(bins, np.int64)


@njit(nogil=True, cache=True)
def _pool(features, boxes, images, rows, scale, offset, smallest, ratio, begin, end, pooled):
    _, height, width, channels = features.shape
    bins_y, bins_x = pooled.shape[1:3]
    y, x = _lists(bins_y, height, ratio, boxes), _lists(bins_x, width, ratio, boxes)
    _, places_y, weights_y, counts_y = y
    _, places_x, weights_x, counts_x = x
    for row in rows[begin:end]:
        _both_axes(boxes[row], scale, offset, smallest, ratio, y, x)
        image = images[row]
        for i in range(bins_y):
            for j in range(bins_x):
                out = pooled[row, i, j]
                out[:] = 0.0
                for s in range(counts_y[i]):
                    line, weight = features[image, places_y[i, s]], weights_y[i, s]
                    t = 0
                    while t + 1 < counts_x[j]:  # two at once, as what has been added up so far goes through memory
                        one, other = line[places_x[j, t]], line[places_x[j, t + 1]]
                        one_weight, other_weight = weight * weights_x[j, t], weight * weights_x[j, t + 1]
                        for c in range(channels):
                            out[c] += one_weight * one[c] + other_weight * other[c]
                        t += 2
                    if t < counts_x[j]:
                        one, one_weight = line[places_x[j, t]], weight * weights_x[j, t]
                        for c in range(channels):
                            out[c] += one_weight * one[c]


@njit(nogil=True, cache=True)
def _spread(pooled, boxes, images, rows, scale, offset, smallest, ratio, begin, end, features):
    _, height, width, _ = features.shape
    bins_y, bins_x = pooled.shape[1:3]
    y, x = _lists(bins_y, height, ratio, boxes), _lists(bins_x, width, ratio, boxes)
    _, places_y, weights_y, counts_y = y
    _, places_x, weights_x, counts_x = x
    for row in rows:
        _both_axes(boxes[row], scale, offset, smallest, ratio, y, x)
        image = images[row]
        for i in range(bins_y):
            for j in range(bins_x):
                values = pooled[row, i, j, begin:end]
                for s in range(counts_y[i]):
                    for t in range(counts_x[j]):
                        weight = weights_y[i, s] * weights_x[j, t]
                        out = features[image, places_y[i, s], places_x[j, t], begin:end]
                        for c in range(values.size):
                            out[c] += weight * values[c]


def roi_align(maps: Sequence[np.ndarray], regions: Regions) -> np.ndarray:
    """The features of every box on a grid of bins, each the mean of bilinear samples.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3 and figure 3.
    Differs: as in Detectron and torchvision, samples up to a pixel outside the map take the value at its edge, others
        are 0; samples that share pixels are added up first.

    Args:
        maps: each ``(B, H, W, C)`` float32 or float64, channels last in memory.
        regions: of R boxes.

    Returns:
        ``(R, rows, columns, C)``.

    Example:
        >>> corners = np.array([[0.0, 1.0], [2.0, 3.0]])[None, :, :, None]
        >>> boxes, first = np.array([[0.0, 0.0, 2.0, 2.0]]), np.zeros(1, np.int64)
        >>> roi_align([corners], Regions(boxes, first, first, [1.0], (1, 1)))[0, :, :, 0]
        array([[1.5]])
    """
    rows, columns = regions.output_size
    pooled = np.empty((len(regions.boxes), rows, columns, maps[0].shape[3]), maps[0].dtype)
    maps = [frozen(features) for features in maps]
    pieces = [
        (place, begin, begin + _BOXES)
        for place in range(len(maps))
        for begin in range(0, np.count_nonzero(regions.maps == place), _BOXES)
    ]
    settings = _settings(regions, pooled.dtype)

    def run(piece: tuple[int, int, int]) -> None:
        place, begin, end = piece
        _pool(maps[place], *settings[place], begin, end, pooled)

    run_pieces(run, pieces)
    return pooled


def roi_align_adjoint(pooled: np.ndarray, regions: Regions, sizes: Sequence[tuple[int, int, int]]) -> list[np.ndarray]:
    """Every value of the bins handed back to the pixels it is made of: the transpose of :func:`roi_align`.

    Args:
        pooled: ``(R, rows, columns, C)`` float32 or float64, the gradient by the bins.
        regions: of R boxes.
        sizes: the (B, H, W) of each map.

    Returns:
        For each map ``(B, H, W, C)``, the gradient by its features.

    Example:
        >>> boxes, first = np.array([[0.0, 0.0, 2.0, 2.0]]), np.zeros(1, np.int64)
        >>> maps = roi_align_adjoint(np.ones((1, 1, 1, 1)), Regions(boxes, first, first, [1.0], (1, 1)), [(1, 2, 2)])
        >>> maps[0][0, :, :, 0].tolist()
        [[0.25, 0.25], [0.25, 0.25]]
    """
    channels = pooled.shape[3]
    maps = [np.zeros((*size, channels), pooled.dtype) for size in sizes]
    pooled = frozen(pooled)
    step = max(_CHANNELS, -(-channels // (thread_count() * _CHANNELS)) * _CHANNELS)
    pieces = [(place, begin) for begin in range(0, channels, step) for place in range(len(maps))]
    settings = _settings(regions, pooled.dtype)

    def run(piece: tuple[int, int]) -> None:
        place, begin = piece
        _spread(pooled, *settings[place], begin, min(begin + step, channels), maps[place])

    run_pieces(run, pieces)
    return maps


def _settings(regions: Regions, dtype: np.dtype) -> list[_Settings]:
    """For each map what the loops take between the array they read and the range of their piece."""
    kind = dtype.type
    boxes, images = frozen(regions.boxes, dtype), frozen(regions.images, np.int64)
    offset, smallest = (kind(0.5), kind(-np.inf)) if regions.aligned else (kind(0.0), kind(1.0))
    return [
        (
            boxes,
            images,
            frozen(np.flatnonzero(regions.maps == place)),
            kind(scale),
            offset,
            smallest,
            regions.sampling_ratio,
        )
        for place, scale in enumerate(regions.scales)
    ]

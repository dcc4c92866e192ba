"""Segments of a picture as trees of its pixels: two are joined where the step between them is small for both.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004. Edges are sorted once, as whole
numbers whose upper half is the bit pattern of the weight (which orders positive floats) and whose lower half says which
edge it is; equal weights are thus taken in a fixed order.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen


def gaussian_smoothed(image: np.ndarray, *, sigma: float) -> np.ndarray:
    """The image under a Gaussian, cut off at four standard deviations; edges are repeated outwards.

    Args:
        image: (H, W, C).
        sigma: standard deviation in pixels; 0 leaves the values as they are.

    Returns:
        (H, W, C) float32.
    """
    smooth = np.array(image, np.float32)
    reach = math.ceil(4 * sigma)
    if reach == 0 or smooth.size == 0:
        return smooth
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    for axis in (0, 1):
        length = smooth.shape[axis]
        wide = np.take(smooth, np.arange(-reach, length + reach).clip(0, length - 1), axis=axis)

        def shifted(by: int, wide: np.ndarray = wide, axis: int = axis, length: int = length) -> np.ndarray:
            view = slice(reach + by, reach + by + length)
            return wide[view] if axis == 0 else wide[:, view]

        smooth *= np.float32(weights[0])
        for step in range(1, reach + 1):
            smooth += (shifted(-step) + shifted(step)) * np.float32(weights[step])
    return smooth


@njit(nogil=True, cache=True)
def _distance(features, y, x, other_y, other_x):
    total = np.float32(0)
    for c in range(features.shape[2]):
        step = features[y, x, c] - features[other_y, other_x, c]
        total += step * step
    return np.sqrt(total)


@njit(nogil=True, cache=True)
def _edges(features, weights, edges):
    """The weight of each pixel's edges to the right, down, down right and up right; edge = 4 pixel + direction."""
    height, width = features.shape[:2]
    count = 0
    for y in range(height):
        for x in range(width):
            name = 4 * (y * width + x)
            if x + 1 < width:
                weights[count], edges[count] = _distance(features, y, x, y, x + 1), name
                count += 1
            if y + 1 < height:
                weights[count], edges[count] = _distance(features, y, x, y + 1, x), name + 1
                count += 1
            if x + 1 < width and y + 1 < height:
                weights[count], edges[count] = _distance(features, y, x, y + 1, x + 1), name + 2
                count += 1
            if x + 1 < width and y > 0:
                weights[count], edges[count] = _distance(features, y, x, y - 1, x + 1), name + 3
                count += 1


@njit(nogil=True, cache=True)
def _root(parents, pixel):
    while parents[pixel] != pixel:
        parents[pixel] = parents[parents[pixel]]
        pixel = parents[pixel]
    return pixel


@njit(nogil=True, cache=True)
def _join(parents, sizes, a, b):
    """The larger tree takes the smaller."""
    if sizes[a] < sizes[b]:
        a, b = b, a
    parents[b] = a
    sizes[a] += sizes[b]
    return a


@njit(nogil=True, cache=True)
def _segment(edges, weights, width, scale, min_size, segments):
    parents = segments.reshape(-1)
    sizes, limits = np.ones(parents.size, np.int32), np.full(parents.size, scale)
    steps = (1, width, width + 1, 1 - width)
    for pixel in range(parents.size):
        parents[pixel] = pixel
    apart = 0
    for place in range(edges.size):
        edge = np.int64(edges[place])
        a, b = _root(parents, edge >> 2), _root(parents, (edge >> 2) + steps[edge & 3])
        if a == b:
            continue
        weight = np.float64(weights[place])
        if weight <= limits[a] and weight <= limits[b]:
            a = _join(parents, sizes, a, b)
            limits[a] = weight + scale / sizes[a]
        else:
            edges[apart] = edges[place]  # still in order of weight
            apart += 1
    for place in range(apart if min_size > 1 else 0):
        edge = np.int64(edges[place])
        a, b = _root(parents, edge >> 2), _root(parents, (edge >> 2) + steps[edge & 3])
        if a != b and (sizes[a] < min_size or sizes[b] < min_size):
            _join(parents, sizes, a, b)
    numbers, count = np.full(parents.size, -1, np.int32), 0
    for pixel in range(parents.size):
        root = _root(parents, pixel)
        if numbers[root] < 0:
            numbers[root] = count
            count += 1
    for pixel in range(parents.size):
        sizes[pixel] = numbers[_root(parents, pixel)]
    parents[:] = sizes


def graph_segments(features: np.ndarray, *, scale: float, min_size: int) -> np.ndarray:
    """The segment of each pixel, on the grid in which a pixel has eight neighbours.

    Two segments are joined when the smallest step between them is at most ``Int + scale / size`` of each, where Int is
    the largest step inside its minimum spanning tree. Afterwards, in order of the steps, a segment smaller than
    ``min_size`` joins its neighbour.

    Args:
        features: (H, W, C) colours, smoothed already; an edge weighs their Euclidean distance.
        scale: the paper's k, in units of the features: larger ones prefer larger segments.
        min_size: pixels; 1 for any.

    Returns:
        (H, W) int32 numbers from 0, in order of each segment's first pixel; 8-connected.
    """
    height, width = features.shape[:2]
    segments = np.zeros((height, width), np.int32)
    if height * width == 0:
        return segments
    count = height * (width - 1) + (height - 1) * width + 2 * (height - 1) * (width - 1)
    weights, edges = np.empty(count, np.float32), np.empty(count, np.uint32)
    _edges(frozen(features, np.float32), weights, edges)
    keys = weights.view(np.uint32).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= edges
    keys.sort()
    edges[:] = keys & np.uint64(0xFFFFFFFF)
    keys >>= np.uint64(32)
    weights = keys.astype(np.uint32).view(np.float32)
    _segment(edges, weights, width, float(scale), min_size, segments)
    return segments

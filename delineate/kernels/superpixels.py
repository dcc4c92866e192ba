"""SLIC superpixels: k-means in colour and place, each centre looking no further than twice the spacing of the grid.

Achanta et al., "SLIC Superpixels Compared to State-of-the-art Superpixel Methods", PAMI 2012.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.regions import connected_regions, merged_small_regions


@njit(nogil=True, cache=True)
def _seed(planes, rows, columns, moved, centres, labels):
    """Centres on a regular grid, moved to where the picture changes least nearby, so that none sits on an edge."""
    channels, height, width = planes.shape
    for y in range(height):
        for x in range(width):
            labels[y, x] = y * rows // height * columns + x * columns // width
    for i in range(rows):
        for j in range(columns):
            y, x = (2 * i + 1) * height // (2 * rows), (2 * j + 1) * width // (2 * columns)
            best_y, best_x, least = y, x, np.float32(np.inf)
            for near_y in range(max(y - 1, 0), min(y + 2, height)):
                for near_x in range(max(x - 1, 0), min(x + 2, width)):
                    if not moved:
                        continue
                    up, down = max(near_y - 1, 0), min(near_y + 1, height - 1)
                    left, right = max(near_x - 1, 0), min(near_x + 1, width - 1)
                    gradient = np.float32(0)
                    for c in range(channels):
                        across = planes[c, near_y, right] - planes[c, near_y, left]
                        along = planes[c, down, near_x] - planes[c, up, near_x]
                        gradient += across * across + along * along
                    if gradient < least:
                        best_y, best_x, least = near_y, near_x, gradient
            k = i * columns + j
            centres[k, 0], centres[k, 1] = best_y, best_x
            for c in range(channels):
                centres[k, c + 2] = planes[c, best_y, best_x]


@njit(nogil=True, cache=True)
def _nearer(row, distances, labels, k):
    for x in range(row.size):
        closer = row[x] < distances[x]
        distances[x] = row[x] if closer else distances[x]
        labels[x] = k if closer else labels[x]


@njit(nogil=True, cache=True)
def _add_squares(row, values, centre):
    for x in range(row.size):
        difference = values[x] - centre
        row[x] += difference * difference


@njit(nogil=True, cache=True)
def _assign(planes, centres, reach, nearness, distances, labels):
    """Each pixel to the nearest centre of those whose window holds it; one that none holds stays where it was."""
    channels, height, width = planes.shape
    distances[:] = np.inf
    places, buffer = np.arange(width).astype(np.float32), np.empty(width, np.float32)
    for k in range(centres.shape[0]):
        top, bottom = max(math.ceil(centres[k, 0] - reach), 0), min(int(centres[k, 0] + reach) + 1, height)
        left, right = max(math.ceil(centres[k, 1] - reach), 0), min(int(centres[k, 1] + reach) + 1, width)
        along = places[left:right] - centres[k, 1]
        along *= along
        row = buffer[: right - left]
        for y in range(top, bottom):
            across = np.float32(y) - centres[k, 0]
            across *= across
            for x in range(row.size):
                row[x] = (along[x] + across) * nearness
            for c in range(channels):
                _add_squares(row, planes[c, y, left:right], centres[k, c + 2])
            _nearer(row, distances[y, left:right], labels[y, left:right], np.int32(k))


@njit(nogil=True, cache=True)
def _update(planes, labels, centres):
    """Each centre to the mean of its pixels; one that lost them all stays."""
    channels, height, width = planes.shape
    sums, counts = np.zeros(centres.shape, np.float64), np.zeros(centres.shape[0], np.int64)
    for y in range(height):
        for x in range(width):
            k = labels[y, x]
            counts[k] += 1
            sums[k, 0] += y
            sums[k, 1] += x
            for c in range(channels):
                sums[k, c + 2] += planes[c, y, x]
    for k in range(counts.size):
        if counts[k] > 0:
            for c in range(centres.shape[1]):
                centres[k, c] = np.float32(sums[k, c] / counts[k])


def slic_grid(height: int, width: int, segments: int) -> tuple[int, int]:
    """The rows and columns of a grid of about ``segments`` centres, as far apart along both sides as may be."""
    rows = min(max(round(height / math.sqrt(height * width / segments)), 1), height, segments)
    return rows, min(max(round(segments / rows), 1), width)


def slic_clusters(
    features: np.ndarray, *, segments: int, compactness: float = 10.0, iterations: int = 10
) -> np.ndarray:
    """The cluster of each pixel before its parts are made connected.

    Args:
        features: (H, W, C), the colours whose distance counts.
        segments: how many clusters to aim at, at least 1.
        compactness: the paper's m: the difference in colour that weighs as much as one spacing of the grid.
        iterations: assignments and updates.

    Returns:
        (H, W) int32.
    """
    height, width = features.shape[:2]
    rows, columns = slic_grid(height, width, segments)
    spacing = math.sqrt(height * width / (rows * columns))
    planes = frozen(np.moveaxis(features, 2, 0), np.float32)
    centres = np.empty((rows * columns, len(planes) + 2), np.float32)
    labels, distances = np.empty((height, width), np.int32), np.empty((height, width), np.float32)
    _seed(planes, rows, columns, spacing >= 3, centres, labels)  # closer ones could be moved onto each other
    nearness = np.float32((compactness / spacing) ** 2)
    for _ in range(iterations):
        _assign(planes, centres, np.float32(spacing), nearness, distances, labels)
        _update(planes, labels, centres)
    return labels


def slic_segments(
    features: np.ndarray, *, segments: int, compactness: float = 10.0, iterations: int = 10
) -> np.ndarray:
    """The superpixel of each pixel: :func:`slic_clusters`, each of them connected.

    A part of a cluster smaller than a quarter of the mean superpixel joins the superpixel it shares most border with;
    a larger one is a superpixel of its own.

    Args:
        features: (H, W, C), the colours whose distance counts.
        segments: how many superpixels to aim at, at least 1.
        compactness: see :func:`slic_clusters`.
        iterations: see :func:`slic_clusters`.

    Returns:
        (H, W) int32 numbers from 0, in order of each superpixel's first pixel; 4-connected.
    """
    height, width = features.shape[:2]
    if height * width == 0:
        return np.zeros((height, width), np.int32)
    clusters = slic_clusters(features, segments=segments, compactness=compactness, iterations=iterations)
    rows, columns = slic_grid(height, width, segments)
    quarter = math.ceil(height * width / (rows * columns) / 4) - 1
    everyone = np.ones(rows * columns, bool)
    whole = merged_small_regions(clusters, largest=quarter, connectivity=4, ignored=-1, chosen=everyone)
    return connected_regions(whole, connectivity=4)[0]

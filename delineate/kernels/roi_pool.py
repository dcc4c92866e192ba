"""Maxima of whole pixels over a grid of bins in each box (RoI pooling), and where they were.

Fast R-CNN rounds a box to whole pixels of the map and cuts it into bins that begin and end on whole pixels as well; a
bin is empty where the box leaves the map. The bounds of all bins are computed first, so that the loop compares whole
rows of channels, which channels-last memory keeps together.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.threads import run_pieces, thread_count

_BOXES = 16  # of a piece of the pooling
_CHANNELS = 16  # of a piece of the adjoint at least: a cache line of float32
_FAR = 1 << 30  # pixels; coordinates beyond, and those that are no numbers, are taken as this


@njit(nogil=True, cache=True)
def _pool(features, images, rows, columns, begin, end, pooled, places):
    _, _, width, channels = features.shape
    for region in range(begin, end):
        image = images[region]
        for i in range(rows.shape[1]):
            for j in range(columns.shape[1]):
                best, at = pooled[region, i, j], places[region, i, j]
                top, bottom = rows[region, i]
                left, right = columns[region, j]
                if top >= bottom or left >= right:
                    best[:], at[:] = 0.0, -1
                    continue
                best[:], at[:] = features[image, top, left], top * width + left
                for y in range(top, bottom):
                    for x in range(left, right):
                        values, place = features[image, y, x], np.int32(y * width + x)
                        for c in range(channels):
                            larger = values[c] > best[c]
                            best[c] = values[c] if larger else best[c]
                            at[c] = place if larger else at[c]


@njit(nogil=True, cache=True)
def _spread(pooled, places, images, begin, end, features):
    for region in range(pooled.shape[0]):
        image = images[region]
        for k in range(pooled.shape[1]):
            for c in range(begin, end):
                place = places[region, k, c]
                if place >= 0:
                    features[image, place, c] += pooled[region, k, c]


def roi_pool(
    features: np.ndarray, boxes: np.ndarray, images: np.ndarray, *, output_size: tuple[int, int], spatial_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The largest feature in every bin of every box, and which pixel it was.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.1; rounding as in its code.
    Differs: of equal features the first counts, row by row; the code's smallest float32 is no lower bound here.

    Args:
        features: ``(B, H, W, C)`` float32 or float64, channels last in memory.
        boxes: ``(R, 4)`` xyxy in image pixels, of the features' type.
        images: ``(R,)``, the image of each box.
        output_size: rows and columns of bins.
        spatial_scale: pixels of the map per image pixel.

    Returns:
        ``(R, rows, columns, C)`` maxima, 0 in empty bins; as large an array of int32, the pixel ``y * W + x`` of each,
        -1 in empty bins.

    Example:
        >>> line = np.array([[4.0, 9.0, 7.0]])[None, :, :, None]
        >>> box, first = np.array([[1.0, 0.0, 2.0, 0.0]]), np.zeros(1, np.int64)
        >>> values, places = roi_pool(line, box, first, output_size=(1, 2), spatial_scale=1.0)
        >>> values.ravel().tolist(), places.ravel().tolist()
        ([9.0, 7.0], [1, 2])
    """
    _, height, width, channels = features.shape
    pooled = np.empty((len(boxes), *output_size, channels), features.dtype)
    places = np.empty(pooled.shape, np.int32)
    features, images = frozen(features), frozen(images, np.int64)
    rows = frozen(_bins(boxes[:, 1], boxes[:, 3], spatial_scale, output_size[0], height))
    columns = frozen(_bins(boxes[:, 0], boxes[:, 2], spatial_scale, output_size[1], width))
    run_pieces(
        lambda begin: _pool(features, images, rows, columns, begin, min(begin + _BOXES, len(boxes)), pooled, places),
        range(0, len(boxes), _BOXES),
    )
    return pooled, places


def roi_pool_adjoint(
    pooled: np.ndarray, places: np.ndarray, images: np.ndarray, size: tuple[int, int, int]
) -> np.ndarray:
    """Every value of the bins added to the pixel that was the largest there.

    Args:
        pooled: ``(R, rows, columns, C)`` float32 or float64, the gradient by the maxima.
        places: from :func:`roi_pool`.
        images: ``(R,)``, the image of each box.
        size: (B, H, W) of the features.

    Returns:
        ``(B, H, W, C)``, the gradient by the features.

    Example:
        >>> places = np.array([2, 2, -1], np.int32).reshape(1, 1, 3, 1)
        >>> roi_pool_adjoint(np.ones((1, 1, 3, 1)), places, np.zeros(1, np.int64), (1, 1, 3)).ravel().tolist()
        [0.0, 0.0, 2.0]
    """
    regions, rows, columns, channels = pooled.shape
    batch, height, width = size
    features = np.zeros((batch, height * width, channels), pooled.dtype)
    flat = (regions, rows * columns, channels)
    values, images = frozen(pooled.reshape(flat)), frozen(images, np.int64)
    places = frozen(places.reshape(flat))
    step = max(_CHANNELS, -(-channels // (thread_count() * _CHANNELS)) * _CHANNELS)
    run_pieces(
        lambda begin: _spread(values, places, images, begin, min(begin + step, channels), features),
        range(0, channels, step),
    )
    return features.reshape(batch, height, width, channels)


def _bins(begin: np.ndarray, end: np.ndarray, scale: float, bins: int, length: int) -> np.ndarray:
    """``(R, bins, 2)`` int64, where each bin begins and ends on the map, in the precision of the boxes."""
    kind = begin.dtype.type
    first, last = _nearest(begin * kind(scale)), _nearest(end * kind(scale))
    size = np.maximum(last - first + 1, 1).astype(kind) / kind(bins)  # a box is at least one pixel
    number = np.arange(bins + 1).astype(kind)
    starts, ends = np.floor(size[:, None] * number[:-1]), np.ceil(size[:, None] * number[1:])
    return np.clip(np.stack([starts, ends], axis=-1).astype(np.int64) + first[:, None, None], 0, length)


def _nearest(values: np.ndarray) -> np.ndarray:
    """Rounded to whole numbers, halves away from 0 as in C."""
    values = np.clip(np.nan_to_num(values, nan=_FAR, posinf=_FAR, neginf=-_FAR), -_FAR, _FAR)
    whole = np.trunc(values)
    return (whole + np.where(np.abs(values - whole) >= 0.5, np.sign(values), 0)).astype(np.int64)

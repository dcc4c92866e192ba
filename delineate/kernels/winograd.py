"""What stands before and behind the products of a 3 x 3 convolution by Winograd's minimal filtering.

Tiles of 4 x 4 results need 6 x 6 pixels each, which overlap by two. Both sides are transformed so that results are
plain products, 36 for 16 of them instead of 144: a quarter of the multiplications. The transforms separate into one
along y and one along x. Along y they run over whole rows of the image, all columns and channels at once; along x over
the channels of one column: contiguous memory in every inner loop, which makes them cheap beside the products.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.3: F(4 x 4, 3 x 3).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numba import njit, uint64

from delineate.kernels.threads import run_pieces, thread_count

TILE = 4  # results a side
PLACES = 36  # products of a tile


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _six_to_six(source, first, step, target, place, stride, count):
    """Six runs of pixels, ``step`` apart, to six of their transform, ``stride`` apart.

    Offsets are unsigned: of signed ones every element would be checked for counting from the end.
    """
    first1 = first + step
    first2 = first1 + step
    first3 = first2 + step
    first4 = first3 + step
    first5 = first4 + step
    place1 = place + stride
    place2 = place1 + stride
    place3 = place2 + stride
    place4 = place3 + stride
    place5 = place4 + stride
    for k in range(count):
        d0, d1, d2 = source[first + k], source[first1 + k], source[first2 + k]
        d3, d4, d5 = source[first3 + k], source[first4 + k], source[first5 + k]
        even, odd = d4 - 4 * d2, d3 - 4 * d1
        far, near = d4 - d2, 2 * (d3 - d1)
        target[place + k] = 4 * d0 - 5 * d2 + d4
        target[place1 + k] = even + odd
        target[place2 + k] = even - odd
        target[place3 + k] = far + near
        target[place4 + k] = far - near
        target[place5 + k] = 4 * d1 - 5 * d3 + d5


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _six_to_four(source, first, step, target, place, stride, count, bias):
    """Six runs of products, ``step`` apart, to four of results, ``stride`` apart; ``bias`` is added to each."""
    first1 = first + step
    first2 = first1 + step
    first3 = first2 + step
    first4 = first3 + step
    first5 = first4 + step
    place1 = place + stride
    place2 = place1 + stride
    place3 = place2 + stride
    for k in range(count):
        m1, m2, m3, m4 = source[first1 + k], source[first2 + k], source[first3 + k], source[first4 + k]
        near, near_apart, far, far_apart = m1 + m2, m1 - m2, m3 + m4, m3 - m4
        target[place + k] = source[first + k] + near + far + bias[k]
        target[place1 + k] = near_apart + 2 * far_apart + bias[k]
        target[place2 + k] = near + 4 * far + bias[k]
        target[place3 + k] = near_apart + 8 * far_apart + source[first5 + k] + bias[k]


@njit(nogil=True, cache=True, error_model="numpy")
def _transform(pixels, height, width, channels, padding, down, across, tiles, begin, first, last, target):
    """Rows ``first`` to ``last`` of tiles; ``begin`` is the one that ``target`` begins with."""
    row = width * channels
    wide = (TILE * across + 2) * channels  # with what is padded on both sides
    bands = np.zeros(6 * wide, pixels.dtype)
    edge = np.zeros(6 * row, pixels.dtype)
    for place in range(first, last):
        image = place // down
        top = TILE * (place - image * down) - padding
        if top >= 0 and top + 6 <= height:
            start = uint64((image * height + top) * row)
            _six_to_six(pixels, start, uint64(row), bands, uint64(padding * channels), uint64(wide), uint64(row))
        else:
            for i in range(6):
                if 0 <= top + i < height:
                    start = (image * height + top + i) * row
                    edge[i * row : (i + 1) * row] = pixels[start : start + row]
                else:
                    edge[i * row : (i + 1) * row] = 0
            _six_to_six(edge, uint64(0), uint64(row), bands, uint64(padding * channels), uint64(wide), uint64(row))
        tile = (place - begin) * across
        for i in range(6):
            for x in range(across):
                start = uint64(i * wide + TILE * x * channels)
                end = uint64((6 * i * tiles + tile + x) * channels)
                _six_to_six(bands, start, uint64(channels), target, end, uint64(tiles * channels), uint64(channels))


@njit(nogil=True, cache=True, error_model="numpy")
def _restore(products, bias, height, width, channels, down, across, tiles, begin, first, last, target):
    """Rows ``first`` to ``last`` of tiles; ``begin`` is the one that ``products`` begins with."""
    run = across * channels
    bands = np.empty(24 * run, products.dtype)
    spare = np.empty(TILE * channels, products.dtype)
    none = np.zeros(run, products.dtype)
    for place in range(first, last):
        image = place // down
        top = TILE * (place - image * down)
        tile = (place - begin) * across
        for j in range(6):
            start = uint64((j * tiles + tile) * channels)
            step, stride = uint64(6 * tiles * channels), uint64(6 * run)
            _six_to_four(products, start, step, bands, uint64(j * run), stride, uint64(run), none)
        for i in range(min(TILE, height - top)):
            for x in range(across):
                start, step = uint64((6 * i * across + x) * channels), uint64(run)
                end = ((image * height + top + i) * width + TILE * x) * channels
                left = (width - TILE * x) * channels
                if left >= TILE * channels:
                    _six_to_four(bands, start, step, target, uint64(end), uint64(channels), uint64(channels), bias)
                else:
                    _six_to_four(bands, start, step, spare, uint64(0), uint64(channels), uint64(channels), bias)
                    target[end : end + left] = spare[:left]


def transform_tiles(pixels: np.ndarray, rows: tuple[int, int], padding: int, out: np.ndarray) -> None:
    """Write the 36 places of the tiles of some rows.

    Args:
        pixels: ``(B, H, W, C)`` float32, contiguous.
        rows: the first row of tiles and the one behind the last; an image has ``ceil((H + 2 * padding - 2) / 4)``, and
            images follow each other.
        padding: zeros around each image.
        out: ``(36, N, C)``, contiguous, for at least as many tiles as these rows have; what is behind them stays.
    """
    _, height, width, channels = pixels.shape
    down, across = tile_counts(height, width, padding)
    source, target, tiles = pixels.reshape(-1), out.reshape(-1), out.shape[1]

    def piece(own: tuple[int, int]) -> None:
        _transform(source, height, width, channels, padding, down, across, tiles, rows[0], *own, target)

    run_pieces(piece, _shares(*rows))


def restore_tiles(products: np.ndarray, bias: np.ndarray, rows: tuple[int, int], out: np.ndarray) -> None:
    """Write the results of the tiles of some rows.

    Args:
        products: ``(36, N, K)`` float32, contiguous.
        bias: ``(K,)`` float32.
        rows: as in :func:`transform_tiles`; an image has ``ceil(H / 4)``.
        out: ``(B, H, W, K)``, contiguous.
    """
    _, height, width, channels = out.shape
    down, across = tile_counts(height, width, 1)
    source, target, tiles = products.reshape(-1), out.reshape(-1), products.shape[1]

    def piece(own: tuple[int, int]) -> None:
        _restore(source, bias, height, width, channels, down, across, tiles, rows[0], *own, target)

    run_pieces(piece, _shares(*rows))


def _shares(first: int, last: int) -> list[tuple[int, int]]:
    """Rows from ``first`` to ``last``, shared among the threads."""
    shares = min(thread_count(), last - first)
    edges = [first + (last - first) * share // shares for share in range(shares + 1)]
    return list(pairwise(edges))


def tile_counts(height: int, width: int, padding: int) -> tuple[int, int]:
    """Tiles of an image of this size, down and across."""
    return -(-(height + 2 * padding - 2) // TILE), -(-(width + 2 * padding - 2) // TILE)

"""What stands before and behind the products of a 3 x 3 convolution by Winograd's minimal filtering.

Tiles of results need two pixels more a side, which overlap. Both sides are transformed so that results are plain
products: of float32, 36 for the 4 x 4 results of a tile instead of 144, a quarter of the multiplications; of bfloat16,
16 for 2 x 2 instead of 36. Those smaller tiles are transformed by adding alone. The larger ones' transforms multiply
what bfloat16 rounded away: results would be wrong by 3 per cent of their size. So they are by half a per cent, where a
plain convolution of bfloat16 is by a quarter.

The transforms separate into one along y and one along x. Along y they run over whole rows of the image, all columns and
channels at once; along x over the channels of one column: contiguous memory in every inner loop, which makes them cheap
beside the products. A bfloat16 comes and goes as its 16 bits, and is a float32 between.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, sections 4.1 and 4.3:
F(2 x 2, 3 x 3) and F(4 x 4, 3 x 3).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types, uint64
from numba.extending import intrinsic, overload

from delineate.kernels.threads import run_pieces, thread_count

_intrinsic: Any = intrinsic  # whose functions are called without their first parameter
# results a side of a tile of each type; uint16 are the bits of bfloat16
_TILES = {np.dtype(np.float32): 4, np.dtype(np.uint16): 2}


@_intrinsic
def _widened(typing_context: Any, half: Any) -> Any:
    """The float32 of a bfloat16's 16 bits."""

    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(arguments[0], word), word(16)), ir.FloatType())

    return types.float32(types.uint16), made


@_intrinsic
def _halved(typing_context: Any, value: Any) -> Any:
    """The 16 bits of the nearest bfloat16, of two the even one; NaN stays NaN, since its low bits are none here."""

    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, half = ir.IntType(32), ir.IntType(16)
        bits = builder.bitcast(arguments[0], word)
        odd = builder.and_(builder.lshr(bits, word(16)), word(1))
        rounded = builder.add(builder.add(bits, word(0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, word(16)), half)

    return types.uint16(types.float32), made


@njit(inline="always")
def _at_least(value, least):
    """NaN stays NaN."""
    return least if value < least else value


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
def _six_to_four(source, first, step, target, place, stride, count, bias, least):
    """Six runs of products, ``step`` apart, to four of results, ``stride`` apart; ``bias`` is added to each, and
    ``least`` what smaller ones become.
    """
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
        target[place + k] = _at_least(source[first + k] + near + far + bias[k], least)
        target[place1 + k] = _at_least(near_apart + 2 * far_apart + bias[k], least)
        target[place2 + k] = _at_least(near + 4 * far + bias[k], least)
        target[place3 + k] = _at_least(near_apart + 8 * far_apart + source[first5 + k] + bias[k], least)


@njit(nogil=True, cache=True, error_model="numpy")
def _four_to_four_wider(source, first, step, target, place, stride, count):
    """Four runs of bfloat16 pixels, ``step`` apart, to four of their transform in float32, ``stride`` apart."""
    first1 = first + step
    first2 = first1 + step
    first3 = first2 + step
    place1 = place + stride
    place2 = place1 + stride
    place3 = place2 + stride
    for k in range(count):
        d0, d1 = _widened(source[first + k]), _widened(source[first1 + k])
        d2, d3 = _widened(source[first2 + k]), _widened(source[first3 + k])
        target[place + k] = d0 - d2
        target[place1 + k] = d1 + d2
        target[place2 + k] = d2 - d1
        target[place3 + k] = d1 - d3


@njit(nogil=True, cache=True, error_model="numpy")
def _four_to_four_halved(source, first, step, target, place, stride, count):
    """The same from float32 to bfloat16."""
    first1 = first + step
    first2 = first1 + step
    first3 = first2 + step
    place1 = place + stride
    place2 = place1 + stride
    place3 = place2 + stride
    for k in range(count):
        d0, d1, d2, d3 = source[first + k], source[first1 + k], source[first2 + k], source[first3 + k]
        target[place + k] = _halved(d0 - d2)
        target[place1 + k] = _halved(d1 + d2)
        target[place2 + k] = _halved(d2 - d1)
        target[place3 + k] = _halved(d1 - d3)


@njit(nogil=True, cache=True, error_model="numpy")
def _four_to_two_wider(source, first, step, target, place, stride, count, bias, least):
    """Four runs of bfloat16 products, ``step`` apart, to two of results in float32, ``stride`` apart."""
    first1 = first + step
    first2 = first1 + step
    first3 = first2 + step
    place1 = place + stride
    for k in range(count):
        m0, m1 = _widened(source[first + k]), _widened(source[first1 + k])
        m2, m3 = _widened(source[first2 + k]), _widened(source[first3 + k])
        target[place + k] = _at_least(m0 + m1 + m2 + bias[k], least)
        target[place1 + k] = _at_least(m1 - m2 - m3 + bias[k], least)


@njit(nogil=True, cache=True, error_model="numpy")
def _four_to_two_halved(source, first, step, target, place, stride, count, bias, least):
    """The same from float32 to bfloat16."""
    first1 = first + step
    first2 = first1 + step
    first3 = first2 + step
    place1 = place + stride
    for k in range(count):
        m0, m1, m2, m3 = source[first + k], source[first1 + k], source[first2 + k], source[first3 + k]
        target[place + k] = _halved(_at_least(m0 + m1 + m2 + bias[k], least))
        target[place1 + k] = _halved(_at_least(m1 - m2 - m3 + bias[k], least))


def _turn(source, first, step, target, place, stride, count):
    """Runs of pixels to as many of their transform, of the tiles that their types have."""
    raise NotImplementedError  # of compiled code alone


@overload(_turn)
def _chosen_turn(source, first, step, target, place, stride, count):
    forms = {
        (types.float32, types.float32): _six_to_six,
        (types.uint16, types.float32): _four_to_four_wider,
        (types.float32, types.uint16): _four_to_four_halved,
    }
    form = forms[source.dtype, target.dtype]

    def turn(source, first, step, target, place, stride, count):
        form(source, first, step, target, place, stride, count)

    return turn


def _return(source, first, step, target, place, stride, count, bias, least):
    """Runs of products to fewer of results, of the tiles that their types have; ``bias`` is added to each, and
    ``least`` what smaller ones become.
    """
    raise NotImplementedError  # of compiled code alone


@overload(_return)
def _chosen_return(source, first, step, target, place, stride, count, bias, least):
    forms = {
        (types.float32, types.float32): _six_to_four,
        (types.uint16, types.float32): _four_to_two_wider,
        (types.float32, types.uint16): _four_to_two_halved,
    }
    form = forms[source.dtype, target.dtype]

    def back(source, first, step, target, place, stride, count, bias, least):
        form(source, first, step, target, place, stride, count, bias, least)

    return back


@njit(nogil=True, cache=True, error_model="numpy")
def _transform(pixels, height, width, channels, padding, tile, down, across, tiles, begin, first, last, target):
    """Rows ``first`` to ``last`` of tiles; ``begin`` is the one that ``target`` begins with."""
    reach = tile + 2
    row = width * channels
    wide = (tile * across + 2) * channels  # with what is padded on both sides
    bands = np.zeros(reach * wide, np.float32)
    edge = np.zeros(reach * row, pixels.dtype)
    for place in range(first, last):
        image = place // down
        top = tile * (place - image * down) - padding
        if top >= 0 and top + reach <= height:
            start = uint64((image * height + top) * row)
            _turn(pixels, start, uint64(row), bands, uint64(padding * channels), uint64(wide), uint64(row))
        else:
            for i in range(reach):
                if 0 <= top + i < height:
                    start = (image * height + top + i) * row
                    edge[i * row : (i + 1) * row] = pixels[start : start + row]
                else:
                    edge[i * row : (i + 1) * row] = 0
            _turn(edge, uint64(0), uint64(row), bands, uint64(padding * channels), uint64(wide), uint64(row))
        own = (place - begin) * across
        stride = uint64(tiles * channels)
        for i in range(reach):
            for x in range(across):
                start = uint64(i * wide + tile * x * channels)
                end = uint64((reach * i * tiles + own + x) * channels)
                _turn(bands, start, uint64(channels), target, end, stride, uint64(channels))


@njit(nogil=True, cache=True, error_model="numpy")
def _restore(products, bias, least, height, width, channels, tile, down, across, tiles, begin, first, last, target):
    """Rows ``first`` to ``last`` of tiles; ``begin`` is the one that ``products`` begins with."""
    reach = tile + 2
    run = across * channels
    bands = np.empty(tile * reach * run, np.float32)
    spare = np.empty(tile * channels, target.dtype)
    none, lowest = np.zeros(run, np.float32), np.float32(-np.inf)
    for place in range(first, last):
        image = place // down
        top = tile * (place - image * down)
        own = (place - begin) * across
        for j in range(reach):
            start = uint64((j * tiles + own) * channels)
            step, stride = uint64(reach * tiles * channels), uint64(reach * run)
            _return(products, start, step, bands, uint64(j * run), stride, uint64(run), none, lowest)
        for i in range(min(tile, height - top)):
            for x in range(across):
                start, step = uint64((reach * i * across + x) * channels), uint64(run)
                end = ((image * height + top + i) * width + tile * x) * channels
                left = (width - tile * x) * channels
                if left >= tile * channels:
                    _return(bands, start, step, target, uint64(end), uint64(channels), uint64(channels), bias, least)
                else:
                    _return(bands, start, step, spare, uint64(0), uint64(channels), uint64(channels), bias, least)
                    target[end : end + left] = spare[:left]


def transform_tiles(pixels: np.ndarray, rows: tuple[int, int], padding: int, out: np.ndarray) -> None:
    """Write the places of the tiles of some rows, 36 of each tile in float32, 16 in bfloat16.

    Args:
        pixels: ``(B, H, W, C)`` float32, or uint16 with the bits of bfloat16; contiguous.
        rows: the first row of tiles and the one behind the last; :func:`tile_counts` says how many an image has, and
            images follow each other.
        padding: zeros around each image.
        out: ``(36 or 16, N, C)`` of the same type, contiguous, for at least as many tiles as these rows have; what is
            behind them stays.
    """
    _, height, width, channels = pixels.shape
    tile = tile_side(pixels)
    down, across = tile_counts(height, width, padding, tile)
    source, target, tiles = pixels.reshape(-1), out.reshape(-1), out.shape[1]

    def piece(own: tuple[int, int]) -> None:
        _transform(source, height, width, channels, padding, tile, down, across, tiles, rows[0], *own, target)

    run_pieces(piece, _shares(*rows))


def restore_tiles(
    products: np.ndarray, bias: np.ndarray, rows: tuple[int, int], out: np.ndarray, *, least: float = -np.inf
) -> None:
    """Write the results of the tiles of some rows.

    Args:
        products: ``(36 or 16, N, K)`` as :func:`transform_tiles` writes them, contiguous.
        bias: ``(K,)`` float32.
        rows: as in :func:`transform_tiles`, of the results.
        out: ``(B, H, W, K)`` of the same type, contiguous.
        least: what smaller results become.
    """
    _, height, width, channels = out.shape
    tile = tile_side(products)
    down, across = tile_counts(height, width, 1, tile)
    source, target, tiles = products.reshape(-1), out.reshape(-1), products.shape[1]

    def piece(own: tuple[int, int]) -> None:
        _restore(
            source, bias, np.float32(least), height, width, channels, tile, down, across, tiles, rows[0], *own, target
        )

    run_pieces(piece, _shares(*rows))


def _shares(first: int, last: int) -> list[tuple[int, int]]:
    """Rows from ``first`` to ``last``, shared among the threads."""
    shares = min(thread_count(), last - first)
    edges = [first + (last - first) * share // shares for share in range(shares + 1)]
    return list(pairwise(edges))


def tile_side(numbers: np.ndarray) -> int:
    """Results a side of a tile of such numbers: 4 of float32, 2 of bfloat16's bits."""
    return _TILES[numbers.dtype]


def tile_counts(height: int, width: int, padding: int, tile: int) -> tuple[int, int]:
    """Tiles of an image of this size, down and across: of ``H + 2 * padding - 2`` results."""
    return -(-(height + 2 * padding - 2) // tile), -(-(width + 2 * padding - 2) // tile)

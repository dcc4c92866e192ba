"""Winograd's transforms: against the matrices of the paper, tile by tile, in both number formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delineate.kernels.winograd import restore_tiles, tile_counts, tile_side, transform_tiles

# Lavin and Gray, CVPR 2016, sections 4.3 and 4.1; of bfloat16 in its 16 bits
PIXELS = {
    4: np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
    2: np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
}
RESULTS = {
    4: np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
    2: np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
}
both = pytest.mark.parametrize("kind", [np.float32, np.uint16])


def stored(values: np.ndarray, kind: type) -> np.ndarray:
    """Numbers as the kernels take them, rounded as torch rounds."""
    if kind is np.float32:
        return values.astype(np.float32)
    return torch.from_numpy(values.astype(np.float32)).bfloat16().view(torch.uint16).numpy()


def read(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.float32:
        return array.astype(np.float64)
    return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


@both
@pytest.mark.parametrize(("height", "width", "padding"), [(9, 13, 1), (4, 4, 1), (1, 2, 1), (3, 3, 0), (11, 7, 0)])
def test_every_tile_is_transformed_as_in_the_paper(kind: type, height: int, width: int, padding: int) -> None:
    generator = np.random.default_rng(0)
    pixels = stored(generator.normal(size=(2, height, width, 5)), kind)
    side = tile_side(pixels)
    places = (side + 2) ** 2
    down, across = tile_counts(height, width, padding, side)
    out = np.full((places, 2 * down * across + 3, 5), 7, kind)
    transform_tiles(pixels, (0, 2 * down), padding, out)
    wide = np.zeros((2, side * down + 2, side * across + 2, 5))
    kept = read(pixels)[:, : side * down + 2, : side * across + 2]
    wide[:, padding : padding + height, padding : padding + width] = kept
    for tile, (image, y, x) in enumerate(np.ndindex(2, down, across)):
        seen = wide[image, side * y : side * y + side + 2, side * x : side * x + side + 2]
        expected = np.einsum("ia,abc,jb->ijc", PIXELS[side], seen, PIXELS[side]).reshape(places, 5)
        if kind is np.float32:
            np.testing.assert_allclose(out[:, tile], expected, atol=1e-4)
        else:  # sums of a few of these are exact in float32
            np.testing.assert_array_equal(out[:, tile], stored(expected, kind))
    assert (out[:, 2 * down * across :] == 7).all()


@both
@pytest.mark.parametrize("least", [-np.inf, 0.0])
@pytest.mark.parametrize(("height", "width"), [(9, 13), (4, 8), (1, 2)])
def test_products_become_results_as_in_the_paper(kind: type, least: float, height: int, width: int) -> None:
    generator = np.random.default_rng(1)
    side = tile_side(np.empty(0, kind))
    down, across = tile_counts(height, width, 1, side)
    products = stored(generator.normal(size=((side + 2) ** 2, 2 * down * across, 3)), kind)
    bias = np.array([1.0, -2.0, 0.5], np.float32)
    out = stored(np.full((2, height, width, 3), np.nan), kind)
    restore_tiles(products, bias, (0, 2 * down), out, least=least)
    wide = np.zeros((2, side * down, side * across, 3))
    for tile, (image, y, x) in enumerate(np.ndindex(2, down, across)):
        product = read(products)[:, tile].reshape(side + 2, side + 2, 3)
        own = np.einsum("ia,abc,jb->ijc", RESULTS[side], product, RESULTS[side])
        wide[image, side * y : side * y + side, side * x : side * x + side] = np.maximum(own + bias, least)
    precise = kind is np.float32
    np.testing.assert_allclose(
        read(out), wide[:, :height, :width], atol=1e-4 if precise else 1e-6, rtol=0 if precise else 2**-8
    )


def test_bfloat16_is_rounded_to_the_nearest_and_nan_stays() -> None:
    """One tile whose only product is the first: results are that product plus the bias."""
    bias = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-16, np.nan, 3e38, -np.inf], np.float32)
    out = np.empty((1, 1, 1, 6), np.uint16)
    restore_tiles(np.zeros((16, 1, 6), np.uint16), bias, (0, 1), out, least=-np.inf)
    np.testing.assert_array_equal(read(out[0, 0, 0]), torch.from_numpy(bias).bfloat16().float().numpy())
    restore_tiles(np.zeros((16, 1, 6), np.uint16), bias, (0, 1), out, least=0.0)
    expected = torch.from_numpy(bias).relu().bfloat16()
    np.testing.assert_array_equal(read(out[0, 0, 0]), expected.float().numpy())


@both
def test_rows_may_be_transformed_piece_by_piece(kind: type) -> None:
    pixels = stored(np.random.default_rng(2).normal(size=(3, 10, 6, 4)), kind)
    side = tile_side(pixels)
    down, across = tile_counts(10, 6, 1, side)
    whole = np.empty(((side + 2) ** 2, 3 * down * across, 4), kind)
    transform_tiles(pixels, (0, 3 * down), 1, whole)
    back = np.empty((3, 10, 6, 4), kind)
    parts = np.zeros_like(back)
    restore_tiles(whole, np.zeros(4, np.float32), (0, 3 * down), back)
    for first in range(0, 3 * down, 2):
        rows = (first, min(3 * down, first + 2))
        piece = np.empty(((side + 2) ** 2, 2 * across, 4), kind)
        transform_tiles(pixels, rows, 1, piece)
        count = (rows[1] - first) * across
        np.testing.assert_array_equal(piece[:, :count], whole[:, first * across : first * across + count])
        restore_tiles(piece, np.zeros(4, np.float32), rows, parts)
    np.testing.assert_array_equal(parts, back)


def test_an_image_has_tiles_for_all_its_results() -> None:
    assert tile_counts(8, 9, 1, 4) == (2, 3)
    assert tile_counts(8, 9, 0, 4) == (2, 2)  # 6 x 7 results
    assert tile_counts(8, 9, 0, 2) == (3, 4)

"""Winograd's transforms: against the matrices of the paper, tile by tile."""

from __future__ import annotations

import numpy as np
import pytest

from delineate.kernels.winograd import restore_tiles, tile_counts, transform_tiles

# Lavin and Gray, CVPR 2016, section 4.3
PIXELS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
RESULTS = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


@pytest.mark.parametrize(("height", "width", "padding"), [(9, 13, 1), (4, 4, 1), (1, 2, 1), (3, 3, 0), (11, 7, 0)])
def test_every_tile_is_transformed_as_in_the_paper(height: int, width: int, padding: int) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.normal(size=(2, height, width, 5)).astype(np.float32)
    down, across = tile_counts(height, width, padding)
    out = np.full((36, 2 * down * across + 3, 5), 7.0, np.float32)
    transform_tiles(pixels, (0, 2 * down), padding, out)
    wide = np.zeros((2, 4 * down + 2, 4 * across + 2, 5))
    wide[:, padding : padding + height, padding : padding + width] = pixels[:, : 4 * down + 2, : 4 * across + 2]
    for tile, (image, y, x) in enumerate(np.ndindex(2, down, across)):
        seen = wide[image, 4 * y : 4 * y + 6, 4 * x : 4 * x + 6]
        expected = np.einsum("ia,abc,jb->ijc", PIXELS, seen, PIXELS).reshape(36, 5)
        np.testing.assert_allclose(out[:, tile], expected, atol=1e-4)
    assert (out[:, 2 * down * across :] == 7).all()


@pytest.mark.parametrize(("height", "width"), [(9, 13), (4, 8), (1, 2)])
def test_products_become_results_as_in_the_paper(height: int, width: int) -> None:
    generator = np.random.default_rng(1)
    down, across = tile_counts(height, width, 1)
    products = generator.normal(size=(36, 2 * down * across, 3)).astype(np.float32)
    bias = np.array([1.0, -2.0, 0.5], np.float32)
    out = np.full((2, height, width, 3), np.nan, np.float32)
    restore_tiles(products, bias, (0, 2 * down), out)
    wide = np.zeros((2, 4 * down, 4 * across, 3))
    for tile, (image, y, x) in enumerate(np.ndindex(2, down, across)):
        own = np.einsum("ia,abc,jb->ijc", RESULTS, products[:, tile].reshape(6, 6, 3), RESULTS)
        wide[image, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = own + bias
    np.testing.assert_allclose(out, wide[:, :height, :width], atol=1e-4)


def test_rows_may_be_transformed_piece_by_piece() -> None:
    pixels = np.random.default_rng(2).normal(size=(3, 10, 6, 4)).astype(np.float32)
    down, across = tile_counts(10, 6, 1)
    whole = np.empty((36, 3 * down * across, 4), np.float32)
    transform_tiles(pixels, (0, 3 * down), 1, whole)
    back = np.empty((3, 10, 6, 4), np.float32)
    parts = np.zeros_like(back)
    restore_tiles(whole, np.zeros(4, np.float32), (0, 3 * down), back)
    for first in range(0, 3 * down, 2):
        rows = (first, min(3 * down, first + 2))
        piece = np.empty((36, 2 * across, 4), np.float32)
        transform_tiles(pixels, rows, 1, piece)
        count = (rows[1] - first) * across
        np.testing.assert_array_equal(piece[:, :count], whole[:, first * across : first * across + count])
        restore_tiles(piece, np.zeros(4, np.float32), rows, parts)
    np.testing.assert_array_equal(parts, back)


def test_an_image_has_tiles_for_all_its_results() -> None:
    assert tile_counts(8, 9, 1) == (2, 3)
    assert tile_counts(8, 9, 0) == (2, 2)  # 6 x 7 results

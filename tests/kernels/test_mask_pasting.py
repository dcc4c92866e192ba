"""Pasted maps against the same arithmetic one pixel at a time, and the text against the encoder's."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest

from delineate.kernels import rle_masks
from delineate.kernels.mask_pasting import pasted_texts
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

ONE = np.float32(1)


def nodes_and_shares(origin: float, step: float, length: int, nodes: int) -> list[tuple[int, np.float32] | None]:
    """Of each pixel along an axis the node below it and how far it is on the way to the next; None beyond the nodes."""
    found: list[tuple[int, np.float32] | None] = []
    for pixel in range(length):
        place = np.float32(step) * np.float32(pixel + 0.5 - origin) - np.float32(0.5)
        low = int(np.floor(place))
        found.append((low, place - np.float32(low)) if 0 <= place < nodes - 1 else None)
    return found


def slow(values: np.ndarray, grid: np.ndarray, size: tuple[int, int], threshold: float) -> np.ndarray:
    padded = np.pad(values, 1)
    mask = np.zeros(size, bool)
    across = nodes_and_shares(grid[0], grid[2], size[1], len(padded))
    down = nodes_and_shares(grid[1], grid[3], size[0], len(padded))
    for y, row in enumerate(down):
        for x, column in enumerate(across):
            if row is not None and column is not None:
                (i, v), (j, u) = row, column
                upper = padded[i, j] * (ONE - u) + padded[i, j + 1] * u
                lower = padded[i + 1, j] * (ONE - u) + padded[i + 1, j + 1] * u
                mask[y, x] = upper * (ONE - v) + lower * v > threshold
    return mask


def pasted(maps: np.ndarray, grids: np.ndarray, size: tuple[int, int], threshold: float = 0.5) -> RLEMasks:
    texts = pasted_texts(maps, grids, size, threshold)
    return RLEMasks(*texts, np.tile(np.array([size], np.int32), (len(maps), 1)))


@pytest.mark.parametrize("size", [(19, 23), (1, 30), (30, 1)])
@pytest.mark.parametrize("side", [1, 2, 7])
def test_equals_one_pixel_at_a_time(size: tuple[int, int], side: int) -> None:
    generator = np.random.default_rng(side)
    maps = generator.random((30, side, side), dtype=np.float32)
    maps[:10] = maps[:10] > 0.5
    extents = np.exp(generator.uniform(-1, 4.5, (30, 2)))  # maps shrunk below a pixel up to far larger than the picture
    origins = generator.uniform(-0.6, 1.1, (30, 2)) * size[::-1]
    grids = np.concatenate([origins, (side + 2) / extents], axis=1)
    filled = []
    for threshold in (0.0, 0.3, 0.5):
        found = pasted(maps, grids, size, threshold)
        expected = [slow(values, grid, size, threshold) for values, grid in zip(maps, grids, strict=True)]
        # the very text that an encoder writes: no run of length 0, none that goes on in the next
        assert [mask.counts for mask in found] == [RLE.encode(mask).counts for mask in expected]
        filled += [bool(mask.any()) for mask in expected]
    assert True in filled
    assert False in filled


def test_a_mask_that_fills_the_picture_is_one_run() -> None:
    found = pasted(np.ones((1, 3, 3), np.float32), np.array([[-100.0, -100.0, 0.02, 0.02]]), (9, 7))
    assert found[0].runs().tolist() == [0, 63]


def test_what_is_not_a_number_is_outside() -> None:
    values = np.full((1, 3, 3), np.nan, np.float32)
    grid = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert pasted(values, grid, (5, 5))[0].area == 0
    values[0, :2] = 1  # between the second row and the third nothing is known
    found = pasted(values, grid, (5, 5))[0].decode()
    assert found.sum(axis=1).tolist() == [0, 3, 0, 0, 0]


def test_far_away_grids_cost_nothing() -> None:
    maps = np.ones((4, 28, 28), np.float32)
    grids = np.array([[1e12, 0, 1, 1], [-1e12, 0, 1, 1], [0, 1e300, 1, 1], [0, 0, 1e-30, 1e-30]])
    assert pasted(maps, grids, (50, 50)).areas().tolist() == [0, 0, 0, 0]


def test_no_map_and_threads() -> None:
    assert len(pasted(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4)), (50, 50))) == 0
    generator = np.random.default_rng(0)
    maps = generator.random((50, 14, 14), dtype=np.float32)
    grids = np.concatenate([generator.uniform(0, 40, (50, 2)), np.full((50, 2), 0.4)], axis=1)
    whole = pasted_texts(maps, grids, (60, 60), 0.5)
    with patch.object(rle_masks, "_SMALL", 0), patch.object(rle_masks, "thread_count", lambda: 4):
        parts = pasted_texts(maps, grids, (60, 60), 0.5)
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))

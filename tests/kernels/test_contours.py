from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference
from scipy import ndimage

from delineate.kernels import contours, rle, rle_masks

cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def packed(masks):
    """Text, offsets and sizes of masks, by pycocotools."""
    texts = [reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks]
    offsets = np.cumsum([0, *map(len, texts)])
    return np.frombuffer(b"".join(texts), np.uint8), offsets, np.array([mask.shape for mask in masks], np.int32)


def naive_boundary(mask, distance):
    """As the paper's code has it: eroded step by step, with nothing beyond the frame."""
    eroded = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=distance)[1:-1, 1:-1]
    return mask & ~eroded


def scene(generator, height, width):
    kind = generator.integers(4)
    if kind == 0:
        return generator.random((height, width)) < generator.choice([0.05, 0.5, 0.95, 0.995])
    mask = np.zeros((height, width), bool)
    for _ in range(kind):
        y, x = generator.integers(0, height), generator.integers(0, width)
        mask[y : y + generator.integers(1, height + 1), x : x + generator.integers(1, width + 1)] ^= True
    return mask


def test_outline_by_hand():
    corners, starts = contours.outlines(np.cumsum(rle.mask_counts(cross)), 3, 3)
    expected = [(1, 1), (1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1)]
    assert corners.tolist() == [list(map(float, corner)) for corner in expected]
    assert starts.tolist() == [0, 12]


def test_no_outline():
    corners, starts = contours.outlines(np.array([12]), 3, 4)
    assert corners.shape == (0, 2)
    assert starts.tolist() == [0]


@pytest.mark.parametrize("seed", range(30))
def test_length_of_outlines_is_that_of_the_edges(seed):
    mask = scene(np.random.default_rng(seed), 17, 23)
    corners, starts = contours.outlines(np.cumsum(rle.mask_counts(mask)), *mask.shape)
    rings = [corners[a:b] for a, b in pairwise(starts)]
    steps = np.concatenate([np.zeros((0, 2)), *(np.roll(ring, -1, axis=0) - ring for ring in rings)])
    # slits are upright, so what lies level is exactly the pixels' own edges
    assert np.abs(steps[:, 0]).sum() == (np.diff(np.pad(mask, 1).astype(int), axis=0) != 0).sum()
    assert len(rings) == ndimage.label(mask)[1]


def test_boundary_by_hand():
    mask = np.ones((5, 6), bool)
    text, offsets = contours.boundary_texts(*packed([mask, mask]), np.array([1, 2]))
    expected = mask.copy()
    expected[1:-1, 1:-1] = False
    thin = mask.copy()
    thin[2, 2:4] = False
    counts = [rle.text_counts(text[a:b].tobytes()) for a, b in pairwise(offsets)]
    assert np.array_equal(rle.counts_mask(counts[0], 5, 6), expected)
    assert np.array_equal(rle.counts_mask(counts[1], 5, 6), thin)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_boundaries_equal_erosion_step_by_step(seed, distance):
    generator = np.random.default_rng(seed)
    masks = [scene(generator, *generator.integers(1, 60, 2)) for _ in range(8)]
    found = contours.boundary_texts(*packed(masks), np.full(8, distance))
    expected = packed([naive_boundary(mask, distance) for mask in masks])
    assert np.array_equal(found[1], expected[1])
    assert np.array_equal(found[0], expected[0])


def test_polygons_of_many_masks_equal_pycocotools(monkeypatch):
    monkeypatch.setattr(rle_masks, "_SMALL", 1)
    monkeypatch.setattr(rle_masks, "thread_count", lambda: 3)
    generator = np.random.default_rng(0)
    polygons, mask_starts, sizes, expected = [], [0], [], []
    for _ in range(100):
        size = tuple(generator.integers(1, 50, 2).tolist())
        own = [
            generator.uniform(-10, 55, 2 * n).round(1).tolist()
            for n in generator.integers(3, 7, generator.integers(1, 5))
        ]
        polygons += own
        mask_starts.append(len(polygons))
        sizes.append(size)
        expected.append(reference.merge(reference.frPyObjects(own, *size))["counts"])
    starts = np.cumsum([0, *map(len, polygons)])
    text, offsets = contours.texts_of_polygons(
        np.concatenate(polygons), starts, np.array(mask_starts), np.array(sizes, np.int32)
    )
    assert text.tobytes() == b"".join(expected)
    assert np.array_equal(offsets, np.cumsum([0, *map(len, expected)]))

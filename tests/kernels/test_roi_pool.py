"""Maxima of bins against their definition, pixel by pixel."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest

from delineate.kernels import roi_pool as kernels
from delineate.kernels.roi_pool import roi_pool, roi_pool_adjoint


def rounded(value: float) -> int:
    """Halves away from 0."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def slow_roi_pool(plane: np.ndarray, box: np.ndarray, scale: float, size: tuple[int, int]) -> tuple:
    """Values and places of an (H, W) map."""
    height, width = plane.shape
    left, top, right, bottom = (rounded(side * scale) for side in box)
    tall, wide = max(bottom - top + 1, 1), max(right - left + 1, 1)
    values, places = np.zeros(size), np.full(size, -1)
    for i in range(size[0]):
        for j in range(size[1]):
            rows = range(top + i * tall // size[0], top + -(-(i + 1) * tall // size[0]))
            columns = range(left + j * wide // size[1], left + -(-(j + 1) * wide // size[1]))
            inside = [(y, x) for y in rows for x in columns if 0 <= y < height and 0 <= x < width]
            if inside:
                y, x = max(inside, key=lambda place: plane[place])
                values[i, j], places[i, j] = plane[y, x], y * width + x
    return values, places


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7)])
def test_equals_the_definition(size):
    generator = np.random.default_rng(0)
    features = generator.integers(-9, 9, (2, 6, 9, 3)).astype(float)  # with ties: the first counts
    corner = generator.integers(-30, 90, (40, 2)) / 2
    boxes = np.concatenate([corner, corner + generator.integers(-4, 80, (40, 2)) / 2], axis=1)
    images = generator.integers(0, 2, 40)
    values, places = roi_pool(features, boxes, images, output_size=size, spatial_scale=1 / 4)
    for row, (box, image) in enumerate(zip(boxes, images, strict=True)):
        for channel in range(3):
            expected = slow_roi_pool(features[image, :, :, channel], box, 1 / 4, size)
            np.testing.assert_array_equal(values[row, ..., channel], expected[0])
            np.testing.assert_array_equal(places[row, ..., channel], expected[1])


def test_the_adjoint_is_the_transpose_whatever_the_threads():
    generator = np.random.default_rng(1)
    features, images = generator.normal(size=(2, 8, 9, 35)), generator.integers(0, 2, 30)
    corner = generator.uniform(-5, 9, (30, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(0, 9, (30, 2))], axis=1)
    pooled, places = roi_pool(features, boxes, images, output_size=(3, 2), spatial_scale=1.0)
    values = generator.normal(size=pooled.shape)
    back = roi_pool_adjoint(values, places, images, (2, 8, 9))
    np.testing.assert_allclose((pooled * values).sum(), (features * back).sum())
    with patch("delineate.kernels.threads.thread_count", lambda: 3), patch.object(kernels, "thread_count", lambda: 3):
        assert np.array_equal(roi_pool(features, boxes, images, output_size=(3, 2), spatial_scale=1.0)[1], places)
        assert np.array_equal(roi_pool_adjoint(values, places, images, (2, 8, 9)), back)


def test_boxes_far_away_and_boxes_without_numbers_are_empty():
    boxes = np.array([[1e30, 0, 1e31, 4], [math.nan] * 4, [-math.inf, 0, -9, 4]])
    values, places = roi_pool(
        np.ones((1, 4, 4, 1)), boxes, np.zeros(3, np.int64), output_size=(2, 2), spatial_scale=1.0
    )
    assert (values == 0).all()
    assert (places == -1).all()

"""The pooling of boxes against its definition, one sample at a time, and the adjoint against the pooling."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest

from delineate.kernels import roi_align as kernels
from delineate.kernels.roi_align import Regions, roi_align, roi_align_adjoint


def sample(plane: np.ndarray, y: float, x: float) -> np.ndarray:
    """The bilinear value of an (H, W, C) map, continued by a pixel beyond its edges."""
    height, width = plane.shape[:2]
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(plane.shape[2])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    low, left = int(y), int(x)
    high, right = min(low + 1, height - 1), min(left + 1, width - 1)
    above = (1 - (x - left)) * plane[low, left] + (x - left) * plane[low, right]
    below = (1 - (x - left)) * plane[high, left] + (x - left) * plane[high, right]
    return (1 - (y - low)) * above + (y - low) * below


def slow_roi_align(features: np.ndarray, box: np.ndarray, scale: float, regions: Regions) -> np.ndarray:
    rows, columns = regions.output_size
    left, top, right, bottom = box * scale - (0.5 if regions.aligned else 0.0)
    height, width = bottom - top, right - left
    if not regions.aligned:
        height, width = max(height, 1.0), max(width, 1.0)
    across = regions.sampling_ratio or math.ceil(width / columns)
    down = regions.sampling_ratio or math.ceil(height / rows)
    out = np.zeros((rows, columns, features.shape[2]))
    for i in range(rows):
        for j in range(columns):
            for s in range(down):
                for t in range(across):
                    y = top + (i + (s + 0.5) / down) * height / rows
                    x = left + (j + (t + 0.5) / across) * width / columns
                    out[i, j] += sample(features, y, x) / (down * across)
    return out


def some_regions(generator: np.random.Generator, count: int, **settings) -> Regions:
    """Boxes within, across and beyond the edges of maps of 9 x 12 and 5 x 6 pixels, 96 x 72 image pixels."""
    corner = generator.uniform(-40, 110, (count, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(0, 80, (count, 2))], axis=1)
    maps = generator.integers(0, 2, count)
    return Regions(boxes, generator.integers(0, 2, count), maps, (1 / 8, 1 / 16), **settings)


def some_maps(generator: np.random.Generator, channels: int) -> list[np.ndarray]:
    return [generator.normal(size=(2, *size, channels)) for size in ((9, 12), (5, 6))]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_equals_the_mean_of_samples(ratio, aligned):
    generator = np.random.default_rng(ratio)
    regions = some_regions(generator, 30, output_size=(2, 3), sampling_ratio=ratio, aligned=aligned)
    maps = some_maps(generator, 3)
    expected = [
        slow_roi_align(maps[place][image], box, regions.scales[place], regions)
        for box, image, place in zip(regions.boxes, regions.images, regions.maps, strict=True)
    ]
    np.testing.assert_allclose(roi_align(maps, regions), expected, atol=1e-12)


@pytest.mark.parametrize("ratio", [0, 2])
def test_the_adjoint_is_the_transpose(ratio):
    generator = np.random.default_rng(5)
    regions = some_regions(generator, 40, output_size=(3, 2), sampling_ratio=ratio)
    maps = some_maps(generator, 35)
    pooled = roi_align(maps, regions)
    values = generator.normal(size=pooled.shape)
    back = roi_align_adjoint(values, regions, [level.shape[:3] for level in maps])
    np.testing.assert_allclose(
        (pooled * values).sum(), sum((one * other).sum() for one, other in zip(maps, back, strict=True))
    )


def test_the_number_of_threads_changes_nothing():
    generator = np.random.default_rng(6)
    regions, maps = some_regions(generator, 50, output_size=(2, 2)), some_maps(generator, 40)
    sizes = [level.shape[:3] for level in maps]
    pooled = roi_align(maps, regions)
    back = roi_align_adjoint(pooled, regions, sizes)
    with patch("delineate.kernels.threads.thread_count", lambda: 3), patch.object(kernels, "thread_count", lambda: 3):
        assert np.array_equal(roi_align(maps, regions), pooled)
        for one, other in zip(roi_align_adjoint(pooled, regions, sizes), back, strict=True):
            assert np.array_equal(one, other)


def test_boxes_far_larger_than_the_map_and_boxes_without_numbers():
    box = [[-4e9, -4e9, 4e9, 4e9], [0, 0, math.nan, 4], [-math.inf, 0, 4, 4], [1e30, 0, 1e31, 4]]
    first = np.zeros(4, np.int64)
    pooled = roi_align([np.ones((1, 4, 4, 1))], Regions(np.array(box), first, first, (1.0,), (1, 1)))
    # of 8e9 samples along each side 6 are within a pixel of the map
    assert 0 < pooled[0, 0, 0, 0] < 1e-17
    assert (pooled[1:] == 0).all()
    assert roi_align([np.ones((1, 4, 4, 1))], Regions(np.zeros((0, 4)), first[:0], first[:0], (1.0,), (2, 2))).size == 0

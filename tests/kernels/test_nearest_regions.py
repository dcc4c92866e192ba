from __future__ import annotations

import numpy as np
import pytest

from delineate.kernels.nearest_regions import two_nearest_distances
from delineate.kernels.regions import connected_regions


def naive(regions: np.ndarray, reach: float) -> np.ndarray:
    """Every pixel against every border pixel of every region."""
    height, width = regions.shape
    padded = np.pad(regions, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    edge = np.any([other != regions for other in beside], axis=0)
    rows, columns = np.mgrid[:height, :width]
    maps = []
    for region in np.unique(regions[regions >= 0]):
        sites = np.argwhere((regions == region) & edge)
        if len(sites):
            squares = (rows[..., None] - sites[:, 0]) ** 2 + (columns[..., None] - sites[:, 1]) ** 2
            maps.append(np.sqrt(squares.min(-1)))
    if len(maps) < 2:
        return np.full((2, height, width), np.inf)
    nearest = np.sort(np.stack(maps), axis=0)[:2]
    nearest[:, nearest.sum(0) > reach] = np.inf
    return nearest


def test_two_squares_by_hand():
    regions = np.full((3, 6), -1)
    regions[:, 0], regions[:2, 4:] = 0, 1
    near, further = two_nearest_distances(regions, reach=100)
    assert near[0].tolist() == [0, 1, 2, 1, 0, 1]  # the last is inside, one step from the border
    assert further[0].tolist() == [4, 3, 2, 3, 4, 5]
    assert near[2, 3] == pytest.approx(np.sqrt(2))
    assert further[2, 3] == 3


def test_equals_the_naive_twin():
    generator = np.random.default_rng(0)
    for _ in range(150):
        shape = generator.integers(1, 20, 2)
        labels = (generator.random(shape) < generator.choice([0.1, 0.3, 0.6])) * generator.integers(1, 3, shape)
        regions, _ = connected_regions(labels, connectivity=4)
        regions = np.where(labels == 0, -1, regions)
        reach = generator.choice([2, 7.5, 12, 100])
        np.testing.assert_array_equal(two_nearest_distances(regions, reach=reach), naive(regions, reach))


def test_turning_the_map_turns_the_distances():
    generator = np.random.default_rng(1)
    regions = np.where(generator.random((13, 9)) < 0.2, generator.integers(0, 4, (13, 9)), -1)
    expected = two_nearest_distances(regions, reach=50)
    for turned, back in ((regions.T, lambda d: d.swapaxes(1, 2)), (regions[::-1, ::-1], lambda d: d[:, ::-1, ::-1])):
        np.testing.assert_array_equal(back(two_nearest_distances(turned, reach=50)), expected)


@pytest.mark.parametrize(
    "regions", [np.full((4, 5), -1), np.zeros((4, 5), int), np.where(np.eye(4) > 0, 7, -1), np.zeros((0, 3), int)]
)
def test_fewer_than_two_regions_are_infinitely_far(regions: np.ndarray):
    assert np.isinf(two_nearest_distances(regions, reach=10)).all()

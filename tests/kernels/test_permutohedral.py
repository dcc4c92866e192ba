from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.kernels import permutohedral
from delineate.kernels.permutohedral import build_lattice, cuts, filter_values, padded, reach
from tests.kernels.lattice_twin import lattice_filter


def points(seed, number, dimensions, reach):
    return (np.random.default_rng(seed).uniform(-reach, reach, (number, dimensions))).astype(np.float32)


def gaussian_filter(features, values):
    squared = ((features[:, None] - features[None]).astype(float) ** 2).sum(axis=2)
    return np.exp(-squared / 2) @ values


def grid(height, width, sigma):
    rows, columns = np.mgrid[:height, :width]
    return (np.stack([columns, rows], axis=-1).reshape(-1, 2) / sigma).astype(np.float32)


def test_one_point_by_hand():
    lattice = build_lattice(np.zeros((1, 1), np.float32))
    assert lattice.weights.tolist() == [[1, 0]]
    assert lattice.vertices.tolist() == [[0, 1]]
    # two lattice points, neighbours of each other along both axes; 1 -> (1, 1/2) -> (1.25, 1), times 2 / 3
    assert lattice.neighbours.tolist() == [[[1, 2], [2, 0]], [[2, 1], [0, 2]]]
    assert filter_values(lattice, np.ones((1, 1), np.float32)) == pytest.approx(1.25 * 2 / 3)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    dimensions=st.integers(0, 7),
    number=st.integers(1, 40),
    channels=st.integers(1, 20),
    reach=st.sampled_from([0.0, 0.3, 3.0, 500.0]),
    reverse=st.booleans(),
)
def test_equals_the_dictionary(seed, dimensions, number, channels, reach, reverse):
    features = points(seed, number, dimensions, reach)
    values = points(seed + 1, number, channels, 1.0)
    found = filter_values(build_lattice(features), values, reverse=reverse)
    expected = lattice_filter(features, values, reverse=reverse)
    # a point between two simplices may fall to either; with float32 far from 0 the weights themselves are rounded
    tolerance = 2e-5 if reach < 100 else 2e-3
    assert found.shape == values.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= tolerance * max(1, np.abs(expected).max())


@pytest.mark.parametrize("dimensions", [0, 1, 2, 5, 11])
def test_weights_are_a_partition_of_one(dimensions):
    lattice = build_lattice(points(0, 500, dimensions, 20.0))
    assert lattice.weights.min() >= -1e-5
    assert np.allclose(lattice.weights.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(lattice.vertices)) == lattice.neighbours.shape[1]


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_neighbours_are_mutual(dimensions):
    neighbours = build_lattice(points(1, 300, dimensions, 2.0)).neighbours
    vertices = neighbours.shape[1]
    found = 0
    for axis in neighbours:
        for vertex, (before, behind) in enumerate(axis.tolist()):
            assert before == vertices or axis[before, 1] == vertex
            assert behind == vertices or axis[behind, 0] == vertex
            found += (before < vertices) + (behind < vertices)
    assert found > 0


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_the_reverse_is_the_adjoint(dimensions):
    lattice = build_lattice(points(2, 400, dimensions, 2.0))
    x, y = points(3, 400, 9, 1.0), points(4, 400, 9, 1.0)
    forward = (x.astype(float) * filter_values(lattice, y)).sum()
    backward = (filter_values(lattice, x, reverse=True).astype(float) * y).sum()
    assert forward == pytest.approx(backward, rel=1e-4, abs=1e-3)
    if dimensions == 5:  # and the order matters: on a lattice with holes the filter alone is not symmetric
        assert forward != pytest.approx((filter_values(lattice, x).astype(float) * y).sum(), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(("sigma", "worst", "mean"), [(3.0, 0.13, 0.05), (8.0, 0.2, 0.06)])
def test_near_the_gaussian_on_a_grid(sigma, worst, mean):
    """The normalised filter against the exact sum over all pairs, for images of 40 x 30."""
    features = grid(30, 40, sigma)
    values = np.random.default_rng(5).random((1200, 3)).astype(np.float32)
    values[:600, 0] += 4
    lattice = build_lattice(features)
    found = filter_values(lattice, values) / reach(lattice)[:, None]
    exact = gaussian_filter(features, values) / gaussian_filter(features, np.ones((1200, 1)))
    error = np.abs(found - exact) / values.max()
    assert error.max() < worst
    assert error.mean() < mean


def test_constants_in_the_middle_of_a_grid_keep_their_share():
    """Far from the rim every pixel receives the same, 12 % less than the Gaussian's samples add up to."""
    found = reach(build_lattice(grid(60, 60, 3.0))).reshape(60, 60)[20:40, 20:40]
    assert found == pytest.approx(np.full((20, 20), 0.881 * 2 * np.pi * 9), rel=5e-3)


def test_reach_is_the_filter_of_ones():
    lattice = build_lattice(points(6, 700, 3, 3.0))
    assert np.allclose(reach(lattice), filter_values(lattice, np.ones((700, 1), np.float32))[:, 0], rtol=1e-5)


def test_linear_and_equivariant():
    features, values = points(7, 300, 4, 2.0), points(8, 300, 5, 1.0)
    found = filter_values(build_lattice(features), values)
    order = np.random.default_rng(9).permutation(300)
    shuffled = filter_values(build_lattice(features[order]), values[order])
    assert np.allclose(shuffled, found[order], atol=1e-5)
    assert np.allclose(filter_values(build_lattice(features), 3 * values), 3 * found, atol=1e-5)


def test_far_apart_is_alone():
    features = np.array([[0, 0, 0], [1000, 0, 0], [0, -1000, 500]], np.float32)
    values = np.eye(3, dtype=np.float32)
    found = filter_values(build_lattice(features), values)
    assert (found[~np.eye(3, dtype=bool)] == 0).all()
    assert (np.diag(found) > 0.2).all()


def test_many_dimensions_whose_codes_are_hashed():
    features = points(10, 50, 14, 1e4)
    features[25:] = features[:25]
    found = filter_values(build_lattice(features), np.eye(50, dtype=np.float32))
    twins = np.eye(50, k=25, dtype=bool) | np.eye(50, k=-25, dtype=bool) | np.eye(50, dtype=bool)
    assert (found[twins] > 0).all()
    assert (found[~twins] == 0).all()


def test_the_number_of_threads_and_of_bands(monkeypatch):
    features, values = points(11, 5000, 3, 4.0), points(12, 5000, 11, 1.0)
    alone = filter_values(build_lattice(features), values)
    monkeypatch.setattr(permutohedral, "_BAND", 500)
    banded = build_lattice(features)
    assert len(banded.bands) == 8
    several = filter_values(banded, values)
    assert np.allclose(several, alone, rtol=1e-4, atol=1e-4)
    with patch("delineate.kernels.threads.thread_count", lambda: 3):
        assert np.array_equal(filter_values(build_lattice(features), values), several)


def test_no_points_no_channels():
    nothing = build_lattice(np.empty((0, 3), np.float32))
    assert nothing.neighbours.shape == (4, 0, 2)
    assert nothing.vertices.shape == (0, 4)
    assert filter_values(nothing, np.empty((0, 2), np.float32)).shape == (0, 2)
    assert reach(nothing).shape == (0,)
    assert filter_values(build_lattice(points(0, 4, 2, 1.0)), np.empty((4, 0), np.float32)).shape == (4, 0)


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_features_without_a_simplex(strange):
    features = points(13, 100, 3, 1.0)
    features[40, 1] = strange
    with pytest.raises(ValueError, match="features must be finite"):
        build_lattice(features)


def test_huge_features_stay_within_memory():
    features = points(14, 2000, 5, 3e9)
    found = filter_values(build_lattice(features), np.ones((2000, 1), np.float32))
    assert np.isfinite(found).all()


def test_cuts_and_padding():
    assert cuts(10, 3) == [(0, 3), (3, 6), (6, 10)]
    assert cuts(0, 2) == [(0, 0), (0, 0)]
    assert [padded(channels) for channels in (0, 1, 8, 9, 21)] == [0, 8, 8, 16, 24]

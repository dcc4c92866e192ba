import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from delineate.kernels.distance_transform import distance_transform, nearest_pixels


def naive(mask):
    """Every pixel against every mask pixel; of equally near ones the leftmost, then the topmost."""
    pixels = np.argwhere(mask)
    pixels = pixels[np.lexsort((pixels[:, 0], pixels[:, 1]))]
    grid = np.indices(mask.shape).reshape(2, -1).T
    squared = ((grid[:, None] - pixels[None]) ** 2).sum(axis=2)
    nearest = pixels[squared.argmin(axis=1)].T.reshape(2, *mask.shape)
    return np.sqrt(squared.min(axis=1)).reshape(mask.shape), nearest


def random_mask(seed, height, width, share):
    return np.random.default_rng(seed).random((height, width)) < share


def test_by_hand():
    mask = np.zeros((3, 5), bool)
    mask[0, 0] = mask[2, 4] = True
    distances, nearest = distance_transform(mask)
    root = np.sqrt([2, 5, 8])
    assert distances.tolist() == [[0, 1, 2, root[1], 2], [1, root[0], root[1], root[0], 1], [2, root[1], 2, 1, 0]]
    assert nearest[1].tolist() == [[0, 0, 0, 4, 4], [0, 0, 0, 4, 4], [0, 0, 4, 4, 4]]
    assert nearest[0].tolist() == [[0, 0, 0, 2, 2], [0, 0, 0, 2, 2], [0, 0, 2, 2, 2]]
    assert distances.dtype == np.float64
    assert nearest.dtype == np.int32


def test_ties_go_left_then_up():
    cross = np.zeros((5, 5), bool)
    cross[[0, 2, 2, 4], [2, 0, 4, 2]] = True
    assert distance_transform(cross)[1][:, 2, 2].tolist() == [2, 0]
    assert distance_transform(cross[:, 2:3])[1][:, 2, 0].tolist() == [0, 0]
    corners = np.zeros((3, 3), bool)
    corners[::2, ::2] = True
    assert distance_transform(corners)[1][:, 1, 1].tolist() == [0, 0]


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    share=st.sampled_from([0.01, 0.05, 0.3, 0.9]),
)
def test_equals_the_definition(seed, height, width, share):
    mask = random_mask(seed, height, width, share)
    mask[seed % height, seed % width] = True
    distances, nearest = distance_transform(mask)
    expected_distances, expected_nearest = naive(mask)
    assert np.array_equal(distances, expected_distances)
    assert np.array_equal(nearest, expected_nearest)


@pytest.mark.parametrize("share", [1e-4, 0.002, 0.05, 0.5])
@pytest.mark.parametrize("shape", [(211, 307), (3, 900), (900, 3)])
def test_equals_scipy_on_large_masks(shape, share):
    mask = random_mask(1, *shape, share)
    mask[-1, -1] = True
    distances, nearest = distance_transform(mask)
    expected_distances, expected_nearest = distance_transform_edt(~mask, return_indices=True)
    assert np.array_equal(distances, expected_distances)
    assert np.array_equal(nearest, expected_nearest)


def test_a_long_way_is_exact():
    mask = np.zeros((2, 40_000), bool)
    mask[0, 0] = True
    assert distance_transform(mask)[0][1, -1] == np.sqrt(39_999.0**2 + 1)
    assert distance_transform(mask.T)[0][-1, 1] == np.sqrt(39_999.0**2 + 1)


def test_distances_turn_with_the_mask():
    mask = random_mask(2, 31, 45, 0.02)
    distances = distance_transform(mask)[0]
    assert np.array_equal(distance_transform(mask[::-1, ::-1])[0], distances[::-1, ::-1])
    assert np.array_equal(distance_transform(mask.T)[0], distances.T)


def test_empty_single_and_full_masks():
    distances, nearest = distance_transform(np.zeros((3, 4), bool))
    assert np.isposinf(distances).all()
    assert nearest.shape == (2, 3, 4)
    assert (nearest == -1).all()
    distances, nearest = distance_transform(np.ones((3, 4), bool))
    assert not distances.any()
    assert np.array_equal(nearest, np.indices((3, 4)))
    assert distance_transform(np.ones((1, 1), bool))[0].tolist() == [[0]]
    assert distance_transform(np.zeros((0, 4), bool))[0].shape == (0, 4)


def test_only_wanted_rows():
    mask = random_mask(3, 30, 40, 0.03)
    rows, columns = nearest_pixels(mask)
    wanted = np.arange(30) % 3 == 0
    some_rows, some_columns = nearest_pixels(mask, wanted)
    assert np.array_equal(some_rows, rows)
    assert np.array_equal(some_columns[wanted], columns[wanted])
    assert np.array_equal(np.take_along_axis(rows, columns, axis=1), distance_transform(mask)[1][0])

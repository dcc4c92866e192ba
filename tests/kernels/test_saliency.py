import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve, distance_transform_edt

from delineate.kernels.saliency import line_counts, passing_counts, quadrant_moments, unit_range, weighted_errors


def pair(seed, height, width, share):
    generator = np.random.default_rng(seed)
    return generator.random((height, width)), generator.random((height, width)) < share


def naive_errors(values, mask):
    """Margolin's weights, with SciPy and whole images."""
    distances, (rows, columns) = distance_transform_edt(~mask, return_indices=True)
    error = np.abs(values - mask)
    axis = np.arange(-3, 4)
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / 50)
    blurred = convolve(error[rows, columns], window / window.sum(), mode="constant")
    background = (values * (2 - 0.5 ** (distances / 5)))[~mask].sum()
    return background, np.minimum(error, blurred)[mask].sum()


def test_unit_range_by_hand():
    assert unit_range(np.array([[51, 153], [102, 255]], np.uint8)) == pytest.approx(np.array([[0, 0.5], [0.25, 1]]))
    assert unit_range(np.array([[0.2, 0.6]], np.float32)).tolist() == [[0, 1]]
    assert unit_range(np.full((2, 2), 51, np.uint8)).tolist() == [[0.2, 0.2], [0.2, 0.2]]
    assert unit_range(np.full((2, 2), 0.25)).tolist() == [[0.25, 0.25], [0.25, 0.25]]


def test_unit_range_of_bytes_is_that_of_their_fractions():
    maps = np.random.default_rng(0).integers(7, 230, (9, 11), dtype=np.uint8)
    assert np.array_equal(unit_range(maps), unit_range(maps / 255))
    assert np.array_equal(unit_range(np.asfortranarray(maps)), unit_range(maps))
    assert unit_range(np.asfortranarray(maps / 255)).flags.c_contiguous


def test_counts_by_hand():
    values = np.array([[0, 0.5, 1], [0.25, 0.75, 1]])
    mask = np.array([[0, 0, 1], [0, 1, 0]], bool)
    background, object_ = passing_counts(values, mask, 0.5).tolist()
    assert [background[255 - level] for level in (255, 191, 127, 64, 63, 0)] == [1, 1, 2, 2, 3, 4]
    assert [object_[255 - level] for level in (255, 192, 191, 0)] == [1, 1, 2, 2]
    assert (background[256], object_[256]) == (2, 2)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), size=st.tuples(st.integers(1, 20), st.integers(1, 20)), share=st.floats(0, 1))
def test_counts_equal_the_definition(seed, size, share):
    values, mask = pair(seed, *size, share)
    values = np.round(values, 1)
    counts = passing_counts(values, mask, 0.3)
    levels = (values * 255).astype(np.uint8)
    for level in range(256):
        assert counts[:, 255 - level].tolist() == [(levels[~mask] >= level).sum(), (levels[mask] >= level).sum()]
    assert counts[:, 256].tolist() == [(values[~mask] >= 0.3).sum(), (values[mask] >= 0.3).sum()]


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    share=st.sampled_from([0, 0.05, 0.5, 1]),
)
def test_moments_equal_the_definition(seed, size, share):
    values, mask = pair(seed, *size, share)
    row, column = seed % size[0] + 1, seed % size[1] + 1
    moments = quadrant_moments(values, mask, (row, column))
    for lower, rows in enumerate((slice(None, row), slice(row, None))):
        for right, columns in enumerate((slice(None, column), slice(column, None))):
            for region in range(2):
                part = values[rows, columns][mask[rows, columns] == region]
                count, mean, scatter = moments[lower, right, region]
                assert count == part.size
                if part.size:
                    assert mean == pytest.approx(part.mean(), abs=1e-12)
                    assert scatter == pytest.approx(((part - part.mean()) ** 2).sum(), abs=1e-12)


def test_a_constant_region_scatters_by_nothing():
    mask = np.random.default_rng(0).random((50, 60)) < 0.3
    moments = quadrant_moments(np.where(mask, 0.7, 0.1), mask, (20, 31))
    assert not moments[..., 2].any()
    assert (moments[..., 1] == [0.1, 0.7]).all()


def test_line_counts_by_hand():
    mask = np.array([[1, 1, 0], [0, 1, 0]], bool)
    assert [counts.tolist() for counts in line_counts(mask)] == [[2, 1], [1, 2, 0]]
    assert [counts.tolist() for counts in line_counts(np.ones((2, 300), bool))] == [[300, 300], [2] * 300]


def test_weighted_errors_by_hand():
    """One object pixel amid nothing, and one false alarm five pixels away, which weighs 2 - 0.5."""
    values, mask = np.zeros((1, 6)), np.zeros((1, 6), bool)
    mask[0, 0], values[0, 5] = True, 1
    window = np.exp(-(np.arange(-3, 4) ** 2) / 50)
    near = window[3] * window[3:].sum() / window.sum() ** 2  # errors of 1 at the pixel and at three to its right
    assert weighted_errors(values, mask) == pytest.approx((1.5, near))
    values[0, 0] = 1
    assert weighted_errors(values, mask) == pytest.approx((1.5, 0))


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    share=st.sampled_from([0.005, 0.05, 0.3, 1]),
    zero=st.sampled_from([0, 0.9, 1]),
)
def test_weighted_errors_equal_the_definition(seed, size, share, zero):
    values, mask = pair(seed, *size, share)
    mask[seed % size[0], seed % size[1]] = True
    values[np.random.default_rng(seed + 1).random(size[0]) < zero] = 0
    assert weighted_errors(values, mask) == pytest.approx(naive_errors(values, mask), abs=1e-10)


def test_weights_far_from_the_object():
    """Further than the table of weights reaches, they are 2."""
    values, mask = np.ones((1, 1000)), np.zeros((1, 1000), bool)
    mask[0, 0] = True
    background, _ = weighted_errors(values, mask)
    assert background == pytest.approx((2 - 0.5 ** (np.arange(1, 1000) / 5)).sum(), abs=1e-10)
    values[0, :300] = 0
    assert weighted_errors(values, mask)[0] == 1400

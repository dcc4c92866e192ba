import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from delineate.kernels.boundary import boundary_counts, class_boundaries, disk_offsets


def naive_edges(known, labels, label):
    """Pixels of a class with a known 4-neighbour of another class, by shifting a padded map."""
    mine = np.pad((labels == label) & known, 1)
    other = np.pad((labels != label) & known, 1)
    touched = np.zeros_like(mine)
    for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        touched |= np.roll(other, shift, axis)
    return (mine & touched)[1:-1, 1:-1]


def distance_to(mask):
    return distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)


def naive_counts(target, prediction, num_classes, ignore_index, tolerance):
    """By distance transforms of whole images, class by class."""
    known = (target < num_classes) & (target != ignore_index)
    far_from_unknown = distance_to(~known) > max(tolerance, 1)
    counts = np.zeros((num_classes, 4), np.int64)
    for label in range(num_classes):
        truth = naive_edges(known, target, label)
        predicted = naive_edges(np.ones_like(known), prediction, label)
        scored = predicted & far_from_unknown
        counts[label] = [
            truth.sum(),
            (truth & (distance_to(predicted) <= tolerance)).sum(),
            scored.sum(),
            (scored & (distance_to(truth) <= tolerance)).sum(),
        ]
    return counts


def blobs(generator, height, width, labels):
    coarse = generator.integers(0, labels, (height // 4 + 1, width // 4 + 1))
    return np.kron(coarse, np.ones((4, 4), int))[:height, :width]


def test_boundary_by_hand():
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, -2]])
    assert class_boundaries(labels).tolist() == [[-1, 0, 1, -1], [0, 0, 1, -1], [2, 2, 2, -1]]


def test_disk_by_hand():
    assert disk_offsets(0).tolist() == [[0, 0]]
    assert len(disk_offsets(1)) == 5
    assert len(disk_offsets(1.42)) == 9
    lengths = np.hypot(*disk_offsets(4.5).T)
    assert (np.diff(lengths) >= 0).all()
    assert lengths.max() <= 4.5


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    tolerance=st.sampled_from([0, 0.5, 1, 1.5, 3, 4.5]),
    unknown=st.sampled_from([0, 0.1, 1]),
)
def test_equals_distance_transforms(seed, size, tolerance, unknown):
    generator = np.random.default_rng(seed)
    target, prediction = blobs(generator, *size, 4), blobs(generator, *size, 5)
    target[generator.random(size) < unknown] = 255
    found = boundary_counts(target, prediction, 4, 255, tolerance)
    assert np.array_equal(found, naive_counts(target, prediction, 4, 255, tolerance))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_any_integer_type(dtype):
    generator = np.random.default_rng(1)
    target, prediction = blobs(generator, 20, 30, 3), blobs(generator, 20, 30, 3)
    target[3:6, 4:9] = 255
    expected = naive_counts(target, prediction, 3, 255, 2)
    assert np.array_equal(boundary_counts(target.astype(dtype), prediction.astype(dtype), 3, 255, 2), expected)

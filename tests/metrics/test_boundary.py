import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ArgumentError
from delineate.metrics.boundary import boundary_f1, boundary_tolerance


def halves(height=10, width=10, at=5):
    labels = np.zeros((height, width), np.uint8)
    labels[:, at:] = 1
    return labels


def test_a_shifted_edge_by_hand():
    """The edge moves by two columns: each class's boundary column is missed at 1 px and met at 2 px."""
    target, prediction = halves(at=5), halves(at=7)
    assert boundary_f1(prediction, target, num_classes=2, tolerance=1).tolist() == [0, 0]
    assert boundary_f1(prediction, target, num_classes=2, tolerance=2).tolist() == [1, 1]


def test_an_extra_object_by_hand():
    """A 2x2 square far from the edge: 4 false boundary pixels of class 1, 8 of class 0, beside 10 true ones."""
    target = halves()
    prediction = target.copy()
    prediction[4:6, 1:3] = 1
    found = boundary_f1(prediction, target, num_classes=2, tolerance=0)
    precision_0, precision_1 = 10 / 18, 10 / 14
    assert found == pytest.approx([2 * precision_0 / (1 + precision_0), 2 * precision_1 / (1 + precision_1)])


def test_the_usual_tolerance_is_a_share_of_the_diagonal():
    assert boundary_tolerance(3000, 4000) == 37.5
    target = halves(360, 480, at=200)
    assert boundary_f1(halves(360, 480, at=204), target, num_classes=2).tolist() == [1, 1]
    assert boundary_f1(halves(360, 480, at=205), target, num_classes=2).tolist() == [0, 0]


def test_undefined_missing_and_invented():
    flat, target = np.zeros((6, 6), np.uint8), halves(6, 6, at=3)
    assert np.isnan(boundary_f1(flat, flat, num_classes=2)).all()
    assert boundary_f1(flat, target, num_classes=3)[:2].tolist() == [0, 0]
    assert boundary_f1(target, flat, num_classes=3)[:2].tolist() == [0, 0]
    assert np.isnan(boundary_f1(target, flat, num_classes=3)[2])


def test_pixels_without_a_label_are_no_boundary():
    """A void seam hides where the edge is: nothing to score, and a prediction within the seam is not punished."""
    target = halves()
    target[:, 4:6] = 255
    assert np.isnan(boundary_f1(halves(), target, num_classes=2, tolerance=1)).all()
    assert boundary_f1(halves(at=2), target, num_classes=2, tolerance=1)[0] == 0


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), tolerance=st.sampled_from([0, 0.4, 1, 2.5]), unknown=st.sampled_from([0, 0.1, 0.5]))
def test_a_perfect_prediction_scores_one(seed, tolerance, unknown):
    generator = np.random.default_rng(seed)
    truth = np.kron(generator.integers(0, 3, (5, 6)), np.ones((3, 3), int))
    target = np.where(generator.random(truth.shape) < unknown, 255, truth)
    prediction = np.where(target == 255, generator.integers(0, 3, truth.shape), target)
    found = boundary_f1(prediction, target, num_classes=3, tolerance=tolerance)
    assert set(found[~np.isnan(found)].tolist()) <= {1.0}


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_a_wider_tolerance_never_lowers_the_score(seed):
    generator = np.random.default_rng(seed)
    target, prediction = (np.kron(generator.integers(0, 3, (5, 6)), np.ones((3, 3), int)) for _ in range(2))
    scores = [boundary_f1(prediction, target, num_classes=3, tolerance=t) for t in (0, 1, 2, 5, 40)]
    assert (np.nan_to_num(np.diff(scores, axis=0)) >= -1e-12).all()


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    target = halves()
    with pytest.raises(ArgumentError, match=r"prediction must be labels \(H, W\) of the target's shape \(10, 10\)"):
        boundary_f1(target[:5], target, num_classes=2)
    with pytest.raises(ArgumentError, match=r"tolerance must be at least 0 pixels; got -1\."):
        boundary_f1(target, target, num_classes=2, tolerance=-1)

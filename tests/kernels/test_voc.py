import numpy as np
import pytest

from delineate.kernels.voc import match_voc

ROWS = np.arange(9)


def match(detections, truths, difficult=(), thresholds=(0.5,), edge=0.0):
    """All in one group; detections from the most confident down."""
    difficult = np.array(difficult or [False] * len(truths), bool)
    d, t = len(detections), len(truths)
    return match_voc(
        np.array(detections, float).reshape(-1, 4),
        np.array(truths, float).reshape(-1, 4),
        difficult,
        ROWS[:d],
        np.array([0, d]),
        ROWS[:t],
        np.array([0, t]),
        np.array(thresholds),
        edge,
    ).tolist()


def test_right_duplicate_wrong_and_ignored_by_hand():
    box, near, far, hard = (0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 60, 60), (20, 0, 30, 10)
    assert match([box, near, far, hard, hard], [box, hard], [False, True]) == [[1], [0], [0], [2], [2]]


def test_a_detection_does_not_turn_to_its_second_best():
    """Two detections on the first truth: the second is a duplicate although it also meets the other truth."""
    truths = [(0, 0, 10, 10), (0, 0, 10, 7)]
    assert match([(0, 0, 10, 9), (0, 0, 10, 9)], truths) == [[1], [0]]


def test_thresholds_are_met_by_equality():
    """IoU 50/100 exactly; and with the edge of a pixel, 6 x 11 of 11 x 11."""
    half = [(0, 0, 10, 5)], [(0, 0, 10, 10)]
    assert match(*half, thresholds=(0.5, np.nextafter(0.5, 1))) == [[1, 0]]
    assert match(*half, thresholds=(6 / 11, np.nextafter(6 / 11, 1)), edge=1.0) == [[1, 0]]


def test_a_box_of_one_pixel():
    assert match([(3, 3, 3, 3)], [(3, 3, 3, 3)], edge=1.0) == [[1]]
    assert match([(3, 3, 3, 3)], [(3, 3, 3, 3)]) == [[0]]  # no area, no overlap


def test_a_duplicate_at_one_threshold_is_right_at_another():
    """At 0.8 only the second detection reaches the truth."""
    assert match([(0, 0, 10, 7), (0, 0, 10, 9)], [(0, 0, 10, 10)], thresholds=(0.5, 0.8)) == [[1, 0], [0, 1]]


@pytest.mark.parametrize(("detections", "truths"), [(0, 0), (2, 0), (0, 2)])
def test_empty_sides(detections, truths):
    box = (0, 0, 1, 1)
    assert match([box] * detections, [box] * truths) == [[0]] * detections


def test_groups_do_not_meet_and_rows_may_lie_anywhere():
    box = np.array([[0, 0, 4, 4]], float)
    found = match_voc(
        np.repeat(box, 3, axis=0),
        np.repeat(box, 2, axis=0),
        np.zeros(2, bool),
        np.array([2, 0, 1]),
        np.array([0, 1, 2, 3]),
        np.array([1, 0]),
        np.array([0, 1, 1, 2]),
        np.array([0.5]),
        0.0,
    )
    assert found.tolist() == [[0], [1], [1]]

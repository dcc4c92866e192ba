import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.kernels import error_analysis
from delineate.kernels.error_analysis import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    LOCALISATION,
    explain_false_positives,
    taken_pairs,
)
from delineate.kernels.matching import FALSE, IGNORED, TRUE


def explain(ious, detections, truths, *, silent=None, taken=None, states=None):
    """One image; ``ious`` a row a detection."""
    flat = np.asarray(ious, np.float64).reshape(-1)
    count, true = len(detections), len(truths)
    return explain_false_positives(
        flat,
        np.array([0, len(flat)]),
        np.array([0, count]),
        np.array([0, true]),
        np.asarray(detections, np.int64),
        np.asarray(truths, np.int64),
        np.zeros(true, bool) if silent is None else np.asarray(silent),
        np.zeros(true, bool) if taken is None else np.asarray(taken),
        np.full(count, FALSE) if states is None else np.asarray(states),
        foreground=0.5,
        background=0.1,
    )


@pytest.mark.parametrize(
    ("ious", "kind", "target"),
    [  # the overlap with a truth of its class, which is taken, and with one of another
        ((0.3, 0.0), LOCALISATION, 0),
        ((0.3, 0.9), LOCALISATION, 0),
        ((0.5, 0.9), LOCALISATION, 0),
        ((0.1, 0.9), LOCALISATION, 0),
        ((0.9, 0.9), CLASSIFICATION, 1),
        ((0.0, 0.5), CLASSIFICATION, 1),
        ((0.9, 0.4), DUPLICATE, 0),
        ((0.05, 0.4), BOTH, 1),
        ((0.05, 0.1), BACKGROUND, -1),
        ((0.0, 0.0), BACKGROUND, -1),
    ],
)
def test_each_kind_by_hand(ious, kind, target):
    kinds, targets, repairs = explain([ious], [0], [0, 1], taken=[True, False])
    assert (kinds.tolist(), targets.tolist()) == ([kind], [target])
    assert repairs.tolist() == [-1, 0 if kind == CLASSIFICATION else -1]


def test_matched_and_ignored_rows_stay_as_they_are():
    states = np.array([TRUE, IGNORED, FALSE], np.uint8)
    kinds, targets, _ = explain(np.full((3, 1), 0.3), [0, 0, 0], [0], states=states)
    assert kinds.tolist() == [TRUE, IGNORED, LOCALISATION]
    assert targets.tolist() == [-1, -1, 0]
    assert states.tolist() == [TRUE, IGNORED, FALSE]


def test_only_a_silent_truth_of_its_own_class_excuses_a_detection():
    kinds, _, _ = explain([[0.5], [0.4], [0.9]], [0, 0, 1], [0], silent=[True])
    assert kinds.tolist() == [IGNORED, BACKGROUND, BACKGROUND]


def test_the_first_of_equal_truths_is_aimed_at_and_the_first_detection_repairs():
    kinds, targets, repairs = explain([[0.3, 0.3], [0.4, 0.2]], [0, 0], [0, 0])
    assert kinds.tolist() == [LOCALISATION] * 2
    assert targets.tolist() == [0, 0]
    assert repairs.tolist() == [0, -1]


def test_threads_and_images_without_objects_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    detection_starts = np.array([0, 5, 5, 9, 20, 20, 20])
    truth_starts = np.array([0, 3, 5, 5, 9, 12, 12])
    blocks = np.append(0, np.cumsum(np.diff(detection_starts) * np.diff(truth_starts)))
    labels, truths = generator.integers(0, 2, 20), generator.integers(0, 2, 12)
    arguments = (generator.random(blocks[-1]), blocks, detection_starts, truth_starts, labels, truths)
    flags = (generator.random(12) < 0.2, generator.random(12) < 0.3, np.zeros(20, np.uint8))
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(error_analysis, "thread_count", lambda n=threads: n)
        results.append(explain_false_positives(*arguments, *flags, foreground=0.5, background=0.1))
    for result in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(result, results[0], strict=True))
    kinds = results[0][0]
    assert (kinds[5:9] == BACKGROUND).all()  # no truth there
    for image in (0, 3):  # each image by itself
        d, t = slice(*detection_starts[image : image + 2]), slice(*truth_starts[image : image + 2])
        alone = explain(
            arguments[0][blocks[image] : blocks[image + 1]],
            labels[d],
            truths[t],
            silent=flags[0][t],
            taken=flags[1][t],
        )
        assert np.array_equal(alone[0], kinds[d])


def test_nothing_at_all():
    kinds, targets, repairs = explain(np.zeros((0, 0)), [], [])
    assert len(kinds) == len(targets) == len(repairs) == 0
    detections, truths = taken_pairs(np.zeros(0, int), np.zeros(0, int), 2, 3)
    assert detections.tolist() == [-1, -1]
    assert truths.tolist() == [-1, -1, -1]


@settings(deadline=None, max_examples=40)
@given(pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=30))
def test_pairs_are_taken_in_order(pairs):
    first, second = (np.array([pair[i] for pair in pairs], np.int64) for i in range(2))
    expected = {}
    for d, t in pairs:
        if d not in expected and t not in expected.values():
            expected[d] = t
    detections, truths = taken_pairs(first, second, 6, 5)
    assert {d: t for d, t in enumerate(detections.tolist()) if t >= 0} == expected
    assert {d: t for t, d in enumerate(truths.tolist()) if d >= 0} == expected

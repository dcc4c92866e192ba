import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.kernels import matching
from delineate.kernels.matching import FALSE, IGNORED, TRUE, match_groups

RANGES = np.array([[0.0, 1e10], [0.0, 100.0], [100.0, 1e10]])


def starts_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def matched(groups, thresholds=(0.5,), ranges=RANGES[:1]):
    """Groups of (IoU rows, areas of detections, areas of truths, ignored, crowd), as columns."""
    ious = [np.asarray(group[0], np.float64).reshape(len(group[1]), len(group[2])) for group in groups]
    columns = [np.concatenate([np.asarray(group[k]).reshape(-1) for group in groups]) for k in range(1, 5)]
    return match_groups(
        np.concatenate([block.reshape(-1) for block in ious]),
        starts_of([block.size for block in ious]),
        starts_of([len(block) for block in ious]),
        starts_of([block.shape[1] for block in ious]),
        columns[0].astype(np.float64),
        columns[1].astype(np.float64),
        columns[2].astype(bool),
        columns[3].astype(bool),
        np.asarray(thresholds, np.float64),
        np.asarray(ranges, np.float64),
    )


def naive(groups, thresholds, ranges):
    """The rule as it reads: one that counts before one that does not, the largest overlap, the later of equal ones."""
    states, places = [], []
    for low, high in ranges:
        states.append([])
        for threshold in thresholds:
            row, chosen, before = [], [], 0
            for ious, found_areas, true_areas, ignored, crowd in groups:
                silent = [bool(i or a < low or a > high) for i, a in zip(ignored, true_areas, strict=True)]
                free = set(range(len(true_areas)))
                for overlaps, area in zip(ious, found_areas, strict=True):
                    reached = [k for k in free if overlaps[k] >= min(threshold, 1 - 1e-10)]
                    best = max(reached, key=lambda k: (not silent[k], overlaps[k], k), default=None)
                    if best is None:
                        row.append(IGNORED if area < low or area > high else FALSE)
                    else:
                        row.append(IGNORED if silent[best] else TRUE)
                        if not crowd[best]:
                            free.remove(best)
                    chosen.append(-1 if best is None else before + best)
                before += len(true_areas)
            states[-1].append(row)
            places.append(chosen)
    return np.array(states, np.uint8), np.array(places[: len(thresholds)], np.int64)


def test_by_hand():
    group = ([[0.6, 0.7], [0.9, 0.8], [0.2, 0.9]], [10, 10, 10], [10, 10], [0, 0], [0, 0])
    states, places = matched([group], thresholds=(0.5, 0.75))
    # 0.5: the first takes truth 1, the second truth 0, nothing is left for the third.
    # 0.75: the first reaches none, the second takes truth 0, the third truth 1.
    assert states.tolist() == [[[TRUE, TRUE, FALSE], [FALSE, TRUE, TRUE]]]
    assert places.tolist() == [[1, 0, -1], [-1, 0, 1]]
    assert states.dtype == np.uint8


def test_of_equal_overlaps_the_later_truth_is_taken():
    states, places = matched([([[0.7, 0.7, 0.6]] * 2, [1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0])])
    assert places.tolist() == [[1, 0]]
    assert states.tolist() == [[[TRUE, TRUE]]]


def test_a_truth_that_counts_goes_before_a_better_one_that_does_not():
    _, places = matched([([[0.95, 0.6], [0.95, 0.6]], [1, 1], [1, 1], [1, 0], [0, 0])])
    assert places.tolist() == [[1, 0]]  # the second finds only the ignored one free


def test_a_crowd_is_taken_by_any_number_and_an_ignored_one_once():
    for crowd, expected in ((1, [IGNORED] * 3), (0, [IGNORED, FALSE, FALSE])):
        states, _ = matched([([[0.9]] * 3, [1, 1, 1], [1], [1], [crowd])])
        assert states.tolist() == [[expected]]


def test_areas_at_the_ends_are_inside():
    group = ([[0.9, 0.0], [0.0, 0.9], [0.0, 0.0]], [100, 100, 100], [100, 99], [0, 0], [0, 0])
    states, places = matched([group], ranges=RANGES)
    # all; small: both truths; large: the truth of 99 is outside, what falls on it is ignored
    assert states[:, 0].tolist() == [[TRUE, TRUE, FALSE], [TRUE, TRUE, FALSE], [TRUE, IGNORED, FALSE]]
    assert places.tolist() == [[0, 1, -1]]  # of the first range
    states, _ = matched([([[0.0], [0.0]], [99, 101], [100], [0], [0])], ranges=RANGES)
    assert states[:, 0].tolist() == [[FALSE, FALSE], [FALSE, IGNORED], [IGNORED, FALSE]]


def test_the_threshold_itself_is_reached_and_that_of_one_but_for_rounding():
    below = np.nextafter(0.5, 0)
    states, _ = matched([([[0.5]], [1], [1], [0], [0]), ([[below]], [1], [1], [0], [0])])
    assert states.tolist() == [[[TRUE, FALSE]]]
    for iou, expected in ((1.0, TRUE), (1 - 1e-11, TRUE), (1 - 1e-9, FALSE)):
        assert matched([([[iou]], [1], [1], [0], [0])], thresholds=(1.0,))[0].item() == expected


def random_groups(generator, most=9):
    groups = []
    for _ in range(generator.integers(0, 6)):
        found, true = generator.integers(0, most, 2)
        crowd = generator.random(true) < 0.2
        groups.append(
            (
                generator.integers(0, 11, (found, true)) / 10,
                generator.choice([50, 99.5, 100, 100.5, 300], found),
                generator.choice([50, 99.5, 100, 100.5, 300], true),
                crowd | (generator.random(true) < 0.2),
                crowd,
            )
        )
    return [*groups, (np.zeros((0, 0)), [], [], [], [])]


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), thresholds=st.sampled_from([(0.0, 0.3, 0.5, 1.0), (0.8, 0.3, 1.0)]))
def test_equals_the_rule(seed, thresholds):
    groups = random_groups(np.random.default_rng(seed))
    states, places = matched(groups, thresholds, RANGES)
    expected, expected_places = naive(groups, thresholds, RANGES)
    assert np.array_equal(states, expected.reshape(states.shape))
    assert np.array_equal(places, expected_places.reshape(places.shape))


def test_a_crowded_group_equals_the_rule():
    groups = random_groups(np.random.default_rng(4), most=60)
    assert max(len(group[1]) * len(group[2]) for group in groups) > 1000
    states, places = matched(groups, (0.9, 0.6), RANGES)
    expected, expected_places = naive(groups, (0.9, 0.6), RANGES)
    assert np.array_equal(states, expected)
    assert np.array_equal(places, expected_places)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(monkeypatch, threads):
    generator = np.random.default_rng(3)
    groups = [group for _ in range(20) for group in random_groups(generator)]
    monkeypatch.setattr(matching, "thread_count", lambda: threads)
    states, places = matched(groups, (0.5, 0.8), RANGES)
    expected, expected_places = naive(groups, (0.5, 0.8), RANGES)
    assert np.array_equal(states, expected)
    assert np.array_equal(places, expected_places)


def test_nothing_to_match():
    states, places = matched([([], [], [], [], [])])
    assert (states.shape, places.shape) == ((1, 1, 0), (1, 0))
    states, places = matched([(np.zeros((2, 0)), [1, 1], [], [], []), (np.zeros((0, 2)), [], [1, 1], [0, 0], [0, 0])])
    assert (states.tolist(), places.tolist()) == ([[[FALSE, FALSE]]], [[-1, -1]])

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.kernels import average_precision
from delineate.kernels.average_precision import accumulate
from delineate.kernels.matching import FALSE, IGNORED, TRUE

RECALLS = np.linspace(0, 1, 101)


def accumulated(scores, states, positives, *, ranks=None, starts=None, recalls=RECALLS, limits=(100,)):
    states = np.asarray(states, np.uint8)
    count = states.shape[-1]
    return accumulate(
        np.array([0, count] if starts is None else starts, np.int64),
        np.asarray(scores, np.float64),
        np.zeros(count, np.int64) if ranks is None else np.asarray(ranks, np.int64),
        states[None],
        np.asarray(positives, np.int64)[:, None],
        np.asarray(recalls, np.float64),
        np.asarray(limits, np.int64),
    )


def naive(scores, states, ranks, total, recalls, limits):
    """Of one class, range and threshold: precision at a recall is the best that any cut of the list with it reaches."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    found = [i for i in order if states[i] != IGNORED]
    cuts = []  # (recall, precision, score) when the list is cut behind each
    within = [i for i in found if ranks[i] < limits[-1]]
    for n in range(1, len(within) + 1):
        head = within[:n]
        hits = sum(states[i] == TRUE for i in head)
        cuts.append((hits / total, hits / n, scores[head[-1]]))
    best = [max((p for r, p, _ in cuts if r >= recall), default=0.0) for recall in recalls]
    reached = [next((s for r, _, s in cuts if r >= max(recall, 1e-9)), 0.0) for recall in recalls]
    recall = [sum(states[i] == TRUE and ranks[i] < limit for i in found) / total for limit in limits]
    return best, reached, recall


def test_by_hand():
    # falling scores: right, wrong, right; three truths: precision 1 up to recall 1/3, 2/3 up to 2/3, then nothing
    precision, scores, recall = accumulated(
        [0.9, 0.8, 0.7], [[TRUE, FALSE, TRUE]], [3], recalls=[0, 0.33, 0.34, 0.66, 1]
    )
    assert precision.reshape(-1) == pytest.approx([1, 1, 2 / 3, 2 / 3, 0], abs=1e-15)
    assert scores.reshape(-1).tolist() == [0.9, 0.9, 0.7, 0.7, 0]
    assert recall.item() == 2 / 3


def test_the_later_precision_is_taken_where_it_is_higher():
    precision, _, _ = accumulated([0.9, 0.8, 0.7], [[FALSE, TRUE, TRUE]], [2], recalls=[0, 0.5, 1])
    assert precision.reshape(-1) == pytest.approx([2 / 3] * 3, abs=1e-15)


def test_a_recall_that_is_met_exactly_counts_as_reached():
    precision, _, _ = accumulated([0.9, 0.8], [[TRUE, FALSE]], [10], recalls=[0.1, np.nextafter(0.1, 1)])
    assert precision.reshape(-1) == pytest.approx([1, 0], abs=1e-15)


def test_the_order_is_that_of_scores_and_among_equal_ones_that_of_rows():
    """Rows come image by image; ranks are over all images."""
    for scores, states, expected in (
        ([0.2, 0.9], [[FALSE, TRUE]], 1.0),
        ([0.5, 0.5], [[FALSE, TRUE]], 0.5),
        ([0.5, 0.5], [[TRUE, FALSE]], 1.0),
    ):
        precision, _, _ = accumulated(scores, states, [1], recalls=[1])
        assert precision.item() == pytest.approx(expected, abs=1e-15)


def test_ignored_detections_change_nothing():
    plain = accumulated([0.9, 0.7, 0.6], [[TRUE, FALSE, TRUE]], [4])
    padded = accumulated([0.95, 0.9, 0.8, 0.7, 0.6, 0.1], [[IGNORED, TRUE, IGNORED, FALSE, TRUE, IGNORED]], [4])
    assert all(np.array_equal(a, b) for a, b in zip(plain, padded, strict=True))


def test_limits_of_detections():
    """The second of an image does not count for recall within 1, nor for precision when 1 is the largest limit."""
    arguments = ([0.9, 0.8, 0.7], [[TRUE, TRUE, FALSE]], [2])
    _, _, recall = accumulated(*arguments, ranks=[0, 1, 0], limits=[1, 2])
    assert recall.reshape(-1).tolist() == [0.5, 1.0]
    precision, _, recall = accumulated(*arguments, ranks=[0, 1, 0], limits=[1], recalls=[0, 0.5, 0.51])
    assert recall.item() == 0.5
    assert precision.reshape(-1).tolist() == pytest.approx([1, 1, 0], abs=1e-15)


def test_a_class_without_truths_is_undefined_and_one_without_detections_is_zero():
    precision, scores, recall = accumulated(
        [0.5, 0.4], [[FALSE, FALSE]], [0, 3, 2], starts=[0, 2, 2, 2], recalls=[0, 0.5, 1], limits=[1, 10]
    )
    for values in (precision, scores, recall):
        assert np.isnan(values[:, :, 0]).all()
        assert (values[:, :, 1:] == 0).all()


def random_lists(generator):
    sizes = generator.integers(0, 30, generator.integers(1, 5))
    count = int(sizes.sum())
    return (
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        generator.integers(0, 8, count) / 8,
        generator.integers(0, 4, count),
        generator.choice([FALSE, TRUE, TRUE, IGNORED], (2, 3, count)).astype(np.uint8),
        generator.integers(0, 3, (len(sizes), 2)) * 40,  # at least as many as can be found, or none
    )


def check(generator):
    starts, scores, ranks, states, positives = random_lists(generator)
    recalls, limits = RECALLS[::10], np.array([1, 3, int(generator.integers(4, 6))])[: generator.integers(1, 4)]
    found = accumulate(starts, scores, ranks, states, positives, recalls, limits)
    assert [part.shape[:3] for part in found] == [(2, 3, len(positives))] * 3
    for area, threshold, k in np.ndindex(2, 3, len(positives)):
        own = slice(starts[k], starts[k + 1])
        values = [part[area, threshold, k] for part in found]
        if positives[k, area] == 0:
            assert all(np.isnan(value).all() for value in values)
            continue
        expected = naive(
            scores[own].tolist(), states[area, threshold, own], ranks[own], positives[k, area], recalls, limits
        )
        for value, reference in zip(values, expected, strict=True):
            assert value == pytest.approx(np.array(reference), rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_equals_the_definition(seed):
    check(np.random.default_rng(seed))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(monkeypatch, threads):
    monkeypatch.setattr(average_precision, "thread_count", lambda: threads)
    check(np.random.default_rng(17))


def test_no_detections_and_no_classes():
    precision, _, recall = accumulated([], np.zeros((1, 0)), [2])
    assert (precision == 0).all()
    assert (recall == 0).all()
    precision, _, recall = accumulate(
        np.zeros(1, np.int64),
        np.zeros(0),
        np.zeros(0, np.int64),
        np.zeros((1, 1, 0), np.uint8),
        np.zeros((0, 1), np.int64),
        RECALLS,
        np.array([100]),
    )
    assert (precision.shape, recall.shape) == ((1, 1, 0, 101), (1, 1, 0, 1))

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ArgumentError
from delineate.metrics.ranking import (
    average_precision_11_point,
    average_precision_all_point,
    ranked_scores,
)
from delineate.metrics.ranking_metric import RankedOutcomes


class Ranked(RankedOutcomes):
    def update(self, *columns):
        self.keep(*columns)


def curve(right, positives):
    right = np.cumsum(right)
    return right / np.arange(1, len(right) + 1), right / positives


def devkit_all_point(precision, recall):
    """``VOCap.m`` in words: pad, let the precision fall, add the rectangles where the recall rises."""
    r, p = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(p) - 2, -1, -1):
        p[i] = max(p[i], p[i + 1])
    return sum((r[i] - r[i - 1]) * p[i] for i in range(1, len(r)) if r[i] != r[i - 1])


def devkit_11_point(precision, recall):
    total = 0.0
    for level in np.arange(0, 1.1, 0.1):
        reached = [p for p, r in zip(precision, recall, strict=True) if r >= level]
        total += max(reached, default=0) / 11
    return total


def test_by_hand():
    """Right, wrong, right of 4 truths. Precision 1, 1/2, 2/3 at recall 1/4, 1/4, 1/2."""
    precision, recall = curve([1, 0, 1], 4)
    assert average_precision_all_point(precision, recall) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert average_precision_11_point(precision, recall) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)


@settings(deadline=None, max_examples=80)
@given(right=st.lists(st.booleans(), max_size=40), missed=st.integers(0, 20))
def test_equal_the_devkits_loops(right, missed):
    positives = sum(right) + missed
    if positives:
        precision, recall = curve(right, positives)
        found = average_precision_all_point(precision, recall), average_precision_11_point(precision, recall)
        assert found[0] == pytest.approx(devkit_all_point(precision.tolist(), recall.tolist()), abs=1e-12)
        assert found[1] == pytest.approx(devkit_11_point(precision.tolist(), recall.tolist()), abs=1e-12)


def test_perfect_none_and_undefined():
    precision, recall = curve([1] * 7, 7)
    assert average_precision_all_point(precision, recall) == pytest.approx(1)
    assert average_precision_11_point(precision, recall) == 1
    for average in (average_precision_all_point, average_precision_11_point):
        assert average(np.zeros(0), np.zeros(0)) == 0
        assert math.isnan(average(np.zeros(2), np.full(2, np.nan)))


def test_ranking_by_hand():
    """Class 0: right at 0.9, ignored at 0.8, wrong at 0.7 of 2 truths; class 1: only a difficult truth; 2: missed."""
    labels, scores = np.array([0, 1, 0, 0]), np.array([0.7, 0.5, 0.9, 0.8])
    outcomes = np.array([[0], [2], [1], [2]], np.uint8)
    found = ranked_scores(labels, scores, outcomes, np.array([2, 0, 3]), ("a", "b", "c"), (0.5,), curves=True)
    a, b, c = (found["per_class"][name] for name in "abc")
    assert (a["ap"], a["truths"], a["detections"]) == (0.5, 2, 3)
    assert a["ap_11_point"] == pytest.approx(6 / 11)
    assert a["per_threshold"]["0.5"]["false_positives"] == a["per_threshold"]["0.5"]["true_positives"] == 1
    assert math.isnan(b["ap"])
    assert math.isnan(b["per_threshold"]["0.5"]["recall"])
    assert c["ap"] == c["per_threshold"]["0.5"]["recall"] == 0
    assert found["map"] == found["per_threshold"]["0.5"]["map"] == 0.25
    assert found["curves"]["a"]["0.5"] == {"scores": [0.9, 0.7], "precision": [1, 0.5], "recall": [0.5, 0.5]}
    assert (found["truths"], found["detections"]) == (5, 4)


def test_equal_scores_keep_their_order():
    outcomes = np.array([[0], [1]], np.uint8)
    arguments = np.array([1]), ("a",), (0.5,)
    assert ranked_scores(np.zeros(2, np.int64), np.ones(2), outcomes, *arguments)["map"] == 0.5
    assert ranked_scores(np.zeros(2, np.int64), np.ones(2), outcomes[::-1].copy(), *arguments)["map"] == 1


def test_nothing_kept_is_undefined():
    metric = Ranked(("a", "b"), thresholds=(0.5, 0.75))
    metric.update(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 2), np.uint8), np.zeros(2, np.int64))
    found = metric.compute()
    assert math.isnan(found["map"])
    assert found["detections"] == 0


def test_batches_and_processes_add_up():
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 3, 60), generator.permutation(60) / 60
    outcomes, positives = generator.integers(0, 3, (60, 2), dtype=np.uint8), np.array([30, 40, 35])
    parts = [Ranked(tuple("abc"), thresholds=(0.5, 0.75)) for _ in range(2)]
    for metric, rows in zip(parts, (slice(0, 25), slice(25, 60)), strict=True):
        metric.update(labels[rows], scores[rows], outcomes[rows], positives if rows.start else 0 * positives)
    parts[0].merge_state(parts[1])
    assert parts[0].compute() == ranked_scores(labels, scores, outcomes, positives, tuple("abc"), (0.5, 0.75))
    parts[0].reset()
    assert len(parts[0].labels) == 0
    assert torch.equal(parts[0].positives, torch.zeros(3, dtype=torch.int64))


def test_errors_say_what_to_do():
    with pytest.raises(ArgumentError, match=r"class_names must name at least one class; got none\."):
        Ranked((), thresholds=(0.5,))

import math
import warnings

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve

from delineate.errors import ArgumentError
from delineate.metrics.calibration import best_f1_thresholds, calibration_scores
from delineate.metrics.calibration_metric import CalibrationScores
from delineate.ops.matching import match_objects
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchmetrics.functional.classification import binary_calibration_error

ERRORS = ("expected_calibration_error", "max_calibration_error")


def ranked(seed, count=400, classes=4, rounded=True):
    generator = np.random.default_rng(seed)
    scores = generator.random(count)
    states = np.where(generator.random(count) < 0.1, 2, generator.random(count) < scores**2).astype(np.uint8)
    labels = generator.integers(0, classes, count)
    hits = np.bincount(labels[states == 1], minlength=classes)
    return np.round(scores, 2) if rounded else scores, states, labels, hits + generator.integers(0, 20, classes)


def naive_calibration(scores, states, num_bins, score_threshold):
    bins = [[] for _ in range(num_bins)]
    edges = np.linspace(0, 1, num_bins + 1).tolist()
    for score, state in zip(scores.tolist(), states.tolist(), strict=True):
        if state != 2 and score >= score_threshold:
            bins[next(i for i in range(num_bins) if score <= edges[i + 1])].append((score, state))
    gaps = [abs(sum(s for s, _ in b) - sum(h for _, h in b)) / len(b) for b in bins if b]
    total = sum(map(len, bins))
    if not total:
        return [float("nan")] * 2
    return [sum(g * len(b) for g, b in zip(gaps, filter(None, bins), strict=True)) / total, max(gaps)]


def naive_f1(scores, states, labels, positives, k):
    """Every score of the class tried as the threshold."""
    rows = [(s, t) for s, t, c in zip(scores.tolist(), states.tolist(), labels.tolist(), strict=True) if c == k]
    rows = [(s, t) for s, t in rows if t != 2]
    if positives[k] == 0:
        return [float("nan")] * 4
    best = (0.0, float("nan"), float("nan"), 0.0)
    for threshold in sorted({s for s, _ in rows}, reverse=True):
        chosen = [t for s, t in rows if s >= threshold]
        hits = sum(chosen)
        f1 = 2 * hits / (len(chosen) + positives[k])
        if f1 > best[0] or math.isnan(best[1]):
            best = (f1, threshold, hits / len(chosen), hits / positives[k])
    return [best[1], best[0], best[2], best[3]]


def test_calibration_by_hand():
    """Upper bin: 0.9 right and 0.7 wrong, 0.8 promised and 0.5 kept. Lower: 0.4 right, 0.1 wrong: 0.25 and 0.5."""
    scores = calibration_scores(np.array([0.9, 0.7, 0.4, 0.1]), np.array([1, 0, 1, 0]), num_bins=2)
    assert scores["expected_calibration_error"] == pytest.approx((0.3 * 2 + 0.25 * 2) / 4)
    assert scores["max_calibration_error"] == pytest.approx(0.3)
    assert scores["bins"] == [
        {"lower": 0.0, "upper": 0.5, "count": 2, "mean_score": pytest.approx(0.25), "precision": 0.5},
        {"lower": 0.5, "upper": 1.0, "count": 2, "mean_score": pytest.approx(0.8), "precision": 0.5},
    ]


def test_an_edge_belongs_to_the_bin_below_and_ignored_ones_to_none():
    scores = np.array([0.0, 0.5, 0.5, 0.75, 1.0, 0.9])
    bins = calibration_scores(scores, np.array([0, 1, 0, 1, 1, 2]), num_bins=4)["bins"]
    assert [part["count"] for part in bins] == [1, 2, 1, 1]
    assert bins[0]["precision"] == 0
    some = calibration_scores(scores, np.array([0, 1, 0, 1, 1, 2]), num_bins=4, score_threshold=0.5)["bins"]
    assert [part["count"] for part in some] == [0, 2, 1, 1]
    assert math.isnan(some[0]["mean_score"])
    assert math.isnan(some[0]["precision"])


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 200),
    num_bins=st.sampled_from([1, 3, 10, 15]),
    score_threshold=st.sampled_from([0, 0.3, 0.99]),
)
def test_calibration_equals_the_definition(seed, count, num_bins, score_threshold):
    scores, states, _, _ = ranked(seed, count)
    found = calibration_scores(scores, states, num_bins=num_bins, score_threshold=score_threshold)
    expected = naive_calibration(scores, states, num_bins, score_threshold)
    assert [found[name] for name in ERRORS] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert sum(part["count"] for part in found["bins"]) == ((states != 2) & (scores >= score_threshold)).sum()


def test_calibration_agrees_with_torchmetrics_and_scikit_learn():
    scores, states, _, _ = ranked(1, 5000, rounded=False)
    scores = scores.astype(np.float32).astype(np.float64)
    scores, states = scores[states != 2], states[states != 2]
    found = calibration_scores(scores, states)
    tensors = torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(states.astype(np.int64))
    for name, norm in zip(ERRORS, ("l1", "max"), strict=True):
        assert found[name] == pytest.approx(float(binary_calibration_error(*tensors, n_bins=15, norm=norm)), rel=1e-4)
    precision, mean_score = calibration_curve(states, scores, n_bins=15)
    assert [part["precision"] for part in found["bins"]] == pytest.approx(precision)
    assert [part["mean_score"] for part in found["bins"]] == pytest.approx(mean_score)


def test_a_score_that_means_what_it_says_has_no_error():
    scores = np.repeat([0.25, 0.75], 4)
    found = calibration_scores(scores, np.array([1, 0, 0, 0, 1, 1, 1, 0]))
    assert [found[name] for name in ERRORS] == [0, 0]
    sure = calibration_scores(np.ones(5), np.zeros(5, np.int64))
    assert [sure[name] for name in ERRORS] == [1, 1]


def test_the_metric_adds_up_and_does_not_depend_on_order():
    scores, states, _, _ = ranked(2)
    whole = calibration_scores(scores, states, num_bins=10, score_threshold=0.2)
    first, second = (CalibrationScores(num_bins=10, score_threshold=0.2) for _ in range(2))
    first.update(torch.from_numpy(scores[150:]), torch.from_numpy(states[150:]))
    second.update(torch.from_numpy(scores[:150]), torch.from_numpy(states[:150]))
    first.merge_state(second)
    merged = first.compute()
    for a, b in zip(merged["bins"], whole["bins"], strict=True):
        assert a == pytest.approx(b, nan_ok=True)
    assert [merged[name] for name in ERRORS] == pytest.approx([whole[name] for name in ERRORS])
    first.reset()
    assert not first.counts.any()


def test_scores_of_half_precision_that_carry_a_gradient_count():
    metric = CalibrationScores(num_bins=4)
    metric.update(torch.tensor([0.25, 1.0], dtype=torch.float16, requires_grad=True), torch.tensor([False, True]))
    assert metric.compute()["expected_calibration_error"] == pytest.approx(0.125)


@pytest.mark.gpu
def test_scores_on_a_gpu_count_the_same():
    scores, states, _, _ = ranked(4)
    metric = CalibrationScores().cuda()
    metric.update(torch.from_numpy(scores).cuda(), torch.from_numpy(states).cuda())
    assert metric.compute()["expected_calibration_error"] == pytest.approx(
        calibration_scores(scores, states)["expected_calibration_error"]
    )


def test_best_f1_by_hand():
    """Class 0: F1 is 2/3, 1/2, 4/5, 2/3 down the list. 1: no detections. 2: no truths. 3: all wrong."""
    best = best_f1_thresholds(
        np.array([0.5, 0.9, 0.6, 0.8, 0.7, 0.4, 0.3]),
        np.array([0, 1, 1, 0, 0, 0, 0]),
        np.array([0, 0, 0, 0, 2, 3, 3]),
        np.array([2, 3, 0, 1]),
    )
    nan = float("nan")
    assert best["threshold"].tolist() == pytest.approx([0.6, nan, nan, 0.4], nan_ok=True)
    assert best["f1"].tolist() == pytest.approx([0.8, 0, nan, 0], nan_ok=True)
    assert best["precision"].tolist() == pytest.approx([2 / 3, nan, nan, 0], nan_ok=True)
    assert best["recall"].tolist() == pytest.approx([1, 0, nan, 0], nan_ok=True)


def test_equal_scores_stand_or_fall_together_and_ties_go_to_the_highest_threshold():
    together = best_f1_thresholds(np.array([0.5, 0.5]), np.array([1, 0]), np.array([0, 0]), np.array([1]))
    assert together["precision"].tolist() == [0.5]
    # one of two found at 0.9: 2/3; both found among four: 4/6, the same
    level = best_f1_thresholds(
        np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 0, 1]), np.zeros(4, np.int64), np.array([2])
    )
    assert level["threshold"].tolist() == [0.9]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 150))
def test_best_f1_equals_the_definition(seed, count):
    columns = ranked(seed, count)
    best = best_f1_thresholds(*columns)
    for k in range(4):
        found = [best[name][k] for name in ("threshold", "f1", "precision", "recall")]
        assert found == pytest.approx(naive_f1(*columns, k), nan_ok=True)


def test_best_f1_agrees_with_scikit_learn():
    scores, states, labels, _ = ranked(3, 2000, classes=1, rounded=False)
    scores, states, labels = scores[states != 2], states[states != 2], labels[states != 2]
    best = best_f1_thresholds(scores, states, labels, np.array([(states == 1).sum()]))
    precision, recall, thresholds = precision_recall_curve(states == 1, scores)
    f1 = 2 * precision * recall / (precision + recall)
    top = int(np.argmax(f1))
    expected = (thresholds[top], f1[top], precision[top], recall[top])
    assert [best[name][0] for name in ("threshold", "f1", "precision", "recall")] == pytest.approx(expected)


def test_states_of_matched_objects_are_what_is_wanted():
    truth = Annotations.of((1,), ("cat", "dog"), Objects.of([0, 0], [0, 1], [[0, 0, 9, 9], [20, 0, 9, 9]]))
    found = Objects.of([0, 0], [0, 0], [[0, 0, 9, 9], [50, 0, 9, 9]], scores=[0.75, 0.25])
    matches = match_objects(truth, found, iou_thresholds=[0.5])
    assert calibration_scores(matches.scores, matches.states[0, 0])["expected_calibration_error"] == 0.25
    best = best_f1_thresholds(matches.scores, matches.states[0, 0], matches.labels, matches.positives[:, 0])
    assert best["threshold"][0] == 0.75
    assert best["f1"].tolist() == [1, 0]


def test_nothing_counted_is_undefined():
    for states in (np.zeros(0, np.int64), np.full(3, 2)):
        found = calibration_scores(np.full(len(states), 0.5), states)
        assert all(math.isnan(found[name]) for name in ERRORS)
        assert [part["count"] for part in found["bins"]] == [0] * 15
        best = best_f1_thresholds(np.full(len(states), 0.5), states, np.zeros(len(states), np.int64), np.array([2, 0]))
        assert best["f1"].tolist() == pytest.approx([0, float("nan")], nan_ok=True)
        assert np.isnan(best["threshold"]).all()
    assert best_f1_thresholds(np.zeros(0), states[:0], states[:0], states[:0])["f1"].tolist() == []


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    half = np.full(2, 0.5)
    with pytest.raises(
        ArgumentError, match=r"scores must lie in 0 \.\. 1; got 3\.5\. If they are logits, pass their si"
    ):
        calibration_scores(np.array([0.5, 3.5]), np.array([0, 1]))
    with pytest.raises(ArgumentError, match=r"scores must lie in 0 \.\. 1; got nan\."):
        calibration_scores(np.array([0.5, np.nan]), np.array([0, 1]))
    with pytest.raises(ArgumentError, match=r"states must be 0 false positive, 1 true positive or 2 ignored; got 3\."):
        calibration_scores(half, np.array([0, 3]))
    with pytest.raises(ArgumentError, match=r"states must hold one state for each of 2 scores; got \(1,\)\."):
        best_f1_thresholds(half, np.array([1]), np.array([0, 0]), np.array([1]))
    with pytest.raises(ArgumentError, match=r"labels must hold one class for each of 2 scores; got 1\."):
        best_f1_thresholds(half, np.array([1, 0]), np.array([0]), np.array([1]))
    with pytest.raises(ArgumentError, match=r"labels must lie in 0 \.\. 0, the classes of positives; got 1\."):
        best_f1_thresholds(half, np.array([1, 0]), np.array([0, 1]), np.array([1]))
    with pytest.raises(ArgumentError, match=r"num_bins must be at least 1; got 0\."):
        CalibrationScores(num_bins=0)

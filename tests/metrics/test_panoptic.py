import math
from collections import defaultdict

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ArgumentError
from delineate.metrics.panoptic import PanopticCounts, panoptic_counts, panoptic_scores
from delineate.metrics.panoptic_metric import PanopticScores
from delineate.structures.panoptic import PanopticMap, PanopticSegments

NAMES, THINGS = ("cat", "dog", "sky", "sea"), (True, True, False, False)
CAT, DOG, SKY, SEA = range(4)


def image(ids, labels=(), crowd=()):
    """A map of the ids 1, 2, ... with these labels; those of ``crowd`` stand for a group."""
    ids = np.atleast_2d(ids)
    listed = list(range(1, len(labels) + 1))
    return PanopticMap(ids, PanopticSegments.of(ids=listed, labels=list(labels), crowd=[i in crowd for i in listed]))


def counted(*pairs):
    scores = PanopticScores(NAMES, THINGS)
    for prediction, target in pairs:
        scores.update(prediction, target)
    return scores.compute()


def by_definition(prediction, target):
    """panopticapi's rules over sets of pixels: {class: [sum of IoU, TP, FP, FN]}."""

    def described(found):
        table = zip(
            *(c.tolist() for c in (found.segments.ids, found.segments.labels, found.segments.crowd)), strict=True
        )
        return {i: (set(np.flatnonzero(found.ids == i).tolist()), label, crowd) for i, label, crowd in table}

    truth, found = described(target), described(prediction)
    void = set(np.flatnonzero(target.ids == 0).tolist())
    sums = defaultdict(lambda: [0.0, 0, 0, 0])
    hit, used = set(), set()
    for i, (pixels, label, crowd) in truth.items():
        for j, (others, other_label, _) in found.items():
            if crowd or label != other_label or not pixels & others:
                continue
            iou = len(pixels & others) / len((pixels | others) - (void & others))
            if iou > 0.5:
                sums[label][0] += iou
                sums[label][1] += 1
                hit.add(i)
                used.add(j)
    last_crowd = {label: pixels for pixels, label, crowd in truth.values() if crowd}
    for i, (_, label, crowd) in truth.items():
        if i not in hit and not crowd:
            sums[label][3] += 1
    for j, (others, label, _) in found.items():
        excused = len(others & void) + len(others & last_crowd.get(label, set()))
        if j not in used and not excused / len(others) > 0.5:
            sums[label][2] += 1
    return {label: sums[label] for label in range(len(NAMES))}


def assert_same_counts(counts, expected):
    for label, (iou_sum, tp, fp, fn) in expected.items():
        assert (counts.tp[label], counts.fp[label], counts.fn[label]) == (tp, fp, fn)
        assert counts.iou_sum[label] == pytest.approx(iou_sum, rel=1e-12)


def random_image(generator, shape=(12, 14), crowd=0.0):
    """Blocks of segments whose ids are far apart and in no order, some of them void."""
    count = int(generator.integers(0, 9))
    coarse = generator.integers(0, count + 1, (4, 5))
    rows, columns = (np.sort(generator.integers(0, length, size)) for length, size in zip((4, 5), shape, strict=True))
    dense = coarse[rows][:, columns]
    known = np.concatenate([[0], 1 + generator.choice(256**3 - 1, count, replace=False)])
    present = generator.permutation([k for k in range(1, count + 1) if (dense == k).any()]).astype(int)
    labels = generator.integers(0, len(NAMES), len(present))
    table = PanopticSegments.of(ids=known[present], labels=labels, crowd=generator.random(len(present)) < crowd)
    return PanopticMap(known[dense], table)


def disturbed(generator, target):
    """The target with some pixels moved and some segments merged, dropped or of another class."""
    ids = np.roll(target.ids, generator.integers(-1, 2), axis=1)
    for old in target.segments.ids:
        chance = generator.random()
        if chance < 0.1:
            ids = np.where(ids == old, 0, ids)
        elif chance < 0.2:
            ids = np.where(ids == old, generator.choice(target.segments.ids), ids)
        elif chance < 0.3:
            ids[::2] = np.where(ids[::2] == old, 16_000_000 + int(generator.integers(0, 9)), ids[::2])
    present = [int(i) for i in np.unique(ids) if i]
    label_of = dict(zip(target.segments.ids.tolist(), target.segments.labels.tolist(), strict=True))
    labels = [label_of.get(i, CAT) if generator.random() < 0.9 else DOG for i in present]
    return PanopticMap(ids, PanopticSegments.of(ids=present, labels=labels))


def test_by_hand():
    """Cat 1 is found by 4 of 5 pixels, one of its prediction's on void; cat 2 is missed; the dog is not there."""
    target = image([1, 1, 1, 1, 1, 2, 2, 0, 3, 3], [CAT, CAT, SKY])
    prediction = image([0, 1, 1, 1, 1, 2, 2, 1, 3, 3], [CAT, DOG, SKY])
    counts = panoptic_counts(prediction, target, num_classes=4)
    assert counts.iou_sum.tolist() == [4 / 5, 0, 1, 0]
    assert counts.tp.tolist() == [1, 0, 1, 0]
    assert counts.fp.tolist() == [0, 1, 0, 0]
    assert counts.fn.tolist() == [1, 0, 0, 0]
    scores = counted((prediction, target))
    cat = {"pq": 0.8 / 1.5, "sq": 0.8, "rq": 1 / 1.5, "tp": 1, "fp": 0, "fn": 1, "iou_sum": 0.8}
    assert scores["per_class"]["cat"] == pytest.approx(cat)
    assert scores["per_class"]["dog"] == {"pq": 0, "sq": 0, "rq": 0, "tp": 0, "fp": 1, "fn": 0, "iou_sum": 0}
    assert scores["per_class"]["sky"]["pq"] == 1
    assert all(math.isnan(scores["per_class"]["sea"][key]) for key in ("pq", "sq", "rq"))
    assert scores["all"] == pytest.approx({"pq": (0.8 / 1.5 + 0 + 1) / 3, "sq": 0.6, "rq": 5 / 9, "classes": 3})
    assert scores["things"] == pytest.approx({"pq": 0.4 / 1.5, "sq": 0.4, "rq": 1 / 3, "classes": 2})
    assert scores["stuff"] == {"pq": 1, "sq": 1, "rq": 1, "classes": 1}
    assert scores["images"] == 1


def test_an_iou_of_exactly_one_half_is_no_match():
    target, prediction = image([1, 1, 2, 2], [CAT, SKY]), image([1, 2, 2, 2], [CAT, SKY])
    counts = panoptic_counts(prediction, target, num_classes=4)
    assert (counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist()) == ([0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0])


@pytest.mark.parametrize(
    ("target", "crowd", "false_positives"),
    [
        ([0, 0, 0, 1], (), 0),  # 3 of 4 pixels on void
        ([0, 0, 1, 1], (), 1),  # exactly half is not more than half
        ([2, 2, 2, 1], (2,), 0),  # on a crowd of cats
        ([0, 2, 2, 1], (2,), 0),  # void and crowd together
        ([2, 2, 1, 1], (2,), 1),
        ([3, 3, 3, 1], (3,), 1),  # a crowd of dogs excuses no cat
        ([2, 2, 4, 4], (2, 4), 1),  # of two crowds of cats only the last one listed counts: half
        ([2, 4, 4, 4], (2, 4), 0),
        ([2, 2, 2, 4], (2, 4), 1),
    ],
)
def test_what_excuses_a_prediction_without_a_match(target, crowd, false_positives):
    labels = {1: SKY, 2: CAT, 3: DOG, 4: CAT}
    present = sorted(set(target) - {0})
    table = PanopticSegments.of(ids=present, labels=[labels[i] for i in present], crowd=[i in crowd for i in present])
    prediction = image([1, 1, 1, 1], [CAT])
    found = PanopticMap(np.array([target]), table)
    counts = panoptic_counts(prediction, found, num_classes=4)
    assert counts.fp[CAT] == false_positives
    assert counts.fn.tolist() == [0, 0, 1 if 1 in target else 0, 0]
    assert_same_counts(counts, by_definition(prediction, found))


def test_the_last_crowd_is_that_of_the_list_and_not_of_the_ids():
    prediction = image([1, 1, 1, 1], [CAT])
    for order, false_positives in (([2, 4], 1), ([4, 2], 0)):
        table = PanopticSegments.of(ids=order, labels=[CAT, CAT], crowd=[True, True])
        target = PanopticMap(np.array([[2, 2, 2, 4]]), table)
        assert panoptic_counts(prediction, target, num_classes=4).fp[CAT] == false_positives


def test_nothing_to_count():
    """All void, only crowd, nothing predicted: no class occurs."""
    void, crowd = image([0, 0, 0]), image([1, 1, 1], [CAT], crowd=(1,))
    cats = image([1, 1, 1], [CAT])
    for prediction, target in ((void, void), (cats, void), (void, crowd), (cats, crowd)):
        scores = counted((prediction, target))
        assert all(math.isnan(scores[group][key]) for group in ("all", "things", "stuff") for key in ("pq", "sq", "rq"))
        assert [scores[group]["classes"] for group in ("all", "things", "stuff")] == [0, 0, 0]
    missed = counted((void, cats))
    assert missed["all"] == {"pq": 0, "sq": 0, "rq": 0, "classes": 1}
    assert math.isnan(missed["stuff"]["pq"])


def test_a_crowd_that_is_predicted_is_a_segment_like_others():
    target = image([1, 1, 0], [CAT])
    assert counted((image([1, 1, 0], [CAT], crowd=(1,)), target))["all"]["pq"] == 1


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 2**32 - 1), crowd=st.sampled_from([0.0, 0.3, 1.0]))
def test_equals_the_definition(seed, crowd):
    generator = np.random.default_rng(seed)
    target = random_image(generator, crowd=crowd)
    for prediction in (disturbed(generator, target), random_image(generator)):
        assert_same_counts(panoptic_counts(prediction, target, num_classes=4), by_definition(prediction, target))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_segments_are_called_changes_nothing(seed):
    generator = np.random.default_rng(seed)
    target = random_image(generator, crowd=0.3)
    prediction = disturbed(generator, target)
    expected = panoptic_counts(prediction, target, num_classes=4)

    def renamed(found):
        table = found.segments
        fresh = 1 + generator.choice(256**3 - 1, len(table), replace=False)
        rows = table.rows(found.ids.ravel().astype(np.int64)).reshape(found.size)
        ids = np.where(rows < 0, 0, np.append(fresh, 0)[rows])
        return PanopticMap(ids, PanopticSegments.of(ids=fresh, labels=table.labels, crowd=table.crowd))

    found = panoptic_counts(renamed(prediction), renamed(target), num_classes=4)
    for name in ("tp", "fp", "fn"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert found.iou_sum == pytest.approx(expected.iou_sum, rel=1e-12)


def test_a_perfect_prediction_scores_one():
    generator = np.random.default_rng(3)
    images = [random_image(generator) for _ in range(20)]
    scores = counted(*((found, found) for found in images))
    assert scores["all"] == {"pq": 1, "sq": 1, "rq": 1, "classes": 4}
    assert scores["images"] == 20


def test_quality_is_its_two_factors():
    generator = np.random.default_rng(4)
    targets = [random_image(generator) for _ in range(20)]
    scores = counted(*((disturbed(generator, target), target) for target in targets))
    for values in scores["per_class"].values():
        assert 0 < values["pq"] < 1
        assert values["pq"] == pytest.approx(values["sq"] * values["rq"])
        assert values["sq"] > 0.5


def test_states_of_two_processes_add_up():
    generator = np.random.default_rng(5)
    targets = [random_image(generator, crowd=0.2) for _ in range(9)]
    pairs = [(disturbed(generator, target), target) for target in targets]
    whole = counted(*pairs)
    first, second = PanopticScores(NAMES, THINGS), PanopticScores(NAMES, THINGS)
    for scores, share in ((first, pairs[:2]), (second, pairs[2:])):
        for pair in share:
            scores.update(*pair)
    first.merge_state(second)
    merged = first.compute()
    assert merged["images"] == 9
    for name in NAMES:
        assert merged["per_class"][name] == pytest.approx(whole["per_class"][name], rel=1e-12, nan_ok=True)
    first.reset()
    assert (int(first.images), int(first.tp.sum()), float(first.iou_sum.sum())) == (0, 0, 0.0)


@pytest.mark.gpu
def test_states_on_a_gpu_count_the_same():
    target = random_image(np.random.default_rng(6))
    metric = PanopticScores(NAMES, THINGS).to(torch.device("cuda"))
    metric.update(target, target)
    assert metric.tp.is_cuda
    assert metric.compute() == pytest.approx(counted((target, target)), nan_ok=True)


def counts_of(classes):
    zeros = np.zeros(classes, np.int64)
    return PanopticCounts(np.zeros(classes), zeros, zeros, zeros)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PanopticScores((), ()), r"class_names must name at least one class; got none\."),
        (lambda: PanopticScores(("a", "a"), (True, True)), r"class_names must all differ; got a, a\."),
        (lambda: PanopticScores(("a", "b"), (True,)), r"things must hold 2 flags, one a class; got 1\."),
        (
            lambda: panoptic_scores(counts_of(2), class_names=("a",), things=(True,), images=0),
            r"class_names must name the 2 classes counted; got 1\.",
        ),
        (
            lambda: counted((image([1, 1], [CAT]), image([1, 1, 1], [CAT]))),
            r"prediction must be \(1, 3\) as the target; got \(1, 2\)\.",
        ),
        (lambda: counted((image([1], [9]), image([1], [CAT]))), r"prediction must have labels 0 to 3; got 9\."),
        (lambda: counted((image([1], [CAT]), image([1], [4]))), r"target must have labels 0 to 3; got 4\."),
    ],
)
def test_errors_say_what_is_wrong(make, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    with pytest.raises(ArgumentError, match=message):
        make()

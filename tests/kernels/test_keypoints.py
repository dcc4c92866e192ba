import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.kernels import keypoints
from delineate.kernels.keypoints import group_similarities


def starts_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def similarities(detections, truths, boxes, areas, sigmas):
    """All of one group."""
    found, true = np.asarray(detections, np.float64), np.asarray(truths, np.float64)
    flat = group_similarities(
        found,
        true,
        np.asarray(boxes, np.float64),
        np.asarray(areas, np.float64),
        np.asarray(sigmas, np.float64),
        np.arange(len(found)),
        np.array([0, len(found)]),
        np.arange(len(true)),
        np.array([0, len(true)]),
        np.array([0, len(found) * len(true)]),
    )
    return flat.reshape(len(found), len(true))


def naive(found, true, box, area, sigmas):
    """One pair, in the paper's words: exp(-d^2 / (2 s^2 k^2)), s^2 the area and k twice the deviation."""
    labelled = true[:, 2] > 0
    if labelled.any():
        distance = np.hypot(*(found[:, :2] - true[:, :2])[labelled].T)
        k = 2 * sigmas[labelled]
    else:
        low, high = box[:2] - box[2:], box[:2] + 2 * box[2:]
        inside = np.clip(found[:, :2], low, high)
        distance, k = np.hypot(*(found[:, :2] - inside).T), 2 * sigmas
    return np.exp(-(distance**2) / (2 * (area + np.spacing(1)) * k**2)).mean()


def test_by_hand():
    """One point is hit, one missed by 3 and 4 pixels, one is not labelled."""
    truth = [[[10, 10, 2], [20, 20, 1], [0, 0, 0]]]
    found = [[[10, 10, 1], [23, 24, 1], [99, 99, 1]]]
    value = similarities(found, truth, [[0, 0, 30, 30]], [50.0], [0.25, 0.5, 0.1]).item()
    assert value == pytest.approx((1 + math.exp(-25 / (2 * 50 * 1.0**2))) / 2, rel=1e-12)


def test_nothing_labelled_is_compared_with_the_doubled_box():
    truth, box = [[[5, 5, 0], [5, 5, 0]]], [[10, 10, 10, 20]]  # doubled: 0 .. 30, -10 .. 50
    inside = [[[0, -10, 1], [30, 50, 1]]]
    assert similarities(inside, truth, box, [4.0], [0.5, 0.5]).item() == 1
    outside = [[[-1, 0, 1], [30, 52, 1]]]
    expected = (math.exp(-1 / 8) + math.exp(-4 / 8)) / 2
    assert similarities(outside, truth, box, [4.0], [0.5, 0.5]).item() == pytest.approx(expected, rel=1e-12)


def test_an_object_without_area_is_met_by_the_very_same_points_only():
    truth = [[[10, 10, 2]]]
    assert similarities([[[10, 10, 1]], [[10, 10.001, 1]]], truth, [[0, 0, 5, 5]], [0.0], [0.5]).tolist() == [[1], [0]]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_equals_the_definition_in_any_grouping(seed):
    generator = np.random.default_rng(seed)
    points, found, true = generator.integers(1, 20), *generator.integers(0, 12, 2)
    detections = generator.uniform(-10, 60, (found, points, 3))
    truths = generator.uniform(-10, 60, (true, points, 3))
    truths[:, :, 2] = generator.integers(0, 3, (true, points)) * (generator.random((true, 1)) < 0.7)
    boxes, areas = generator.uniform(0, 40, (true, 4)), generator.uniform(0, 900, true)
    sigmas = generator.uniform(0.02, 0.2, points)
    group_of = [generator.integers(0, 4, count) for count in (found, true)]
    orders = [np.argsort(groups, kind="stable") for groups in group_of]
    lengths = [np.bincount(groups, minlength=4) for groups in group_of]
    blocks = starts_of(lengths[0] * lengths[1])
    flat = group_similarities(
        detections,
        truths,
        boxes,
        areas,
        sigmas,
        orders[0],
        starts_of(lengths[0]),
        orders[1],
        starts_of(lengths[1]),
        blocks,
    )
    expected = [
        naive(detections[d], truths[t], boxes[t], areas[t], sigmas)
        for group in range(4)
        for d in orders[0]
        for t in orders[1]
        if group_of[0][d] == group == group_of[1][t]
    ]
    assert flat == pytest.approx(np.array(expected), rel=1e-9, abs=1e-300)
    assert len(flat) == len(expected)


def test_the_number_of_threads_changes_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    arguments = (
        generator.uniform(0, 50, (40, 5, 3)),
        generator.integers(0, 3, (30, 5, 3)).astype(np.float64),
        generator.uniform(0, 50, (30, 4)),
        generator.uniform(1, 500, 30),
        np.full(5, 0.1),
        np.arange(40),
        starts_of([10] * 4),
        np.arange(30),
        starts_of([6, 9, 0, 15]),
        starts_of([60, 90, 0, 150]),
    )
    results = []
    for threads in (1, 4):
        monkeypatch.setattr(keypoints, "thread_count", lambda n=threads: n)
        results.append(group_similarities(*arguments))
    assert np.array_equal(*results)
    assert len(np.unique(results[0])) > 250


def test_nothing_to_compare():
    for found, true in ((0, 0), (3, 0), (0, 3)):
        values = similarities(
            np.zeros((found, 2, 3)), np.zeros((true, 2, 3)), np.zeros((true, 4)), np.zeros(true), [1, 1]
        )
        assert values.shape == (found, true)

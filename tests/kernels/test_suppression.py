import math
from itertools import pairwise

import numpy as np
import pytest

from delineate.kernels import suppression
from delineate.kernels.suppression import decayed_scores, fused_boxes, surviving_boxes


def iou_of(a, b):
    """The definition, in the boxes' own type and torchvision's order of operations."""
    zero = a.dtype.type(0)
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), zero) * max(min(a[3], b[3]) - max(a[1], b[1]), zero)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if shared > 0 else 0.0


def naive(boxes, order, starts, threshold):
    survives = np.zeros(len(boxes), bool)
    for first, last in pairwise(starts):
        kept = []
        for row in order[first:last]:
            if all(float(iou_of(boxes[row], boxes[other])) <= threshold for other in kept):
                kept.append(row)
        survives[kept] = True
    return survives


def corners(generator, count, dtype=np.float32):
    """Boxes on a coarse grid: many touch, coincide, have no area, or have swapped corners."""
    return np.where(
        generator.random((count, 1)) < 0.1,
        generator.integers(0, 9, (count, 4)),
        np.sort(generator.integers(0, 9, (count, 2, 2)), axis=1).reshape(count, 4),
    ).astype(dtype)


def grouped(seed, dtype=np.float32, groups=6, most=30):
    generator = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(generator.integers(0, most, groups))])
    boxes = corners(generator, int(starts[-1]) + 3, dtype)  # three rows are in no group
    return boxes, generator.permutation(len(boxes))[:-3], starts


def test_what_is_suppressed_does_not_suppress():
    chain = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)  # IoU 6/14 of neighbours, then 2/18
    order, starts = np.arange(3), np.array([0, 3])
    assert surviving_boxes(chain, order, starts, 0.4).tolist() == [True, False, True]
    assert surviving_boxes(chain, order, starts, 0.43).all()
    assert surviving_boxes(chain, np.array([1, 0, 2]), starts, 0.4).tolist() == [False, True, False]
    assert surviving_boxes(chain, order, np.array([0, 1, 3]), 0.4).tolist() == [True, True, False]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_definition(dtype):
    suppressed = 0
    for seed in range(40):
        boxes, order, starts = grouped(seed, dtype)
        for threshold in (0, 0.2, 1 / 3, 0.5, 0.9):
            found = surviving_boxes(boxes, order, starts, threshold)
            assert np.array_equal(found, naive(boxes, order, starts, threshold))
            suppressed += int(len(order) - found.sum())
    assert suppressed > 1000


def test_the_threshold_is_compared_as_in_float64():
    """3 / 10 in float32 is above 0.3, in float64 it is not: a threshold rounded to float32 would say it is equal."""
    rows, starts = np.arange(2), np.array([0, 2])
    boxes = np.array([[0, 0, 10, 1], [0, 0, 3, 1]])
    assert surviving_boxes(boxes.astype(np.float32), rows, starts, 0.3).tolist() == [True, False]
    assert surviving_boxes(boxes.astype(np.float64), rows, starts, 0.3).tolist() == [True, True]
    above = float(np.nextafter(np.float32(0.3), np.float32(1)))
    assert surviving_boxes(boxes.astype(np.float32), rows, starts, above).all()


def test_order_and_place_change_nothing():
    """The same boxes mirrored, transposed, moved by whole pixels and doubled: only where they are stored differs."""
    generator = np.random.default_rng(5)
    corner, size = generator.integers(0, 400, (600, 2)), generator.integers(1, 60, (600, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    rows, starts = np.arange(600), np.array([0, 600])
    for threshold in (0, 0.1, 0.5):
        expected = surviving_boxes(boxes, rows, starts, threshold)
        assert 50 < expected.sum() < 600
        for other in (boxes[:, [1, 0, 3, 2]], -boxes[:, [2, 3, 0, 1]], boxes + 1024, boxes * 2):
            assert np.array_equal(surviving_boxes(other, rows, starts, threshold), expected)
        backwards = surviving_boxes(boxes[::-1], rows[::-1], starts, threshold)
        assert np.array_equal(backwards[::-1], expected)


def test_the_number_of_threads_changes_nothing(monkeypatch):
    boxes, order, starts = grouped(1, groups=20)
    alone = surviving_boxes(boxes, order, starts, 0.3)
    monkeypatch.setattr(suppression, "_SMALL", 8)
    for threads in (2, 3, 7):
        monkeypatch.setattr(suppression, "thread_count", lambda n=threads: n)
        assert np.array_equal(surviving_boxes(boxes, order, starts, 0.3), alone)


def naive_decay(boxes, scores, weight, least):
    """Bodla's figure 2: the best of what is left is taken out, and lowers the others."""
    scores, left, rows = scores.astype(float).copy(), list(range(len(scores))), []
    while left := [row for row in left if scores[row] >= least]:
        best = max(left, key=lambda row: scores[row])
        rows.append(best)
        left.remove(best)
        for row in left:
            scores[row] *= weight(iou_of(boxes[best], boxes[row]))
    return rows, scores[rows]


@pytest.mark.parametrize("gaussian", [True, False])
def test_decay_equals_the_definition(gaussian):
    dropped = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        boxes, scores = corners(generator, 40, np.float64), generator.integers(0, 9, 40) / 8
        least = 0.2 * (seed % 3)

        def weight(iou):
            return math.exp(-iou * iou / 0.5) if gaussian else 1 - iou if iou > 0.3 else 1.0

        rows, lowered = decayed_scores(
            boxes, scores, gaussian=gaussian, sigma=0.5, iou_threshold=0.3, score_threshold=least
        )
        expected_rows, expected = naive_decay(boxes, scores, weight, least)
        assert rows.tolist() == expected_rows
        np.testing.assert_allclose(lowered, expected, rtol=1e-12, atol=0)
        assert (np.diff(lowered) <= 0).all()
        dropped += 40 - len(rows)
    assert dropped > 100


def test_fusion_by_hand():
    """Two boxes of one group meet, the same box of another group stays apart, and a cluster without scores stands."""
    boxes = np.array([[0, 0, 4, 4], [1, 0, 5, 4], [1, 0, 5, 4], [8, 8, 9, 9], [8, 8, 9, 9.5]], float)
    scores, order = np.array([0.75, 0.25, 0.5, 0, 0]), np.array([0, 1, 3, 4, 2])
    fused, totals, members, groups = fused_boxes(boxes, scores, order, np.array([0, 4, 5]), 0.5)
    assert fused.tolist() == [[0.25, 0, 4.25, 4], [8, 8, 9, 9], [1, 0, 5, 4]]
    assert totals.tolist() == [1, 0, 0.5]
    assert members.tolist() == [2, 2, 1]
    assert groups.tolist() == [0, 0, 1]


def test_a_box_joins_the_cluster_it_overlaps_most():
    boxes = np.array([[0, 0, 10, 10], [7, 0, 17, 10], [3, 0, 13, 10]], float)  # the last: IoU 7/13 and 6/14
    fused, _, members, _ = fused_boxes(boxes, np.ones(3), np.arange(3), np.array([0, 3]), 0.4)
    assert members.tolist() == [2, 1]
    assert fused.tolist() == [[1.5, 0, 11.5, 10], [7, 0, 17, 10]]
    assert len(fused_boxes(boxes, np.ones(3), np.arange(3), np.array([0, 3]), 0.6)[0]) == 3


def test_no_boxes():
    none, nothing = np.zeros((0, 4)), np.zeros(0, np.int64)
    assert surviving_boxes(none, nothing, np.zeros(1, np.int64), 0.5).shape == (0,)
    assert surviving_boxes(none, nothing, np.zeros(3, np.int64), 0.5).shape == (0,)
    rows, lowered = decayed_scores(none, np.zeros(0), gaussian=True, sigma=1, iou_threshold=0, score_threshold=0)
    assert rows.shape == lowered.shape == (0,)
    assert fused_boxes(none, np.zeros(0), nothing, np.zeros(1, np.int64), 0.5)[0].shape == (0, 4)

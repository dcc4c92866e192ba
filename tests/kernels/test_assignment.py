from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from delineate.kernels import assignment
from delineate.kernels.assignment import best_overlaps, cheapest_pairs, greedy_pairs, reaching_anchors

seeds = st.integers(0, 2**32 - 1)


def corners(generator, count):
    """Boxes on a coarse grid: many coincide, so that overlaps tie; some have no area or swapped corners."""
    return np.where(
        generator.random((count, 1)) < 0.1,
        generator.integers(0, 6, (count, 4)),
        np.sort(generator.integers(0, 6, (count, 2, 2)), axis=1).reshape(count, 4),
    ).astype(np.float32)


def naive_ious(anchors, truths):
    table = np.zeros((len(anchors), len(truths)), np.float32)
    for i, a in enumerate(anchors):
        for j, b in enumerate(truths):
            area = [max(x[2] - x[0], np.float32(0)) * max(x[3] - x[1], np.float32(0)) for x in (a, b)]
            width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            shared = max(width, np.float32(0)) * max(height, np.float32(0))
            union = area[0] + area[1] - shared
            table[i, j] = shared / union if union > 0 else 0
    return table


def naive_greedy(table):
    """The largest of what is left, row by row of anchors."""
    table, pairs = table.copy(), np.full(table.shape[1], -1)
    while (table > 0).any():
        i, j = np.unravel_index(table.argmax(), table.shape)
        pairs[j] = i
        table[i], table[:, j] = 0, 0
    return pairs.tolist()


def test_by_hand():
    anchors = np.array([[0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 10, 10]], np.float32)
    truths = np.array([[0, 0, 4, 4], [0, 0, 4, 1], [20, 20, 30, 30]], np.float32)
    overlaps, matches, tops, top_anchors = best_overlaps(anchors, truths)
    assert overlaps.tolist() == [1, 0.5, 0]
    assert matches.tolist() == [0, 0, 0]
    assert tops.tolist() == [1, 0.5, 0]
    assert top_anchors.tolist() == [0, 1, -1]
    assert reaching_anchors(anchors, truths, np.array([1, 0.5, np.nan], np.float32)).tolist() == [True, True, False]
    assert greedy_pairs(anchors, truths, tops, top_anchors).tolist() == [0, 1, -1]


@pytest.mark.parametrize("threads", [1, 3])
@settings(deadline=None, max_examples=40)
@given(seed=seeds, anchors=st.integers(0, 40), truths=st.integers(1, 9))
def test_equals_the_definition(threads, seed, anchors, truths):
    generator = np.random.default_rng(seed)
    boxes, objects = corners(generator, anchors), corners(generator, truths)
    table = naive_ious(boxes, objects)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "thread_count", lambda: threads)
        patch.setattr(assignment, "_SMALL", 1)
        overlaps, matches, tops, top_anchors = best_overlaps(boxes, objects)
        reached = reaching_anchors(boxes, objects, np.where(tops > 0, tops, np.nan))
    if anchors == 0:
        assert overlaps.shape == matches.shape == reached.shape == (0,)
        assert top_anchors.tolist() == [-1] * truths
        return
    assert overlaps.tolist() == table.max(axis=1).tolist()
    assert matches.tolist() == table.argmax(axis=1).tolist()
    assert tops.tolist() == table.max(axis=0).tolist()
    assert top_anchors.tolist() == np.where(tops > 0, table.argmax(axis=0), -1).tolist()
    assert reached.tolist() == ((table == tops) & (table > 0)).any(axis=1).tolist()
    assert greedy_pairs(boxes, objects, tops, top_anchors).tolist() == naive_greedy(table)


def test_memory_grows_with_the_anchors_alone():
    generator = np.random.default_rng(0)
    anchors, truths = corners(generator, 20_000), corners(generator, 200)
    tracemalloc.start()
    try:
        _, _, tops, _ = best_overlaps(anchors, truths)
        reaching_anchors(anchors, truths, tops)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # all overlaps at once are 16,000,000 bytes


def test_the_arrays_given_stay_as_they_are():
    boxes = corners(np.random.default_rng(0), 20)
    _, _, tops, top_anchors = best_overlaps(boxes, boxes[:5])
    before = tops.copy(), top_anchors.copy()
    greedy_pairs(boxes, boxes[:5], tops, top_anchors)
    assert np.array_equal(tops, before[0])
    assert np.array_equal(top_anchors, before[1])


@settings(deadline=None, max_examples=60)
@given(seed=seeds, rows=st.integers(1, 12), more=st.integers(0, 12), whole=st.booleans())
def test_cheapest_pairs_cost_what_scipy_finds(seed, rows, more, whole):
    generator = np.random.default_rng(seed)
    costs = generator.normal(size=(rows, rows + more)) * 5
    costs = np.round(costs) if whole else costs  # whole numbers tie
    owners = cheapest_pairs(costs)
    taken = owners >= 0
    assert sorted(owners[taken]) == list(range(rows))
    ours, theirs = costs[owners[taken], taken.nonzero()[0]].sum(), costs[linear_sum_assignment(costs)].sum()
    assert ours == pytest.approx(theirs, abs=1e-9)

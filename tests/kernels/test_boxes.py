import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.kernels import boxes
from delineate.kernels.boxes import (
    box_ious,
    complete_box_ious,
    distance_box_ious,
    generalised_box_ious,
    group_box_ious,
)

FORMS = {
    "iou": box_ious,
    "generalised": generalised_box_ious,
    "distance": distance_box_ious,
    "complete": complete_box_ious,
}


def naive(form, a, b):
    """The definition, for one pair."""
    (ax, ay, ar, ab), (bx, by, br, bb) = a, b
    sizes = [(max(ar - ax, 0), max(ab - ay, 0)), (max(br - bx, 0), max(bb - by, 0))]
    shared = max(min(ar, br) - max(ax, bx), 0) * max(min(ab, bb) - max(ay, by), 0)
    union = sizes[0][0] * sizes[0][1] + sizes[1][0] * sizes[1][1] - shared
    iou = shared / union if union > 0 else 0
    across, down = max(max(ar, br) - min(ax, bx), 0), max(max(ab, bb) - min(ay, by), 0)
    if form == "iou":
        return iou
    if form == "generalised":
        return iou - ((across * down - union) / (across * down) if across * down else 0)
    centres = ((ax + ar) / 2 - (bx + br) / 2) ** 2 + ((ay + ab) / 2 - (by + bb) / 2) ** 2
    distance = iou - (centres / (across**2 + down**2) if across or down else 0)
    if form == "distance":
        return distance
    shape = 4 / math.pi**2 * (math.atan2(*sizes[0]) - math.atan2(*sizes[1])) ** 2
    return distance - (shape * shape / (1 - iou + shape) if shape else 0)


def corners(generator, count):
    """Boxes on a coarse grid: many touch, coincide, have no area, or have swapped corners."""
    return np.where(
        generator.random((count, 1)) < 0.1,
        generator.integers(0, 6, (count, 4)),
        np.sort(generator.integers(0, 6, (count, 2, 2)), axis=1).reshape(count, 4),
    ).astype(float)


def test_by_hand():
    a, b = np.array([[0, 0, 4, 2]], float), np.array([[0, 0, 2, 4], [4, 0, 6, 2]], float)
    assert box_ious(a, b).tolist() == [[4 / 12, 0]]
    assert generalised_box_ious(a, b) == pytest.approx(np.array([[1 / 3 - 4 / 16, 0]]))
    assert distance_box_ious(a, b) == pytest.approx(np.array([[1 / 3 - 2 / 32, -9 / 40]]))
    turn = (math.atan(2) - math.atan(0.5)) ** 2 * 4 / math.pi**2
    assert complete_box_ious(a, b)[0, 0] == pytest.approx(1 / 3 - 2 / 32 - turn**2 / (2 / 3 + turn))


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), counts=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_equals_the_definition(form, seed, counts):
    generator = np.random.default_rng(seed)
    a, b = (corners(generator, count) for count in counts)
    found = FORMS[form](a, b)
    expected = np.array([[naive(form, one, other) for other in b.tolist()] for one in a.tolist()]).reshape(counts)
    assert found.shape == counts
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_boxes_without_area_are_defined():
    """A point, a line of each direction, and swapped corners: IoU 0 with everything, nothing NaN."""
    flat = np.array([[1, 1, 1, 1], [0, 1, 5, 1], [1, 0, 1, 5], [3, 3, 1, 1]], float)
    others = np.concatenate([flat, [[0, 0, 4, 4]]])
    for form in FORMS.values():
        assert np.isfinite(form(flat, others)).all()
    assert not box_ious(flat, others).any()
    assert distance_box_ious(flat[:1], flat[:1]).tolist() == [[0]]


@pytest.mark.parametrize("form", FORMS)
def test_symmetry_scale_and_identity(form):
    generator = np.random.default_rng(0)
    a, b = (np.sort(generator.random((count, 2, 2)), axis=1).reshape(-1, 4) for count in (7, 5))
    found = FORMS[form](a, b)
    np.testing.assert_allclose(FORMS[form](b, a).T, found, rtol=0, atol=1e-12)
    np.testing.assert_allclose(FORMS[form](a * 64 + 3, b * 64 + 3), found, rtol=0, atol=1e-9)
    assert np.diag(FORMS[form](a, a)) == pytest.approx(1)


def grouped(seed, groups=40):
    """Detections and truths of many groups, in shuffled rows, on a grid coarse enough for ties and empty boxes."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 7, (2, groups))
    starts = [np.concatenate([[0], np.cumsum(count)]) for count in counts]
    boxes = [np.round(generator.random((start[-1], 4)) * 4, 1) for start in starts]
    for rows in boxes:
        rows[generator.random(len(rows)) < 0.1, 2] = 0
    orders = [generator.permutation(len(rows)) for rows in boxes]
    crowd = generator.random(len(boxes[1])) < 0.2
    iou_starts = np.concatenate([[0], np.cumsum(counts[0] * counts[1])])
    return *boxes, crowd, orders[0], starts[0], orders[1], starts[1], iou_starts


def test_groups_by_hand():
    """Group 0: a detection beside a truth and a crowd. Group 1 has no truth, group 2 no detection."""
    detections = np.array([[9, 9, 1, 1], [0, 0, 2, 2]], float)
    truths = np.array([[0, 0, 4, 4], [1, 0, 2, 2], [5, 5, 1, 1]], float)
    found = group_box_ious(
        detections,
        truths,
        np.array([True, False, False]),
        np.array([1, 0]),
        np.array([0, 1, 2, 2]),
        np.array([1, 0, 2]),
        np.array([0, 2, 2, 3]),
        np.array([0, 2, 2, 2]),
    )
    assert found.tolist() == [2 / 6, 1]


@pytest.mark.parametrize("seed", range(5))
def test_groups_equal_pycocotools_bit_for_bit(seed):
    mask = pytest.importorskip("pycocotools.mask")
    arguments = detections, truths, crowd, d_order, d_starts, t_order, t_starts, iou_starts = grouped(seed)
    found = group_box_ious(*arguments)
    compared = 0
    for g in range(len(iou_starts) - 1):
        d, t = d_order[d_starts[g] : d_starts[g + 1]], t_order[t_starts[g] : t_starts[g + 1]]
        block = found[iou_starts[g] : iou_starts[g + 1]].reshape(len(d), len(t))
        if block.size:
            assert np.array_equal(block, mask.iou(detections[d], truths[t], crowd[t].astype(np.uint8).tolist()))
            compared += int((block > 0).sum())
    assert compared > 20


def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr(boxes, "_SMALL", 8)
    arguments = grouped(3)
    generator = np.random.default_rng(0)
    a, b = corners(generator, 31), corners(generator, 17)
    monkeypatch.setattr(boxes, "thread_count", lambda: 1)
    groups, pairs = group_box_ious(*arguments), complete_box_ious(a, b)
    for threads in (2, 3, 7):
        monkeypatch.setattr(boxes, "thread_count", lambda n=threads: n)
        assert np.array_equal(group_box_ious(*arguments), groups)
        assert np.array_equal(complete_box_ious(a, b), pairs)


def test_no_groups_and_no_boxes():
    none, nothing = np.zeros((0, 4)), np.zeros(0, np.int64)
    zero = np.zeros(1, np.int64)
    assert group_box_ious(none, none, nothing.astype(bool), nothing, zero, nothing, zero, zero).shape == (0,)
    assert complete_box_ious(none, np.ones((3, 4))).shape == (0, 3)

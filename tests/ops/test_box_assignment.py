from __future__ import annotations

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torchvision.models.detection._utils import Matcher, SSDMatcher
from torchvision.ops import box_iou
from torchvision.tv_tensors import BoundingBoxes

from delineate.errors import ArgumentError
from delineate.ops import box_assignment
from delineate.ops.anchors import base_anchors, grid_anchors, pyramid_anchors, rpn_base_anchors
from delineate.ops.box_assignment import (
    Assignment,
    assign_atss,
    assign_best_priors,
    assign_bipartite,
    assign_by_iou,
)

seeds = st.integers(0, 2**32 - 1)


def boxes(seed, count, side=160, whole=True):
    generator = torch.Generator().manual_seed(seed)
    sides = torch.rand(count, 2, generator=generator) * side / 2 + 4
    corner = torch.rand(count, 2, generator=generator) * (side - sides)
    found = torch.cat((corner, corner + sides), dim=1)
    return found.round() if whole else found  # on whole pixels overlaps tie


def rpn_anchors():
    return grid_anchors(rpn_base_anchors(scales=(1, 2, 4)), size=(10, 10), stride=16)


def test_by_hand():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4], [0, 0, 10, 1], [50, 50, 60, 60]])
    truth = torch.tensor([[0.0, 0, 10, 10]])  # overlaps 1, 0.5, 0.4, 0.1, 0
    assert assign_by_iou(anchors, truth, positive=0.5, negative=0.4).matches.tolist() == [0, 0, -2, -1, -1]
    fast = assign_by_iou(anchors, truth, positive=0.5, negative=0.5, least_negative=0.1)
    assert fast.matches.tolist() == [0, 0, -1, -1, -2]
    far = torch.tensor([[0.0, 0, 10, 10], [40, 40, 60, 55]])
    kept = assign_by_iou(anchors, far, positive=0.7, negative=0.3, keep_best=0)
    assert kept.matches.tolist() == [0, -2, -2, -1, 1]  # an overlap of 50 / 350
    assert assign_by_iou(anchors, far, positive=0.7, negative=0.3, keep_best=0.2).matches.tolist() == [
        0,
        -2,
        -2,
        -1,
        -1,
    ]


@settings(deadline=None, max_examples=25)
@given(seed=seeds, count=st.integers(1, 12), whole=st.booleans())
def test_equals_torchvisions_matcher(seed, count, whole):
    anchors, truths = rpn_anchors(), boxes(seed, count, whole=whole)
    overlaps = box_iou(truths, anchors)
    for positive, negative, keep in ((0.7, 0.3, True), (0.5, 0.4, True), (0.5, 0.5, False)):
        theirs = Matcher(positive, negative, allow_low_quality_matches=keep)(overlaps)
        found = assign_by_iou(anchors, truths, positive=positive, negative=negative, keep_best=0 if keep else None)
        assert torch.equal(found.matches, theirs)


def test_a_truth_that_nothing_overlaps_keeps_nothing():
    anchors, truths = torch.tensor([[0.0, 0, 4, 4], [8, 8, 9, 9]]), torch.tensor([[100.0, 100, 110, 110]])
    assert assign_by_iou(anchors, truths, positive=0.7, negative=0.3, keep_best=0).matches.tolist() == [-1, -1]
    theirs = Matcher(0.7, 0.3, allow_low_quality_matches=True)(box_iou(truths, anchors))
    assert theirs.tolist() == [0, 0]  # what this differs from


@settings(deadline=None, max_examples=25)
@given(seed=seeds, count=st.integers(1, 8))
def test_best_priors_equal_torchvisions_where_no_two_share_one(seed, count):
    anchors, truths = rpn_anchors(), boxes(seed, count, whole=False)
    overlaps = box_iou(truths, anchors)
    found = assign_best_priors(anchors, truths)
    if len(set(overlaps.argmax(dim=1).tolist())) == count and overlaps.amax() < 1:
        assert torch.equal(found.matches, SSDMatcher(0.5)(overlaps))
    assert set(range(count)) <= set(found.matches.tolist())  # every truth has an anchor of its own


def test_two_truths_that_share_a_best_prior_get_one_each():
    anchors = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 1, 1]])
    truths = torch.tensor([[0.0, 0, 4, 3.5], [0, 0, 4, 4]])
    assert assign_best_priors(anchors, truths).matches.tolist() == [1, 0, -1]
    assert 0 not in SSDMatcher(0.6)(box_iou(truths, anchors)).tolist()  # torchvision loses the first


def test_best_priors_are_positive_above_their_threshold_only():
    anchors = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 4, 2.5]])
    assert assign_best_priors(anchors, torch.tensor([[0.0, 0, 4, 4]])).matches.tolist() == [0, -1, 0]


@settings(deadline=None, max_examples=25)
@given(seed=seeds, rows=st.integers(0, 9), columns=st.integers(0, 9))
def test_bipartite_costs_what_scipy_finds(seed, rows, columns):
    costs = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    matches = assign_bipartite(costs).matches
    found = matches >= 0
    assert int(found.sum()) == min(rows, columns)
    assert len(set(matches[found].tolist())) == min(rows, columns)
    theirs = costs.numpy()[linear_sum_assignment(costs.numpy())].sum()
    assert costs[found.nonzero()[:, 0], matches[found]].sum().item() == pytest.approx(theirs, abs=1e-9)


def naive_atss(anchors, per_level, truths, top):
    """Algorithm 1, truth by truth."""
    best = [(0.0, -1)] * len(anchors)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    for row, truth in enumerate(truths):
        near, start = [], 0
        for count in per_level:
            distances = (centres[start : start + count] - (truth[:2] + truth[2:]) / 2).square().sum(dim=1)
            near += (distances.argsort()[:top] + start).tolist()
            start += count
        overlaps = box_iou(anchors[near], truth[None])[:, 0]
        least = overlaps.mean() + overlaps.std()
        for anchor, overlap in zip(near, overlaps, strict=True):
            x, y = centres[anchor]
            inside = min(x - truth[0], y - truth[1], truth[2] - x, truth[3] - y) > 0.01
            if overlap >= least and inside and overlap > best[anchor][0]:
                best[anchor] = (float(overlap), row)
    return [match for _, match in best]


@settings(deadline=None, max_examples=20)
@given(seed=seeds, count=st.integers(1, 10))
def test_atss_equals_the_algorithm(seed, count):
    levels = pyramid_anchors(
        [base_anchors([8 * s], [1]) for s in (8, 16, 32)], [(20, 20), (10, 10), (5, 5)], over=(160, 160)
    )
    anchors, per_level, truths = torch.cat(levels), [len(level) for level in levels], boxes(seed, count, whole=False)
    found = assign_atss(anchors, per_level, truths)
    assert found.matches.tolist() == naive_atss(anchors, per_level, truths, 9)
    assert not found.ignored.any()


def test_atss_in_turns_gives_the_same(monkeypatch):
    anchors, truths = boxes(0, 300, whole=False), boxes(1, 20, whole=False)
    whole = assign_atss(anchors, [200, 0, 100], truths).matches
    monkeypatch.setattr(box_assignment, "_MOST_PAIRS", 1000)
    assert torch.equal(assign_atss(anchors, [200, 0, 100], truths).matches, whole)
    assert (whole >= 0).any()


def test_atss_with_a_single_anchor_near():
    found = assign_atss(torch.tensor([[0.0, 0, 4, 4]]), [1], torch.tensor([[0.0, 0, 3, 3]]))
    assert found.matches.tolist() == [0]


RULES = {
    "iou": lambda anchors, truths, **rest: assign_by_iou(
        anchors, truths, positive=0.5, negative=0.4, keep_best=0, **rest
    ),
    "priors": assign_best_priors,
    "atss": lambda anchors, truths, **rest: assign_atss(anchors, [len(anchors)], truths, **rest),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@each_rule
def test_an_image_without_objects_is_background(rule):
    assert rule(boxes(0, 5), torch.zeros(0, 4)).matches.tolist() == [-1] * 5
    assert rule(torch.zeros(0, 4), boxes(0, 5)).matches.shape == (0,)
    assert rule(torch.zeros(0, 4), torch.zeros(0, 4)).matches.shape == (0,)


@each_rule
def test_background_in_a_crowd_is_ignored(rule):
    anchors = torch.tensor([[0.0, 0, 4, 4], [20, 20, 24, 24], [24, 20, 28, 24], [26, 20, 30, 24], [60, 60, 64, 64]])
    truths, crowds = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[-10.0, -10, 26, 90]])
    assert rule(anchors, truths).matches.tolist() == [0, -1, -1, -1, -1]
    assert rule(anchors, truths, crowd_boxes=crowds).matches.tolist() == [0, -2, -1, -1, -1]  # half is not most
    assert rule(anchors, torch.zeros(0, 4), crowd_boxes=crowds).matches.tolist() == [-2, -2, -1, -1, -1]
    assert rule(anchors, truths, crowd_boxes=torch.zeros(0, 4)).matches.tolist() == [0, -1, -1, -1, -1]


@each_rule
def test_the_order_of_truths_does_not_matter(rule):
    anchors, truths = boxes(0, 60, whole=False), boxes(1, 6, whole=False)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    there, back = rule(anchors, truths).matches, rule(anchors, truths[order]).matches
    assert torch.equal(torch.where(back >= 0, order[back], back), there)


@each_rule
def test_takes_what_a_data_set_gives(rule):
    anchors = boxes(0, 60)
    truths = BoundingBoxes(boxes(1, 4), format="XYXY", canvas_size=(160, 160))
    matches = rule(anchors, truths).matches
    assert type(matches) is torch.Tensor
    assert torch.equal(matches, rule(anchors, boxes(1, 4)).matches)


@pytest.mark.parametrize("count", [2, 7, 40])
def test_the_path_of_other_devices_agrees(count, monkeypatch):
    """What an accelerator computes in turns, on this device."""
    anchors, truths = rpn_anchors(), boxes(3, count)
    rules = [{"positive": 0.7, "negative": 0.3, "keep_best": 0}, {"positive": 0.5, "negative": 0.4}]
    expected = [assign_by_iou(anchors, truths, **rule).matches for rule in rules]
    turns = []
    monkeypatch.setattr(box_assignment, "_on_host", lambda anchors: bool(turns.append(1)))
    monkeypatch.setattr(box_assignment, "_MOST_PAIRS", 1000)
    found = [assign_by_iou(anchors, truths, **rule).matches for rule in rules]
    assert turns
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.gpu
@each_rule
def test_on_a_gpu(rule):
    anchors, truths = boxes(0, 500, whole=False), boxes(1, 6, whole=False)
    crowds = boxes(2, 2)
    found = rule(anchors.cuda(), truths.cuda(), crowd_boxes=crowds.cuda()).matches
    assert torch.equal(found.cpu(), rule(anchors, truths, crowd_boxes=crowds).matches)


def test_what_an_assignment_says():
    found = Assignment(torch.tensor([1, -1, -2, 0, 1]))
    assert found.positive.tolist() == [True, False, False, True, True]
    assert found.background.tolist() == [False, True, False, False, False]
    assert found.ignored.tolist() == [False, False, True, False, False]
    assert found.labels(torch.tensor([4, 9]), background=20, ignored=-1).tolist() == [9, 20, -1, 4, 9]
    rows = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    assert found.of_positives(rows).tolist() == [[5, 6, 7, 8], [1, 2, 3, 4], [5, 6, 7, 8]]
    empty = Assignment(torch.tensor([-1, -2]))
    assert empty.labels(torch.zeros(0, dtype=torch.int64), background=0, ignored=-1).tolist() == [0, -1]
    assert empty.of_positives(torch.zeros(0, 4)).shape == (0, 4)


def test_errors(monkeypatch):
    some = boxes(0, 3)
    with pytest.raises(
        ArgumentError, match=r"negative must lie between least_negative and positive; got .*negative=0.6"
    ):
        assign_by_iou(some, some, positive=0.5, negative=0.6)
    with pytest.raises(ArgumentError, match=r"anchors_per_level must add up to 3 anchors; got 4"):
        assign_atss(some, [2, 2], some)
    with pytest.raises(ArgumentError, match=r"top must be above 0; got 0"):
        assign_atss(some, [3], some, top=0)
    with pytest.raises(ArgumentError, match=r"costs must be finite; got NaN or infinity"):
        assign_bipartite(torch.tensor([[1.0, torch.nan]]))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    with pytest.raises(ArgumentError, match=r"truths must be \(N, 4\) xyxy pixels; got shape \(3, 5\)\. If column 4"):
        assign_best_priors(some, torch.zeros(3, 5))

"""Faster R-CNN's loss by hand, and its halves; torchvision's numbers are in the tests of the model and of masks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.region_detection import RegionDetectionLoss
from delineate.structures.outputs import AnchorOutputs, RegionOutputs

TARGETS = [{"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}]
ANCHORS = torch.tensor([[0.0, 0, 10, 10], [40, 40, 50, 50], [-5, 60, 5, 70]])  # the last one crosses the border


def outputs() -> RegionOutputs:
    """Of three anchors and two regions, which know nothing of classes, and are off by one deviation in x."""
    deltas = torch.zeros(1, 3, 4)
    deltas[0, 0, 0] = 1.0
    moves = torch.zeros(2, 3, 4)
    moves[0, 1, 0] = 2.0
    return RegionOutputs(
        proposals=AnchorOutputs(torch.zeros(1, 3, 1).requires_grad_(), deltas.requires_grad_(), ANCHORS, (3,)),
        regions=ANCHORS[:2],
        images=torch.tensor([0, 0]),
        logits=torch.zeros(2, 3).requires_grad_(),
        deltas=moves.requires_grad_(),
        matches=torch.tensor([0, -1]),
    )


HALVES = {"objectness": math.log(2), "proposals": (1 - 1 / 18) / 3}, {"classes": math.log(3), "boxes": (2 - 1 / 18) / 2}


def test_the_parts_by_hand() -> None:
    found = RegionDetectionLoss()(outputs(), TARGETS)
    expected = HALVES[0] | HALVES[1]
    assert {name: float(value.detach()) for name, value in found.items() if name != "loss"} == pytest.approx(expected)
    assert float(found["loss"].detach()) == pytest.approx(sum(expected.values()))


def test_anchors_across_the_border_may_be_left_out() -> None:
    found = RegionDetectionLoss(inside_only=0)(outputs(), TARGETS, sizes=[(100, 100)])
    assert float(found["proposals"].detach()) == pytest.approx((1 - 1 / 18) / 2)
    with pytest.raises(ArgumentError, match="sizes must be given with inside_only; got None"):
        RegionDetectionLoss(inside_only=0)(outputs(), TARGETS)


def test_halves_have_weights_and_parts_are_told_without_them() -> None:
    found = RegionDetectionLoss(proposals=2, regions=0.25)(outputs(), TARGETS)
    first, second = (sum(half.values()) for half in HALVES)
    assert float(found["loss"].detach()) == pytest.approx(2 * first + 0.25 * second)
    assert float(found["classes"].detach()) == pytest.approx(math.log(3))


@pytest.mark.parametrize("half", ["proposals", "regions"])
def test_a_half_that_is_left_out_has_no_gradient(half: str) -> None:
    given = outputs()
    found = RegionDetectionLoss(**{half: 0})(given, TARGETS)
    kept = HALVES[1] if half == "proposals" else HALVES[0]
    assert set(found) == {"loss", *kept}
    assert float(found["loss"].detach()) == pytest.approx(sum(kept.values()))
    found["loss"].backward()
    of_anchors, of_regions = (given.proposals.logits, given.proposals.deltas), (given.logits, given.deltas)
    silent, told = (of_anchors, of_regions) if half == "proposals" else (of_regions, of_anchors)
    assert all(tensor.grad is None for tensor in silent)
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in told)


def test_proposals_alone_need_no_sample_of_regions() -> None:
    nothing: dict[str, Any] = {"logits": torch.zeros(2, 0), "deltas": torch.zeros(2, 0, 4), "matches": None}
    alone = replace(outputs(), **nothing)
    assert "loss" in RegionDetectionLoss(regions=0)(alone, TARGETS)
    with pytest.raises(
        ArgumentError, match=r"outputs must be of regions sampled with the targets.* Call model\(images"
    ):
        RegionDetectionLoss()(alone, TARGETS)


def test_without_objects_the_parts_of_boxes_are_zero() -> None:
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
    found = RegionDetectionLoss()(replace(outputs(), matches=torch.tensor([-1, -1])), nothing)
    assert float(found["proposals"].detach()) == float(found["boxes"].detach()) == 0
    assert float(found["objectness"].detach()) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proposals": -1}, "proposals must be 0 or more; got -1"),
        ({"regions": float("nan")}, "regions must be 0 or more; got nan"),
        ({"proposals": 0, "regions": 0}, "proposals must be above 0 where regions is 0; got 0"),
        ({"anchors": 0}, "anchors must be above 0; got 0"),
        ({"negative": 0.8}, "negative must lie between 0 and positive; got 0.8"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        RegionDetectionLoss(**options)

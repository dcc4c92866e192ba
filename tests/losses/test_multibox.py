"""SSD's loss: torchvision's numbers, and what is counted."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection.ssd import SSD as TorchvisionSSD

from delineate.errors import ArgumentError
from delineate.losses.multibox import MultiBoxLoss
from delineate.ops.anchors import base_anchors, grid_anchors
from delineate.ops.box_coding import SSD_WEIGHTS
from delineate.structures.outputs import AnchorOutputs

ANCHORS = grid_anchors(base_anchors([16, 24]), size=(6, 8), stride=8)
TARGETS = [
    {"boxes": torch.tensor([[2.0, 3, 20, 30], [30, 10, 60, 44]]), "labels": torch.tensor([0, 2])},
    {"boxes": torch.tensor([[5.0, 5, 40, 28]]), "labels": torch.tensor([1])},
]
EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def outputs(images: int = 2) -> AnchorOutputs:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, len(ANCHORS), 4, generator=generator).requires_grad_()
    deltas = torch.randn(images, len(ANCHORS), 4, generator=generator).requires_grad_()
    return AnchorOutputs(logits, deltas, ANCHORS, (len(ANCHORS),), scoring="softmax", coding_weights=SSD_WEIGHTS)


def test_equals_torchvisions() -> None:
    from torchvision.models.detection._utils import BoxCoder

    from delineate.ops.box_assignment import assign_best_priors

    given = outputs()

    class Theirs:  # what compute_loss reads of a model
        box_coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
        neg_to_pos_ratio = 3

    heads = {"bbox_regression": given.deltas, "cls_logits": given.logits.roll(1, dims=2)}  # the background first
    targets = [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in TARGETS]
    matched = [assign_best_priors(ANCHORS, target["boxes"]).matches for target in TARGETS]
    expected = TorchvisionSSD.compute_loss(Theirs(), targets, heads, [ANCHORS] * 2, matched)
    found = MultiBoxLoss()(given, TARGETS)
    torch.testing.assert_close(found["classes"], expected["classification"])
    torch.testing.assert_close(found["boxes"], expected["bbox_regression"])


def test_three_background_boxes_count_for_each_object() -> None:
    anchors = torch.tensor([[float(x), 0, x + 8.0, 8.0] for x in range(0, 80, 8)])
    logits = torch.zeros(1, 10, 2)
    logits[0, 5:, 1] = torch.arange(5.0)  # the surer of background, the cheaper
    given = AnchorOutputs(logits, torch.zeros(1, 10, 4), anchors, (10,), scoring="softmax")
    found = MultiBoxLoss()(given, [{"boxes": anchors[:1], "labels": torch.tensor([0])}])
    assert float(found["classes"]) == pytest.approx(4 * math.log(2))  # one object and three of equal, largest loss
    assert float(found["boxes"]) == 0
    assert float(MultiBoxLoss(ratio=0)(given, [{"boxes": anchors[:1], "labels": torch.tensor([0])}])["classes"]) == (
        pytest.approx(math.log(2))
    )


def test_a_batch_without_objects_costs_nothing_and_has_gradients() -> None:
    given = outputs()
    loss = MultiBoxLoss()(given, [EMPTY, EMPTY])["loss"]
    assert float(loss.detach()) == 0
    loss.backward()
    assert given.logits.grad is not None


def test_the_divisor_is_that_of_all_processes() -> None:
    given = outputs()
    alone = MultiBoxLoss()(given, TARGETS)
    twice = MultiBoxLoss()(given, TARGETS, normaliser=lambda count: 2 * count)
    torch.testing.assert_close(twice["boxes"] * 2, alone["boxes"])
    torch.testing.assert_close(twice["classes"] * 2, alone["classes"])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="targets must be 2, one an image"):
        MultiBoxLoss()(outputs(), TARGETS[:1])
    with pytest.raises(ArgumentError, match="labels must be object classes 0 to 2; got 3"):
        MultiBoxLoss()(outputs(1), [{"boxes": torch.zeros(1, 4), "labels": torch.tensor([3])}])
    with pytest.raises(ArgumentError, match="ratio must be 0 or more"):
        MultiBoxLoss(ratio=-1)

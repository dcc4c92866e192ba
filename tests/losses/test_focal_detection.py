"""RetinaNet's loss: torchvision's numbers, crowds, images without objects."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.retinanet import RetinaNetHead

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.focal_detection import FocalDetectionLoss
from delineate.ops.anchors import base_anchors, grid_anchors
from delineate.structures.outputs import AnchorOutputs

ANCHORS = grid_anchors(base_anchors([16, 24, 32]), size=(6, 8), stride=8)
TARGETS = [
    {"boxes": torch.tensor([[2.0, 3, 20, 30], [30, 10, 60, 44]]), "labels": torch.tensor([0, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    {"boxes": torch.tensor([[5.0, 5, 40, 28]]), "labels": torch.tensor([1])},
]


def outputs(images: int = 3, *, seed: int = 0) -> AnchorOutputs:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, len(ANCHORS), 3, generator=generator).requires_grad_()
    deltas = torch.randn(images, len(ANCHORS), 4, generator=generator).requires_grad_()
    return AnchorOutputs(logits, deltas, ANCHORS, (len(ANCHORS),))


def test_equals_torchvisions() -> None:
    given = outputs()
    from torchvision.models.detection._utils import Matcher
    from torchvision.ops import box_iou

    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    matched = [
        matcher(box_iou(target["boxes"], ANCHORS))
        if len(target["boxes"])
        else torch.full((len(ANCHORS),), -1, dtype=torch.int64)
        for target in TARGETS
    ]
    head = RetinaNetHead(8, 9, 3)
    heads = {"cls_logits": given.logits, "bbox_regression": given.deltas}
    expected = head.compute_loss(TARGETS, heads, [ANCHORS] * 3, matched)
    found = FocalDetectionLoss(beta=0)(given, TARGETS)
    torch.testing.assert_close(found["classes"], expected["classification"])
    torch.testing.assert_close(found["boxes"], expected["bbox_regression"])
    torch.testing.assert_close(found["loss"], expected["classification"] + expected["bbox_regression"])


def test_the_default_is_smooth_l1_with_a_ninth() -> None:
    given = outputs()
    smooth, plain = FocalDetectionLoss()(given, TARGETS), FocalDetectionLoss(beta=0)(given, TARGETS)
    assert smooth["boxes"] < plain["boxes"]
    torch.testing.assert_close(smooth["classes"], plain["classes"])


def test_perfect_answers_cost_nothing() -> None:
    from delineate.ops.box_assignment import assign_by_iou
    from delineate.ops.box_coding import encode_boxes

    target = TARGETS[0]
    found = assign_by_iou(ANCHORS, target["boxes"], positive=0.5, negative=0.4, keep_best=0)
    logits = torch.full((1, len(ANCHORS), 3), -40.0)
    deltas = torch.zeros(1, len(ANCHORS), 4)
    rows = found.positive.nonzero()[:, 0]
    logits[0, rows, target["labels"][found.matches[rows]]] = 40.0
    deltas[0, rows] = encode_boxes(found.of_positives(target["boxes"]), ANCHORS[rows])
    for box_loss in ("smooth_l1", "giou"):
        given = AnchorOutputs(logits, deltas, ANCHORS, (len(ANCHORS),))
        assert float(FocalDetectionLoss(box_loss=box_loss)(given, [target])["loss"]) == pytest.approx(0, abs=1e-5)


def test_anchors_in_a_crowd_teach_nothing() -> None:
    given = outputs(1)
    box = torch.tensor([[2.0, 3, 20, 30]])
    crowd = torch.tensor([[0.0, 0, 64, 48]])
    alone = {"boxes": box, "labels": torch.tensor([0])}
    crowded = {
        "boxes": torch.cat([box, crowd]),
        "labels": torch.tensor([0, 1]),
        "iscrowd": torch.tensor([False, True]),
    }
    with_crowd, without = FocalDetectionLoss()(given, [crowded]), FocalDetectionLoss()(given, [alone])
    assert with_crowd["classes"] < without["classes"] / 2  # nearly all background lies in it
    torch.testing.assert_close(with_crowd["boxes"], without["boxes"])


def test_adaptive_assignment_and_giou_have_gradients() -> None:
    given = outputs()
    found = FocalDetectionLoss(assignment="atss", box_loss="giou", box_weight=2)(given, TARGETS)
    torch.testing.assert_close(found["loss"], found["classes"] + 2 * found["boxes"])
    found["loss"].backward()
    assert given.logits.grad is not None
    assert given.deltas.grad is not None
    assert given.deltas.grad.abs().sum() > 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="targets must be 3, one an image; got 1"):
        FocalDetectionLoss()(outputs(), TARGETS[:1])
    with pytest.raises(ArgumentError, match="labels must be object classes 0 to 2; got 7"):
        FocalDetectionLoss()(outputs(1), [{"boxes": torch.zeros(1, 4), "labels": torch.tensor([7])}])
    with pytest.raises(UnknownNameError, match="atss"):
        FocalDetectionLoss(assignment="ats")
    with pytest.raises(UnknownNameError, match="giou"):
        FocalDetectionLoss(box_loss="gio")
    with pytest.raises(ArgumentError, match="gamma must be 0 or more"):
        FocalDetectionLoss(gamma=-1)

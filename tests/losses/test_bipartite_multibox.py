"""MultiBox's loss: by hand, against scipy's pairing, and its two ways to match."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import expit, log_softmax
from torch import Tensor

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.bipartite_multibox import BipartiteMultiBoxLoss
from delineate.structures.outputs import SlotOutputs

SIZE = (64, 96)
WHOLE = torch.tensor([96.0, 64, 96, 64])
EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def said(images: int = 2, slots: int = 5, *, classes: int = 3, seed: int = 0) -> SlotOutputs:
    generator = torch.Generator().manual_seed(seed)
    boxes, priors = torch.rand(images, slots, 1, 4, generator=generator), torch.rand(slots, 4, generator=generator)
    logits = torch.randn(images, slots, classes, generator=generator)
    confidences = torch.randn(images, slots, generator=generator) * 2
    return SlotOutputs(
        logits.requires_grad_(), boxes.requires_grad_(), SIZE, objectness=confidences.requires_grad_(), priors=priors
    )


def truths(*counts: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "boxes": torch.rand(count, 4, generator=generator) * WHOLE,
            "labels": torch.randint(3, (count,), generator=generator),
        }
        for count in counts
    ]


def test_every_term_by_hand() -> None:
    priors = torch.tensor([[0.0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0.0, 0, 1, 1]])
    boxes = priors + torch.tensor([[0.1, 0, 0, 0], [0.0, 0, 0, 0], [0.0, 0, 0, 0]])
    confidences = torch.logit(torch.tensor([[0.8, 0.1, 0.3]]))
    outputs = SlotOutputs(
        torch.tensor([[[1.0, 0.0]] * 3]), boxes[None, :, None], (100, 200), objectness=confidences, priors=priors
    )
    target = {"boxes": torch.tensor([[0.0, 0, 100, 70]]), "labels": torch.tensor([1])}  # 0 0 .5 .7
    found = BipartiteMultiBoxLoss(class_weight=2)(outputs, [target])
    assert float(found["boxes"]) == pytest.approx((0.1**2 + 0.2**2) / 2)
    assert float(found["objects"]) == pytest.approx(-math.log(0.8))
    assert float(found["no_objects"]) == pytest.approx(-math.log(0.9) - math.log(0.7))
    assert float(found["classes"]) == pytest.approx(math.log(math.e + 1))
    total = 0.3 * 0.025 - math.log(0.8 * 0.9 * 0.7) + 2 * math.log(math.e + 1)
    assert float(found["loss"]) == pytest.approx(total)


def test_boxes_that_overlap_an_object_learn_its_class() -> None:
    """Of IoU 1, 0.6, 0.4 and 0 with the object; the first is its own."""
    boxes = torch.tensor([[0.0, 0, 0.5, 1], [0.0, 0, 0.5, 0.6], [0.0, 0, 0.5, 0.4], [0.5, 0, 1, 1]])
    logits = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0]])[None]
    outputs = SlotOutputs(logits, boxes[None, :, None], SIZE, objectness=torch.zeros(1, 4), priors=boxes)
    target = {"boxes": boxes[:1] * WHOLE, "labels": torch.tensor([0])}
    wrong = [math.log(1 + math.exp(value)) for value in (1, 2, 3, 4)]
    for overlap, expected in ((None, wrong[:1]), (0.7, wrong[:1]), (0.5, wrong[:2]), (0.3, wrong[:3])):
        found = BipartiteMultiBoxLoss(class_overlap=overlap)(outputs, [target])
        assert float(found["classes"]) == pytest.approx(sum(expected))
        assert float(found["objects"] + found["no_objects"]) == pytest.approx(4 * math.log(2))
    nothing = BipartiteMultiBoxLoss(class_overlap=0.5)(outputs, [EMPTY])
    assert float(nothing["classes"]) == 0


def test_objects_meet_priors_or_predictions() -> None:
    """The second box has moved onto the first one's object; only matching by predictions lets it answer."""
    priors = torch.tensor([[0.0, 0, 0.5, 1], [0.5, 0, 1, 1]])
    boxes = priors[[1, 0]][None, :, None]
    outputs = SlotOutputs(torch.zeros(1, 2, 1), boxes, SIZE, objectness=torch.zeros(1, 2), priors=priors)
    target = {"boxes": priors[:1] * WHOLE, "labels": torch.tensor([0])}
    assert float(BipartiteMultiBoxLoss()(outputs, [target])["boxes"]) == pytest.approx(2 * 0.5**2 / 2)
    assert float(BipartiteMultiBoxLoss(matching="predictions")(outputs, [target])["boxes"]) == 0


@pytest.mark.parametrize("matching", ["priors", "predictions"])
def test_equals_an_independent_computation(matching: str) -> None:
    outputs, targets = said(4), truths(2, 5, 0, 7)
    sums = np.zeros(4)
    for image, target in enumerate(targets):
        confidences = expit(outputs.objectness[image].detach().double().numpy())
        wanted, labels = (target["boxes"] / WHOLE).double().numpy(), target["labels"].tolist()
        boxes = outputs.boxes[image, :, 0].detach().double().numpy()
        apart = 0.5 * np.linalg.norm(boxes[:, None] - wanted, axis=2) ** 2
        wrong = -log_softmax(outputs.logits[image].detach().double().numpy(), axis=1)[:, labels]
        if matching == "priors":
            costs = np.linalg.norm(outputs.priors.double().numpy()[:, None] - wanted, axis=2) ** 2
        else:
            found = -np.log(confidences) + np.log(1 - confidences)
            costs = 2 * apart + found[:, None] + 0.7 * wrong
        rows, columns = linear_sum_assignment(costs)
        free = np.setdiff1d(np.arange(5), rows)
        sums += (
            apart[rows, columns].sum(),
            -np.log(confidences[rows]).sum(),
            -np.log(1 - confidences[free]).sum(),
            wrong[rows, columns].sum(),
        )
    found = BipartiteMultiBoxLoss(alpha=2, class_weight=0.7, matching=matching)(outputs, targets)
    names = ("boxes", "objects", "no_objects", "classes")
    assert [float(found[name].detach()) for name in names] == pytest.approx(sums / 4, rel=1e-5)
    assert float(found["loss"].detach()) == pytest.approx(sums @ [2, 1, 1, 0.7] / 4, rel=1e-5)


def test_matching_predictions_costs_no_more_than_any_other() -> None:
    targets = truths(3, 2)
    for seed in range(5):
        outputs = said(seed=seed)
        least = BipartiteMultiBoxLoss(matching="predictions")(outputs, targets)["loss"]
        assert least <= BipartiteMultiBoxLoss()(outputs, targets)["loss"]


def test_with_a_single_class_labels_are_not_asked() -> None:
    given = said(1, classes=1)
    target = {"boxes": torch.tensor([[0.0, 0, 48, 32]]), "labels": torch.tensor([19])}
    found = BipartiteMultiBoxLoss()(given, [target])
    assert float(found["classes"].detach()) == 0
    assert found["objects"] > 0


def test_an_image_without_objects_teaches_silence_only() -> None:
    outputs = SlotOutputs(
        torch.zeros(1, 3, 1),
        torch.rand(1, 3, 1, 4).requires_grad_(),
        SIZE,
        objectness=torch.zeros(1, 3).requires_grad_(),
        priors=torch.rand(3, 4),
    )
    found = BipartiteMultiBoxLoss()(outputs, [EMPTY])
    found["loss"].backward()
    assert float(found["loss"].detach()) == pytest.approx(3 * math.log(2))
    assert not outputs.boxes.grad.any()
    assert outputs.objectness.grad.flatten().tolist() == [0.5] * 3


def test_a_box_on_a_crowd_is_left_alone() -> None:
    boxes = torch.tensor([[0.0, 0, 0.25, 0.25], [0.75, 0.75, 1, 1]])
    outputs = SlotOutputs(torch.zeros(1, 2, 1), boxes[None, :, None], SIZE, objectness=torch.zeros(1, 2), priors=boxes)
    crowd = {"boxes": torch.tensor([[0.0, 0, 48, 32]]), "labels": torch.tensor([0]), "iscrowd": torch.tensor([True])}
    assert float(BipartiteMultiBoxLoss()(outputs, [crowd])["loss"]) == pytest.approx(math.log(2))


@pytest.mark.parametrize("matching", ["priors", "predictions"])
def test_gradients_are_those_of_the_numbers(matching: str) -> None:
    given, targets = said(1, 4), truths(2)
    double = [part.detach().double().requires_grad_() for part in (given.logits, given.boxes, given.objectness)]

    def loss(logits: Tensor, boxes: Tensor, confidences: Tensor) -> Tensor:
        outputs = SlotOutputs(logits, boxes, SIZE, objectness=confidences, priors=given.priors)
        return BipartiteMultiBoxLoss(alpha=2, matching=matching)(outputs, targets)["loss"]

    assert torch.autograd.gradcheck(loss, double)


def test_the_gradient_is_the_papers() -> None:
    """With respect to a confidence c, (c - 1) / (c (1 - c)) of a pair; times c (1 - c), the sigmoid's slope."""
    outputs = said(1, slots=1)
    BipartiteMultiBoxLoss(class_weight=0)(outputs, truths(1))["loss"].backward()
    confidence = outputs.objectness.detach().sigmoid()
    torch.testing.assert_close(outputs.objectness.grad, confidence - 1)
    wanted = truths(1)[0]["boxes"] / WHOLE
    torch.testing.assert_close(outputs.boxes.grad[0, 0], 0.3 * (outputs.boxes.detach()[0, 0] - wanted))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="targets must be 2, one an image; got 1"):
        BipartiteMultiBoxLoss()(said(2), truths(1))
    with pytest.raises(ArgumentError, match="labels must be object classes 0 to 2; got 5"):
        BipartiteMultiBoxLoss()(said(1), [{"boxes": torch.ones(1, 4), "labels": torch.tensor([5])}])
    with pytest.raises(UnknownNameError, match="priors"):
        BipartiteMultiBoxLoss(matching="prior")
    with pytest.raises(ArgumentError, match="alpha must be 0 or more; got -1"):
        BipartiteMultiBoxLoss(alpha=-1)
    with pytest.raises(ArgumentError, match="class_weight must be 0 or more; got -1"):
        BipartiteMultiBoxLoss(class_weight=-1)
    plain = SlotOutputs(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1, 4), SIZE)
    with pytest.raises(ArgumentError, match="outputs must have objectness; got none"):
        BipartiteMultiBoxLoss()(plain, [EMPTY])
    without = SlotOutputs(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1, 4), SIZE, objectness=torch.zeros(1, 1))
    with pytest.raises(ArgumentError, match="outputs must have priors to match; got none"):
        BipartiteMultiBoxLoss()(without, [EMPTY])
    assert float(BipartiteMultiBoxLoss(matching="predictions")(without, [EMPTY])["loss"]) == pytest.approx(math.log(2))

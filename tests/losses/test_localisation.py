"""The localiser's loss: by hand, against scipy's pairing, and as the smallest of all pairings' sums."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax
from torch import Tensor
from torchvision.ops import generalized_box_iou

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.localisation import LocalisationLoss
from delineate.structures.outputs import SlotOutputs

SIZE = (64, 96)
WHOLE = torch.tensor([96.0, 64, 96, 64])
EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def said(
    images: int = 2, slots: int = 4, *, classes: int = 3, boxes_each: int = 1, background: bool = True, seed: int = 0
) -> SlotOutputs:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, slots, classes + background, generator=generator) * 2
    corners = torch.rand(images, slots, boxes_each, 4, generator=generator) * 0.5
    boxes = torch.cat([corners[..., :2], corners[..., :2] + 0.1 + corners[..., 2:]], -1)
    return SlotOutputs(logits.requires_grad_(), boxes.requires_grad_(), SIZE, background)


def truths(*counts: int, classes: int = 3) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    found = []
    for count in counts:
        corners = torch.rand(count, 4, generator=generator) * 0.5
        boxes = torch.cat([corners[:, :2], corners[:, :2] + 0.1 + corners[:, 2:]], 1) * WHOLE
        found.append({"boxes": boxes, "labels": torch.randint(classes, (count,), generator=generator)})
    return found


def distance(name: str, box: np.ndarray, truth: np.ndarray) -> float:
    if name == "giou":
        return 1 - float(generalized_box_iou(torch.from_numpy(box)[None], torch.from_numpy(truth)[None]))
    return float(np.square(box - truth).sum() if name == "l2" else np.abs(box - truth).sum())


def tables(outputs: SlotOutputs, image: int, target: dict[str, Tensor], name: str) -> tuple[np.ndarray, ...]:
    """For each slot what an object's class costs, what the background costs, and how far its box is."""
    surprise = -log_softmax(outputs.logits[image].detach().double().numpy(), axis=1)
    boxes = outputs.boxes[image].detach().double().numpy()
    wanted, labels = (target["boxes"] / WHOLE).double().numpy(), target["labels"].tolist()
    nothing = surprise[:, -1] if outputs.background else np.zeros(len(surprise))
    apart = np.array(
        [
            [
                distance(name, box[label if len(box) > 1 else 0], truth)
                for truth, label in zip(wanted, labels, strict=True)
            ]
            for box in boxes
        ]
    ).reshape(len(boxes), len(labels))
    return surprise[:, labels], nothing, apart


def test_one_object_by_hand() -> None:
    boxes = torch.tensor([0.25, 0.25, 0.5, 0.75]).view(1, 1, 1, 4)
    outputs = SlotOutputs(torch.tensor([[[1.0, 0.0, 0.0]]]), boxes, SIZE)
    target = {"boxes": torch.tensor([[24.0, 16, 72, 32]]), "labels": torch.tensor([0])}  # .25 .25 .75 .5
    classes = math.log(math.e + 2) - 1
    for name, apart in (("l2", 0.125), ("l1", 0.5)):
        found = LocalisationLoss(box_loss=name, box_weight=3)(outputs, [target])
        assert float(found["classes"]) == pytest.approx(classes)
        assert float(found["boxes"]) == pytest.approx(apart)
        assert float(found["loss"]) == pytest.approx(classes + 3 * apart)
    # they share .25 x .25 of a union of 3 x .0625, and are enclosed by four
    found = LocalisationLoss(box_loss="giou")(outputs, [target])
    assert float(found["boxes"]) == pytest.approx(1 - (1 / 3 - 1 / 4))


def test_two_slots_by_hand() -> None:
    """Each slot sits on the other one's object: the pairing crosses, and the order of the objects means nothing."""
    left, right = [0.0, 0, 0.5, 1], [0.5, 0, 1, 1]
    logits = torch.tensor([[[0.0, 2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0]]])
    boxes = torch.tensor([[right, left, left]])[:, :, None]
    outputs = SlotOutputs(logits, boxes, (100, 100), True)
    target = {"boxes": torch.tensor([left, right]) * 100, "labels": torch.tensor([0, 1])}
    expected = 2 * (math.log(math.e**2 + 2) - 2) + math.log(math.e**3 + 2) - 3
    for order in ([0, 1], [1, 0]):
        found = LocalisationLoss()(outputs, [{name: column[order] for name, column in target.items()}])
        assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)
        assert float(found["boxes"]) == 0


@pytest.mark.parametrize("name", ["l2", "l1", "giou"])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("boxes_each", [1, 3])
def test_equals_an_independent_computation(name: str, background: bool, boxes_each: int) -> None:
    outputs, targets = said(4, boxes_each=boxes_each, background=background), truths(2, 4, 0, 6)
    sums = np.zeros(2)
    for image, target in enumerate(targets):
        wrong, nothing, apart = tables(outputs, image, target, name)
        rows, columns = linear_sum_assignment(wrong - nothing[:, None] + 1.5 * apart)
        free = np.setdiff1d(np.arange(4), rows)
        sums += wrong[rows, columns].sum() + nothing[free].sum(), apart[rows, columns].sum()
    found = LocalisationLoss(box_loss=name, box_weight=1.5)(outputs, targets)
    assert float(found["classes"].detach()) == pytest.approx(sums[0] / 4, rel=1e-5)
    assert float(found["boxes"].detach()) == pytest.approx(sums[1] / 4, rel=1e-5)
    assert float(found["loss"].detach()) == pytest.approx((sums[0] + 1.5 * sums[1]) / 4, rel=1e-5)


def test_it_is_the_smallest_of_all_pairings() -> None:
    outputs, targets = said(1), truths(3)
    wrong, nothing, apart = tables(outputs, 0, targets[0], "l1")
    sums = [
        sum(wrong[slot, truth] + apart[slot, truth] for truth, slot in enumerate(slots))
        + sum(nothing[slot] for slot in set(range(4)) - set(slots))
        for slots in itertools.permutations(range(4), 3)
    ]
    assert len(sums) == 24
    assert float(LocalisationLoss()(outputs, targets)["loss"].detach()) == pytest.approx(min(sums), rel=1e-5)


def test_of_more_objects_than_slots_the_cheapest_is_learned() -> None:
    boxes = torch.tensor([0.5, 0.5, 1.0, 1.0]).view(1, 1, 1, 4)
    outputs = SlotOutputs(torch.zeros(1, 1, 3), boxes, SIZE)
    target = {"boxes": torch.tensor([[0.0, 0, 10, 10], [48, 32, 96, 64]]), "labels": torch.tensor([0, 2])}
    assert float(LocalisationLoss()(outputs, [target])["boxes"]) == 0


def test_an_image_without_objects_teaches_the_background_or_nothing() -> None:
    some = SlotOutputs(torch.zeros(1, 2, 4).requires_grad_(), torch.rand(1, 2, 1, 4), SIZE, True)
    assert float(LocalisationLoss()(some, [EMPTY])["loss"].detach()) == pytest.approx(2 * math.log(4))
    outputs = said(1, background=False)
    found = LocalisationLoss()(outputs, [EMPTY])["loss"]
    found.backward()
    assert float(found.detach()) == 0
    assert not outputs.logits.grad.any()


def test_a_slot_on_a_crowd_is_left_alone() -> None:
    boxes = torch.tensor([[0.0, 0, 0.25, 0.25], [0.75, 0.75, 1, 1]]).view(1, 2, 1, 4)
    outputs = SlotOutputs(torch.zeros(1, 2, 4), boxes, SIZE, True)
    crowd = {"boxes": torch.tensor([[0.0, 0, 48, 32]]), "labels": torch.tensor([0]), "iscrowd": torch.tensor([True])}
    assert float(LocalisationLoss()(outputs, [crowd])["loss"]) == pytest.approx(math.log(4))


def test_images_are_averaged() -> None:
    outputs, targets = said(2), truths(2, 3)
    alone = [
        LocalisationLoss()(SlotOutputs(outputs.logits[k : k + 1], outputs.boxes[k : k + 1], SIZE, True), [targets[k]])
        for k in range(2)
    ]
    both = LocalisationLoss()(outputs, targets)
    for name, value in both.items():
        torch.testing.assert_close(value, (alone[0][name] + alone[1][name]) / 2)


@pytest.mark.parametrize("name", ["l2", "l1", "giou"])
def test_gradients_are_those_of_the_numbers(name: str) -> None:
    given, targets = said(1, 3, boxes_each=3), truths(2)
    double = [part.detach().double().requires_grad_() for part in (given.logits, given.boxes)]

    def loss(logits: Tensor, boxes: Tensor) -> Tensor:
        return LocalisationLoss(box_loss=name)(SlotOutputs(logits, boxes, SIZE, True), targets)["loss"]

    assert torch.autograd.gradcheck(loss, double)


def test_half_precision_is_computed_in_full() -> None:
    given, targets = said(1), truths(2)
    logits, boxes = given.logits.detach().bfloat16(), given.boxes.detach().bfloat16()
    low = LocalisationLoss()(SlotOutputs(logits, boxes, SIZE, True), targets)
    full = LocalisationLoss()(SlotOutputs(logits.float(), boxes.float(), SIZE, True), targets)
    assert low["loss"].dtype == torch.float32
    assert float(low["loss"]) == float(full["loss"])


def test_a_network_that_diverged_says_so() -> None:
    outputs = SlotOutputs(torch.full((1, 2, 4), float("nan")), torch.rand(1, 2, 1, 4), SIZE, True)
    assert LocalisationLoss()(outputs, truths(1))["loss"].isnan()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="targets must be 2, one an image; got 1"):
        LocalisationLoss()(said(2), truths(1))
    with pytest.raises(ArgumentError, match="labels must be object classes 0 to 2; got 5"):
        LocalisationLoss()(said(1), [{"boxes": torch.ones(1, 4), "labels": torch.tensor([5])}])
    with pytest.raises(UnknownNameError, match="giou"):
        LocalisationLoss(box_loss="gious")
    with pytest.raises(ArgumentError, match="box_weight must be 0 or more; got -1"):
        LocalisationLoss(box_weight=-1)
    confident = SlotOutputs(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1, 4), SIZE, objectness=torch.zeros(1, 1))
    with pytest.raises(ArgumentError, match="outputs must have no objectness; got some"):
        LocalisationLoss()(confident, [EMPTY])

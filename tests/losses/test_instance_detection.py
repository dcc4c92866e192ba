"""The sum of a detector's loss and its masks' or joints': torchvision's parts, training steps, images without objects.

The parts are compared with torchvision's on the regions that a small network sampled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.models.detection.roi_heads import keypointrcnn_loss, maskrcnn_loss

from delineate.errors import ArgumentError
from delineate.losses.instance_detection import InstanceDetectionLoss
from delineate.losses.region_detection import RegionDetectionLoss
from delineate.models.mask_rcnn import keypoint_rcnn, mask_rcnn
from delineate.structures.outputs import AnchorOutputs, RegionOutputs

SMALL: dict[str, Any] = {"encoder": "resnet18", "channels": 8, "hidden": 16, "head_channels": 8, "regions": 16}
SIZE = (64, 96)
JOINTS = 4
ANCHORS = torch.tensor([[0.0, 0, 30, 30]]) + 6.0 * torch.arange(6)[:, None]


def target(boxes: list[list[float]], labels: list[int], crowd: int | None = None) -> dict[str, Any]:
    """Boxes, each with the mask of its left half, and joints on its diagonal, some of them not labelled."""
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, corners.int().tolist(), strict=True):
        mask[top:bottom, left : (left + right) // 2] = 1
    shares = torch.tensor([0.0, 0.3, 0.6, 1.0])[:, None]
    points = corners[:, None, :2] + shares * (corners[:, None, 2:] - corners[:, None, :2])
    visibility = torch.tensor([2, 1, 0, 2]).repeat(len(boxes), 1)
    return {
        "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=SIZE),  # type: ignore[call-overload]
        "labels": torch.tensor(labels, dtype=torch.int64),
        "iscrowd": torch.tensor([row == crowd for row in range(len(boxes))], dtype=torch.bool),
        "masks": tv_tensors.Mask(masks),
        "keypoints": tv_tensors.KeyPoints(points, canvas_size=SIZE),
        "visibility": visibility,
    }


TARGETS = [
    target([[50, 2, 90, 62], [2, 3, 40, 50], [50, 10, 90, 44]], [1, 0, 2], crowd=0),
    target([], []),
    target([[5, 5, 60, 40]], [1]),
]


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def by_image(outputs: RegionOutputs) -> tuple[list[Tensor], list[Tensor]]:
    """The regions with an object, and the rows that they answer for."""
    assert outputs.matches is not None
    own = [(outputs.matches >= 0) & (outputs.images == image) for image in range(len(TARGETS))]
    return [outputs.regions[rows] for rows in own], [outputs.matches[rows] for rows in own]


def test_masks_are_torchvisions() -> None:
    torch.manual_seed(0)
    outputs = mask_rcnn(3, **SMALL)(images(), TARGETS)
    boxes, rows = by_image(outputs)
    assert [len(one) > 0 for one in rows] == [True, False, True]
    masks, labels = ([one[name] for one in TARGETS] for name in ("masks", "labels"))
    found = InstanceDetectionLoss()(outputs, TARGETS)
    moved = [one - 0.5 for one in boxes]  # torchvision reads masks half a pixel off, see region_mask_targets
    torch.testing.assert_close(found["masks"], maskrcnn_loss(outputs.masks, moved, masks, labels, rows))
    parts = [found[name] for name in ("objectness", "proposals", "classes", "boxes", "masks")]
    torch.testing.assert_close(found["loss"], torch.stack(parts).sum())
    assert set(found) == {"loss", "objectness", "proposals", "classes", "boxes", "masks"}


def test_joints_are_torchvisions() -> None:
    torch.manual_seed(0)
    outputs = keypoint_rcnn(3, joints=JOINTS, **SMALL)(images(), TARGETS)
    boxes, rows = by_image(outputs)
    truths = [torch.cat([one["keypoints"], one["visibility"][..., None]], dim=-1) for one in TARGETS]
    found = InstanceDetectionLoss()(outputs, TARGETS)
    assert outputs.keypoints is not None
    expected = keypointrcnn_loss(
        outputs.keypoints.contiguous(), boxes, truths, rows
    )  # theirs cannot view channels last
    torch.testing.assert_close(found["keypoints"], expected)
    assert "masks" not in found


@pytest.mark.parametrize("factory", [mask_rcnn, keypoint_rcnn])
def test_without_an_object_every_parameter_has_a_gradient(factory: Any) -> None:
    torch.manual_seed(0)
    model = factory(3, **SMALL)
    found = InstanceDetectionLoss()(
        model(images(1), TARGETS[1:2]), [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
    )
    assert found[model.describes].item() == 0
    found["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(parameter.grad.any() for parameter in model.head.parameters())


def given(
    seed: int = 0,
    regions: tuple[int, ...] = (5, 0, 4),
    matches: tuple[int, ...] = (1, 2, -1, 2, -1, 0, 0, -1, 0),
    targets: list[dict[str, Any]] = TARGETS,
) -> RegionOutputs:
    """Regions around the objects, and what a network might say of them, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.arange(len(regions)).repeat_interleave(torch.tensor(regions))
    count, positive = len(matches), sum(match >= 0 for match in matches)
    boxes = torch.stack(
        [
            torch.tensor([10.0, 10, 50, 50])
            if match < 0
            else targets[image]["boxes"][match].as_subclass(Tensor) + torch.randn(4, generator=generator)
            for image, match in zip(places.tolist(), matches, strict=True)
        ]
    )

    def values(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    return RegionOutputs(
        proposals=AnchorOutputs(values(len(regions), 6, 1), values(len(regions), 6, 4), ANCHORS, (6,)),
        regions=boxes,
        images=places,
        logits=values(count, 4),
        deltas=values(count, 4, 4),
        matches=torch.tensor(matches),
        masks=values(positive, 3, 14, 14),
        keypoints=values(positive, JOINTS, 8, 8),
    )


def test_masks_and_joints_at_once_with_weights() -> None:
    outputs = given()
    found = InstanceDetectionLoss(mask_weight=2, keypoint_weight=0.5)(outputs, TARGETS)
    plain = RegionDetectionLoss()(replace(outputs, masks=None, keypoints=None), TARGETS)
    torch.testing.assert_close(found["loss"], plain["loss"] + 2 * found["masks"] + 0.5 * found["keypoints"])
    assert {name for name in found if name not in plain} == {"masks", "keypoints"}
    alone = InstanceDetectionLoss()(replace(outputs, masks=None, keypoints=None), TARGETS)
    assert set(alone) == set(plain)


def test_options_of_the_detectors_loss_reach_it() -> None:
    outputs = given()
    square = RegionDetectionLoss(beta=1)
    found = InstanceDetectionLoss(square)(outputs, TARGETS)
    torch.testing.assert_close(found["boxes"], square(outputs, TARGETS)["boxes"])
    assert found["boxes"] < InstanceDetectionLoss()(outputs, TARGETS)["boxes"]


def test_either_stage_may_be_weighted_or_left_out() -> None:
    outputs = given()
    parts = {name: value.detach() for name, value in InstanceDetectionLoss()(outputs, TARGETS).items()}
    first = parts["objectness"] + parts["proposals"]
    second = parts["classes"] + parts["boxes"] + 2 * parts["masks"] + parts["keypoints"]
    # each call draws anchors anew, of so few all: the parts stay the same
    found = InstanceDetectionLoss(proposals=0.5, regions=3, mask_weight=2)(outputs, TARGETS)
    torch.testing.assert_close(found["loss"].detach(), 0.5 * first + 3 * second)
    torch.testing.assert_close(found["masks"].detach(), parts["masks"])
    alone = InstanceDetectionLoss(regions=0)(replace(outputs, matches=None), TARGETS)
    assert set(alone) == {"loss", "objectness", "proposals"}
    torch.testing.assert_close(alone["loss"].detach(), first)
    later = InstanceDetectionLoss(proposals=0, mask_weight=2)(outputs, TARGETS)
    assert set(later) == {"loss", "classes", "boxes", "masks", "keypoints"}
    torch.testing.assert_close(later["loss"].detach(), second)
    assert InstanceDetectionLoss(RegionDetectionLoss(regions=0)).regions == 0
    with pytest.raises(ArgumentError, match="detection must have the weights of its halves itself; got proposals 0"):
        InstanceDetectionLoss(RegionDetectionLoss(), proposals=0)


@pytest.mark.parametrize("name", ["masks", "keypoints"])
def test_the_order_of_images_does_not_matter(name: str) -> None:
    outputs = given()
    order, matches = torch.tensor([2, 1, 0]), outputs.matches
    assert matches is not None
    rows = torch.cat([torch.where(outputs.images == image)[0] for image in order])
    positive = torch.cat([torch.where(outputs.images[matches >= 0] == image)[0] for image in order])
    turned = replace(
        outputs,
        regions=outputs.regions[rows],
        images=2 - outputs.images[rows],
        logits=outputs.logits[rows],
        deltas=outputs.deltas[rows],
        matches=matches[rows],
        masks=None if outputs.masks is None else outputs.masks[positive],
        keypoints=None if outputs.keypoints is None else outputs.keypoints[positive],
    )
    loss = InstanceDetectionLoss()
    torch.testing.assert_close(loss(turned, TARGETS[::-1])[name], loss(outputs, TARGETS)[name])


@pytest.mark.parametrize("name", ["masks", "keypoints"])
def test_two_processes_have_the_gradient_of_one(name: str) -> None:
    """One has three regions with an object, the other one: each divides by the mean of both numbers."""
    shares = [((5,), (1, 2, -1, 2, -1), TARGETS[:1]), ((1, 2), (-1, 0, -1), TARGETS[1:])]
    parts = [(given(0, *share), share[2]) for share in shares]
    maps = [getattr(outputs, name) for outputs, _ in parts]
    counts = [_number(outputs, name, targets) for outputs, targets in parts]
    mean = torch.tensor(counts).mean()
    loss = InstanceDetectionLoss()

    def normaliser(count: Tensor) -> Tensor:
        return mean if float(count) in counts else count

    values = [loss(outputs, targets, normaliser=normaliser)[name] for outputs, targets in parts]
    gradients = torch.autograd.grad(torch.stack(values).mean(), maps)
    alone = [loss(outputs, targets)[name] for outputs, targets in parts]
    whole = sum(value * count for value, count in zip(alone, counts, strict=True)) / sum(counts)
    for found, expected in zip(gradients, torch.autograd.grad(whole, maps), strict=True):
        torch.testing.assert_close(found, expected)


def _number(outputs: RegionOutputs, name: str, targets: list[dict[str, Any]]) -> float:
    """Of bins or joints, as the loss itself states it."""
    seen: list[float] = []

    def normaliser(count: Tensor) -> Tensor:
        seen.append(float(count))
        return count

    only = replace(outputs, masks=outputs.masks if name == "masks" else None)
    only = replace(only, keypoints=outputs.keypoints if name == "keypoints" else None)
    InstanceDetectionLoss()(only, targets, normaliser=normaliser)
    return seen[-1]


@pytest.mark.parametrize(("factory", "options"), [(mask_rcnn, {}), (keypoint_rcnn, {"joints": JOINTS})])
def test_a_few_steps_lower_the_loss(factory: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = factory(3, **SMALL, **options).train()
    loss, optimizer = InstanceDetectionLoss(), torch.optim.Adam(model.parameters(), lr=3e-3)
    values = []
    for _ in range(12):
        torch.manual_seed(1)  # the same sample of regions as far as proposals are the same
        found = loss(model(images(), TARGETS), TARGETS)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        values.append(found[model.describes].item())
    assert min(values[-3:]) < 0.9 * values[0]


def test_what_does_not_fit_is_refused() -> None:
    outputs, loss = given(), InstanceDetectionLoss()

    def refused(message: str, targets: list[dict[str, Any]], **columns: Any) -> None:
        with pytest.raises(ArgumentError, match=message):
            loss(replace(outputs, **columns), targets)

    def without(*names: str) -> list[dict[str, Any]]:
        return [{name: value for name, value in one.items() if name not in names} for one in TARGETS]

    refused(
        'targets must have "masks" where there are objects; got "boxes", "labels", .* for image 0', without("masks")
    )
    refused('targets must have "visibility" where there are objects', without("visibility"))
    refused(r"masks must be \(3, H, W\)", [{**TARGETS[0], "masks": TARGETS[0]["masks"][:2]}, *TARGETS[1:]])
    three = torch.cat([TARGETS[0]["keypoints"], TARGETS[0]["visibility"][..., None]], dim=-1)
    refused(
        'If a third column is the visibility, pass it as "visib', [{**TARGETS[0], "keypoints": three}, *TARGETS[1:]]
    )
    refused(r"visibility must be \(3, 4\)", [{**TARGETS[0], "visibility": torch.ones(3, 5)}, *TARGETS[1:]])
    assert outputs.masks is not None
    refused("masks must be 6, one a region with an object; got 5", TARGETS, masks=outputs.masks[1:], keypoints=None)
    refused("outputs must be of regions sampled with the targets", TARGETS, matches=None)
    with pytest.raises(ArgumentError, match="mask_weight must be 0 or more; got -1"):
        InstanceDetectionLoss(mask_weight=-1)
    with pytest.raises(ArgumentError, match="keypoint_weight must be 0 or more"):
        InstanceDetectionLoss(keypoint_weight=float("nan"))

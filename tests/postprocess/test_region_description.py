"""From a network's heads to masks and joints: torchvision's inference, and the ways of the numbers by hand."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import keypointrcnn_inference, maskrcnn_inference

from delineate.errors import ArgumentError
from delineate.models.mask_rcnn import DescribingRCNN, keypoint_rcnn, mask_rcnn
from delineate.postprocess import region_description
from delineate.postprocess.detection import detected_regions
from delineate.postprocess.keypoint_decoding import decode_keypoints
from delineate.postprocess.mask_pasting import paste_masks
from delineate.postprocess.region_description import RegionDescription, described_regions
from delineate.structures.outputs import RegionOutputs
from delineate.structures.scored_boxes import DetectionOptions, ScoredBoxes

SMALL: dict[str, Any] = {"encoder": "resnet18", "channels": 8, "hidden": 16, "head_channels": 8, "after": 20}
SIZES = [(64, 96), (60, 80), (64, 96)]
LENIENT = DetectionOptions(score_threshold=0.0, most=5)


@torch.no_grad()
def answered(factory: Any) -> tuple[DescribingRCNN, RegionOutputs, list[ScoredBoxes]]:
    """A small network, what it says of three images, and what was found in them: nothing in the second."""
    torch.manual_seed(0)
    model = factory(3, **SMALL).eval()
    for parameter in model.head.parameters():  # maps that differ from place to place
        parameter.mul_(4)
    outputs = model(torch.randn(3, 3, 64, 96))
    found = detected_regions(outputs, SIZES, LENIENT)
    none = found[1].select(torch.zeros(0, dtype=torch.int64))
    return model, outputs, [found[0], none, found[2]]


def maps_of(model: DescribingRCNN, outputs: RegionOutputs, found: list[ScoredBoxes]) -> Tensor:
    images = torch.tensor([image for image, one in enumerate(found) for _ in range(len(one))])
    return model.described(outputs, torch.cat([one.boxes for one in found]), images)


@torch.no_grad()
@pytest.mark.parametrize("most", [256, 3])
def test_masks_are_torchvisions(most: int) -> None:
    model, outputs, found = answered(mask_rcnn)
    assert [len(one) for one in found] == [5, 0, 5]
    expected = maskrcnn_inference(maps_of(model, outputs, found), [one.labels for one in found])
    with patch.object(region_description, "MOST_REGIONS", most):
        described = described_regions(model, outputs, found)
    for one, theirs in zip(described, expected, strict=True):
        assert one.keypoints is None
        torch.testing.assert_close(one.masks, theirs[:, 0])
    masks = described[2].masks
    assert masks is not None
    assert masks.std() > 0.01
    pasted = paste_masks(masks, found[2].boxes * 2, (128, 192))
    assert pasted.sizes.tolist() == [[128, 192]] * 5


@torch.no_grad()
def test_joints_are_torchvisions() -> None:
    model, outputs, found = answered(keypoint_rcnn)
    places, scores = keypointrcnn_inference(maps_of(model, outputs, found), [one.boxes for one in found])
    for image, one in enumerate(described_regions(model, outputs, found)):
        assert one.masks is None
        assert one.keypoints is not None
        torch.testing.assert_close(one.keypoints[..., :2], places[image][..., :2])
        torch.testing.assert_close(one.keypoints[..., 2], scores[image])
        boxes = found[image].boxes[:, None]
        assert ((one.keypoints[..., :2] >= boxes[..., :2]) & (one.keypoints[..., :2] <= boxes[..., 2:] + 1)).all()


@torch.no_grad()
def test_joints_are_pixels_of_the_picture_where_its_boxes_are_given() -> None:
    model, outputs, found = answered(keypoint_rcnn)
    plain = described_regions(model, outputs, found)
    shown = [one.boxes * 3 + 7 for one in found]
    maps = maps_of(model, outputs, found)
    expected = decode_keypoints(maps, torch.cat(shown))
    finer = described_regions(model, outputs, found, shown=shown)
    torch.testing.assert_close(torch.cat([one.keypoints for one in finer]), expected)
    assert (finer[0].keypoints[..., :2] - (plain[0].keypoints[..., :2] * 3 + 7)).abs().max() > 0.1
    # of a picture so large that no joint is looked for on every pixel: the same to an eighth of a map's place
    huge = described_regions(model, outputs, found, shown=[one.boxes * 500 for one in found])
    for one, other, boxes in zip(huge, finer, (one.boxes * 500 for one in found), strict=True):
        where = one.keypoints[..., :2]
        assert ((where >= boxes[:, None, :2]) & (where <= boxes[:, None, 2:])).all()
        assert one.keypoints.shape == other.keypoints.shape
    with pytest.raises(ArgumentError, match=r"shown must hold \[5, 0, 5\] boxes, one an object; got \[5, 5, 0\]"):
        described_regions(model, outputs, found, shown=[shown[0], shown[2], shown[1]])


def test_images_without_objects_are_ordinary() -> None:
    for factory, name, shape in ((mask_rcnn, "masks", (0, 28, 28)), (keypoint_rcnn, "keypoints", (0, 17, 3))):
        model, outputs, found = answered(factory)
        described = described_regions(model, outputs, [found[1]] * 3)
        assert [getattr(one, name).shape for one in described] == [shape] * 3


def test_rows_are_selected_together() -> None:
    description = RegionDescription(masks=torch.arange(3.0)[:, None, None], keypoints=None)
    chosen = description.select(torch.tensor([2, 0])).masks
    assert chosen is not None
    assert chosen.flatten().tolist() == [2, 0]
    assert RegionDescription(keypoints=torch.zeros(2, 1, 3)).select(torch.tensor([True, False])).masks is None


def test_what_does_not_fit_is_refused() -> None:
    model, outputs, found = answered(mask_rcnn)
    with pytest.raises(ArgumentError, match="found must be 3, one an image; got 1"):
        described_regions(model, outputs, found[:1])
    model.describes = "boxes"
    with pytest.raises(ArgumentError, match='model must describe "masks" or "keypoints"; got "boxes"'):
        described_regions(model, outputs, found)

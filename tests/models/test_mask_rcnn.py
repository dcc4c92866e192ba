"""Mask and Keypoint R-CNN: the published counts, torchvision's maps, and what training is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection

from delineate.errors import ArgumentError
from delineate.models.mask_rcnn import DescribingRCNN, keypoint_rcnn, mask_rcnn
from delineate.models.torchvision_detectors import keypoint_head_state, mask_head_state

SMALL: dict[str, Any] = {"encoder": "resnet18", "channels": 16, "hidden": 32, "head_channels": 16, "regions": 32}
SIZE = (64, 96)
TARGETS = [
    {"boxes": torch.tensor([[2.0, 3, 40, 50], [50, 10, 90, 44]]), "labels": torch.tensor([0, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]
BOXES = torch.tensor([[2.0, 3, 40, 50], [50, 10, 90, 44], [0, 0, 96, 64]])


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("factory", "options", "expected"),
    [
        # torchvision counts the background's mask and does not count frozen batch norm
        (mask_rcnn, {"num_classes": 90}, 44_401_393 - 257 + 53_120),
        (keypoint_rcnn, {}, 59_137_258 + 53_120),
    ],
)
def test_has_the_published_number_of_parameters(factory: Any, options: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        model = factory(**options)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_heads_have_the_papers_number_of_parameters() -> None:
    with torch.device("meta"):
        masks, keypoints = mask_rcnn(80).head, keypoint_rcnn().head
    assert sum(parameter.numel() for parameter in masks.parameters()) == 2_643_280
    assert sum(parameter.numel() for parameter in keypoints.parameters()) == 17_838_097


@pytest.mark.parametrize(
    ("factory", "describes", "shape"), [(mask_rcnn, "masks", (3, 28, 28)), (keypoint_rcnn, "keypoints", (17, 56, 56))]
)
def test_training_describes_regions_that_answer_for_an_object(
    factory: Any, describes: str, shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    model: DescribingRCNN = factory(3, **SMALL).train()
    outputs = model(images(), TARGETS)
    assert outputs.matches is not None
    maps = getattr(outputs, describes)
    assert maps.shape == (int((outputs.matches >= 0).sum()), *shape)
    maps.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.head.parameters())
    empty = model(images(), [TARGETS[1]] * 2)
    assert getattr(empty, describes).shape == (0, *shape)
    with torch.no_grad():
        answered = model.eval()(images())
        assert type(answered) is type(outputs)
        assert getattr(answered, describes) is None
        assert model.described(answered, BOXES, torch.tensor([0, 0, 1])).shape == (3, *shape)


@torch.no_grad()
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_masks_are_torchvisions(version: str) -> None:
    torch.manual_seed(0)
    create = detection.maskrcnn_resnet50_fpn if version == "v1" else detection.maskrcnn_resnet50_fpn_v2
    theirs = create(weights=None, weights_backbone=None, num_classes=4).eval()
    ours = mask_rcnn(3, encoder="resnet18", variant=version).eval()
    assert_same_maps(ours, theirs, mask_head_state(theirs.state_dict()), "mask", slice(1, None))


@torch.no_grad()
def test_keypoints_are_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = detection.keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2).eval()
    ours = keypoint_rcnn(encoder="resnet18").eval()
    assert_same_maps(ours, theirs, keypoint_head_state(theirs.state_dict()), "keypoint", slice(None))


def assert_same_maps(
    ours: DescribingRCNN, theirs: nn.Module, state: dict[str, Tensor], what: str, classes: slice
) -> None:
    """Both heads, given the same pyramid and boxes."""
    ours.head.load_state_dict({name.removeprefix("head."): value for name, value in state.items()})
    outputs = ours(images(1))
    features = {str(level): feature for level, feature in enumerate(outputs.features)}
    roi_heads = theirs.roi_heads
    pooled = getattr(roi_heads, f"{what}_roi_pool")(features, [BOXES], [SIZE])
    expected = getattr(roi_heads, f"{what}_predictor")(getattr(roi_heads, f"{what}_head")(pooled))
    found = ours.described(outputs, BOXES, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(found, expected[:, classes], rtol=1e-3, atol=5e-4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="joints must be above 0"):
        keypoint_rcnn(joints=0)
    with pytest.raises(ArgumentError, match='variant must be "v1" or "v2"'):
        mask_rcnn(3, variant="v9")
    with pytest.raises(ArgumentError, match="regions must be above 0"):
        mask_rcnn(3, regions=0)

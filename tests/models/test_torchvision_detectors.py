"""torchvision's detectors and ours give the same numbers and the same detections under the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from delineate.models.retinanet import retinanet
from delineate.models.ssd import ssd300
from delineate.models.torchvision_detectors import (
    faster_rcnn_state,
    renamed_state,
    retinanet_state,
    selected_classes,
    ssd_state,
)
from delineate.postprocess.detection import detected_boxes
from delineate.structures.outputs import AnchorOutputs
from delineate.structures.scored_boxes import DetectionOptions

SIZE = (64, 96)


def loaded(ours: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    found = ours.load_state_dict(state, strict=False)
    assert found.unexpected_keys == []
    # torchvision's frozen batch norm does not count batches
    assert all(name.endswith("num_batches_tracked") for name in found.missing_keys)
    return ours.eval()


@torch.no_grad()
def outputs_of(theirs: nn.Module, images: Tensor) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
    features = list(theirs.backbone(images).values())
    sizes = [tuple(images.shape[-2:])] * len(images)
    return theirs.head(features), theirs.anchor_generator(ImageList(images, sizes), features), features


def lively(model: nn.Module, layers: list[nn.Module]) -> None:
    """Last layers that say more than noise, so that scores pass thresholds and boxes move."""
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.3)
    model.eval()


@pytest.fixture(scope="module")
def retinanets() -> tuple[nn.Module, AnchorOutputs, Tensor, nn.Module]:
    torch.manual_seed(0)
    theirs = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=7)
    lively(theirs, [theirs.head.classification_head.cls_logits, theirs.head.regression_head.bbox_reg])
    state = retinanet_state(theirs.state_dict())
    ours = loaded(retinanet(7, encoder="torchvision/resnet50", variant="v1"), state)
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        return theirs, ours(images), images, ours


def test_retinanet_says_what_torchvisions_says(
    retinanets: tuple[nn.Module, AnchorOutputs, Tensor, nn.Module],
) -> None:
    theirs, outputs, images, _ = retinanets
    heads, anchors, _ = outputs_of(theirs, images)
    torch.testing.assert_close(outputs.logits, heads["cls_logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs.deltas, heads["bbox_regression"], rtol=0, atol=1e-5)
    assert torch.equal(outputs.anchors, anchors[0])


def test_retinanet_detects_what_torchvisions_detects(
    retinanets: tuple[nn.Module, AnchorOutputs, Tensor, nn.Module],
) -> None:
    theirs, outputs, images, _ = retinanets
    heads, anchors, features = outputs_of(theirs, images)
    counts = [level.shape[-2] * level.shape[-1] * 9 for level in features]
    split = {name: list(values.split(counts, dim=1)) for name, values in heads.items()}
    split_anchors = [list(image.split(counts)) for image in anchors]
    expected = theirs.postprocess_detections(split, split_anchors, [SIZE, (60, 90)])
    found = detected_boxes(outputs, [SIZE, (60, 90)], DetectionOptions(most=300))
    for ours, wanted in zip(found, expected, strict=True):
        assert len(ours) == 300
        torch.testing.assert_close(ours.boxes, wanted["boxes"], rtol=0, atol=1e-4)
        torch.testing.assert_close(ours.scores, wanted["scores"], rtol=0, atol=1e-6)
        assert torch.equal(ours.labels, wanted["labels"])


def test_timms_encoder_takes_the_same_weights(
    retinanets: tuple[nn.Module, AnchorOutputs, Tensor, nn.Module],
) -> None:
    theirs, outputs, images, _ = retinanets
    ours = retinanet(7, encoder="resnet50", variant="v1")
    loaded(ours, retinanet_state(theirs.state_dict(), staged=False))
    with torch.no_grad():
        torch.testing.assert_close(ours(images).logits, outputs.logits, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_second_retinanet_says_what_torchvisions_says() -> None:
    torch.manual_seed(1)
    theirs = detection.retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=5).eval()
    ours = retinanet(5, encoder="torchvision/resnet50", variant="v2")
    loaded(ours, retinanet_state(theirs.state_dict(), norm="group"))
    images = torch.randn(1, 3, *SIZE)
    heads, _, _ = outputs_of(theirs, images)
    torch.testing.assert_close(ours(images).logits, heads["cls_logits"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_ssd_says_and_detects_what_torchvisions_does() -> None:
    torch.manual_seed(2)
    theirs = detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=5).eval()
    ours = loaded(ssd300(4, boxes="coco"), ssd_state(theirs.state_dict()))
    images = torch.randn(1, 3, 300, 300)
    heads, anchors, _ = outputs_of(theirs, images)
    outputs = ours(images)
    torch.testing.assert_close(outputs.logits[..., -1], heads["cls_logits"][..., 0])
    torch.testing.assert_close(outputs.logits[..., :-1], heads["cls_logits"][..., 1:])
    torch.testing.assert_close(outputs.deltas, heads["bbox_regression"])
    torch.testing.assert_close(outputs.anchors, anchors[0], rtol=0, atol=1e-4)
    expected = theirs.postprocess_detections(heads, anchors, [(300, 300)])[0]
    options = DetectionOptions(score_threshold=0.01, iou_threshold=0.45, candidates=400, groups="class", most=200)
    found = detected_boxes(outputs, [(300, 300)], options)[0]
    assert len(found) == len(expected["scores"]) > 20
    torch.testing.assert_close(found.boxes, expected["boxes"], rtol=0, atol=1e-3)
    assert torch.equal(found.labels, expected["labels"] - 1)


def test_a_name_without_a_place_is_an_error() -> None:
    with pytest.raises(KeyError, match="strange"):
        renamed_state({"strange.weight": torch.zeros(1)}, {"known": "ours"})


def test_classes_are_selected_at_every_anchor() -> None:
    weight = torch.arange(8.0).reshape(8, 1)  # two anchors of four classes
    assert selected_classes(weight, [3, 1], count=4).flatten().tolist() == [3, 1, 7, 5]


def test_labels_are_selected_and_the_background_comes_last() -> None:
    state = {"roi_heads.box_predictor.cls_score.bias": torch.arange(5.0)}
    state |= {"roi_heads.box_predictor.bbox_pred.bias": torch.arange(20.0)}
    state |= {name.replace("bias", "weight"): value[:, None] for name, value in state.items()}
    renamed = faster_rcnn_state(state, labels=[2, 4])
    assert renamed["classes.bias"].tolist() == [2, 4, 0]
    assert renamed["boxes.weight"].flatten().tolist() == [8, 9, 10, 11, 16, 17, 18, 19, 0, 1, 2, 3]
    assert faster_rcnn_state(state)["classes.bias"].tolist() == [1, 2, 3, 4, 0]

"""Faster R-CNN: the published counts, torchvision's numbers, sampling, and one step of learning."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.region_detection import RegionDetectionLoss
from delineate.models.blocks.region_sampling import RegionSampling
from delineate.models.faster_rcnn import FasterRCNN, faster_rcnn, faster_rcnn_vgg16
from delineate.models.torchvision_detectors import faster_rcnn_state
from delineate.postprocess.detection import detected_regions
from delineate.structures.outputs import RegionOutputs
from delineate.structures.scored_boxes import DetectionOptions

SIZE = (64, 96)
TARGETS = [
    {"boxes": torch.tensor([[2.0, 3, 40, 50], [50, 10, 90, 44]]), "labels": torch.tensor([0, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def small(**options: Any) -> FasterRCNN:
    return faster_rcnn(3, **{"encoder": "resnet18", "channels": 16, "hidden": 32, "regions": 32, **options})


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("factory", "options", "expected"),
    [
        # torchvision's numbers, and the 53,120 of the encoder's batch norm that its first version keeps frozen
        (faster_rcnn, {"num_classes": 90}, 41_755_286 + 53_120),
        (faster_rcnn, {"num_classes": 90, "variant": "v2"}, 43_712_278),
        (faster_rcnn_vgg16, {"num_classes": 20}, 137_078_239),
    ],
)
def test_has_the_published_number_of_parameters(factory: Any, options: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        model = factory(**options)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@torch.no_grad()
def test_the_papers_network_lays_21546_anchors_over_600_by_1000_pixels() -> None:
    model = faster_rcnn_vgg16(2, width=0.02, hidden=4).eval()
    outputs = model.proposals([torch.zeros(1, 10, 38, 63)], size=(600, 1000))
    assert outputs.anchors.shape == (21_546, 4)
    assert outputs.logits.shape == (1, 21_546, 2)


@pytest.mark.parametrize("factory", ["pyramid", "vgg16"])
def test_learns_and_answers_with_one_type(factory: str) -> None:
    torch.manual_seed(0)
    model = small() if factory == "pyramid" else faster_rcnn_vgg16(3, width=0.1, hidden=16, regions=16)
    loss, optimizer = RegionDetectionLoss(), torch.optim.Adam(model.parameters(), lr=1e-3)
    values = []
    for _ in range(5):
        torch.manual_seed(1)
        optimizer.zero_grad()
        outputs = model.train()(images(), TARGETS)
        named = loss(outputs, TARGETS)
        named["loss"].backward()
        optimizer.step()
        values.append(float(named["loss"].detach()))
    assert values[-1] < values[0]
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []
    with torch.no_grad():
        answered = model.eval()(images())
    assert type(answered) is type(outputs) is RegionOutputs
    assert answered.matches is None
    found = detected_regions(answered, [SIZE, (60, 90)], DetectionOptions(score_threshold=0))
    assert all(len(one) for one in found)
    assert (found[1].boxes[:, 2] <= 90).all()


def test_regions_are_a_sample_with_the_true_boxes_among_them() -> None:
    model = small().train()
    outputs = model(images(), TARGETS)
    assert outputs.matches is not None
    first = outputs.images == 0
    assert int(first.sum()) == int((~first).sum()) == 32
    assert set(outputs.matches[first].tolist()) >= {0, 1}  # each true box answers at least for itself
    assert int((outputs.matches[first] >= 0).sum()) <= 8  # a quarter
    assert (outputs.matches[~first] == -1).all()


def test_crowds_are_neither_objects_nor_background() -> None:
    model = small().train()
    boxes = torch.tensor([[0.0, 0, 96, 64], [50, 10, 90, 44]])
    target = {"boxes": boxes, "labels": torch.tensor([1, 2]), "iscrowd": torch.tensor([True, False])}
    outputs = model(images(1), [target])
    assert outputs.matches is not None
    assert set(outputs.matches.tolist()) <= {1, -1}
    assert 1 in outputs.matches.tolist()  # rows of the target, not of its single objects


@torch.no_grad()
def test_images_without_any_object_train_too() -> None:
    model = small().train()
    named = RegionDetectionLoss()(model(images(), [TARGETS[1]] * 2), [TARGETS[1]] * 2)
    assert all(torch.isfinite(value) for value in named.values())
    assert float(named["boxes"]) == float(named["proposals"]) == 0


@torch.no_grad()
def test_given_proposals_stand_in_place_of_its_own() -> None:
    model, sizes = small().eval(), [SIZE, (60, 90)]
    own = model(images(), sizes=sizes)
    tables = [own.regions[own.images == image] for image in range(2)]
    given = model(images(), None, sizes, tables)
    for name in ("regions", "images", "logits", "deltas"):
        assert torch.equal(getattr(given, name), getattr(own, name)), name
    assert torch.equal(given.proposals.logits, own.proposals.logits)
    proposed = model.proposed(images(), sizes)
    assert torch.equal(proposed.regions, own.regions)
    assert torch.equal(proposed.images, own.images)
    assert (proposed.logits.shape, proposed.deltas.shape) == ((len(own.regions), 0), (len(own.regions), 0, 4))


@torch.no_grad()
def test_any_boxes_may_be_proposed_as_many_as_there_are() -> None:
    model = small().eval()
    few = tv_tensors.BoundingBoxes(
        torch.tensor([[2, 3, 40, 50], [0, 0, 96, 64]]),
        format="XYXY",
        canvas_size=SIZE,  # type: ignore[call-overload]
    )
    outputs = model(images(), proposals=[torch.zeros(0, 4), few])
    assert type(outputs.regions) is Tensor
    assert outputs.regions.tolist() == [[2, 3, 40, 50], [0, 0, 96, 64]]
    assert outputs.images.tolist() == [1, 1]
    found = detected_regions(outputs, [SIZE, SIZE], DetectionOptions(score_threshold=0))
    assert [len(one) > 0 for one in found] == [False, True]
    nothing = model(images(), proposals=[torch.zeros(0, 4)] * 2)
    assert nothing.logits.shape == (0, 4)


def test_regions_to_learn_from_are_drawn_from_given_proposals() -> None:
    model = small().train()
    tables = [torch.tensor([[3.0, 4, 41, 50], [60, 0, 96, 20]]), torch.tensor([[1.0, 2, 30, 40]], requires_grad=True)]
    outputs = model(images(), TARGETS, None, tables)
    assert outputs.matches is not None
    first = outputs.images == 0
    drawn = {tuple(box): match for box, match in zip(outputs.regions.tolist(), outputs.matches.tolist(), strict=True)}
    true = {(2.0, 3, 40, 50): 0, (50.0, 10, 90, 44): 1}
    assert drawn == {(3.0, 4, 41, 50): 0, (60.0, 0, 96, 20): -1, (1.0, 2, 30, 40): -1, **true}
    assert int(first.sum()) == 4
    assert not outputs.regions.requires_grad
    RegionDetectionLoss(proposals=0)(outputs, TARGETS)["loss"].backward()
    assert all(parameter.grad is None for parameter in model.proposals.parameters())
    assert next(model.encoder.parameters()).grad is not None


@torch.no_grad()
def test_a_detector_in_training_looks_at_as_many_fixed_proposals_as_at_its_own() -> None:
    model = small(regions=1000)
    options = model.proposals.options
    model.proposals.options = type(options)(before_training=60, before=20, after_training=40, after=5)
    counts = []
    for fixed in (False, True):
        model.train()
        model.proposals.train(not fixed)
        counts.append(len(model(images(1), [TARGETS[1]]).regions))
    assert counts[0] == counts[1] > 5
    assert len(model.eval()(images(1)).regions) == 5


@torch.no_grad()
@pytest.mark.parametrize("factory", ["pyramid", "vgg16"])
def test_described_without_memory_it_keeps_its_anchors(factory: str) -> None:
    create = small if factory == "pyramid" else lambda: faster_rcnn_vgg16(3, width=0.1, hidden=16)
    model = create().eval()
    with torch.device("meta"):
        other = create().eval()
    other.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(other(images(1)).regions, model(images(1)).regions)


def test_the_papers_network_may_be_normalised_and_learns_background_everywhere() -> None:
    model = faster_rcnn_vgg16(3, width=0.1, hidden=16, norm="batch")
    layers = [type(layer).__name__ for layer in model.encoder.modules()]
    assert layers.count("BatchNorm2d") == layers.count("Conv2d") == 13
    # released for joint training; with Fast R-CNN's 0.1 nothing is said of regions far from any object
    assert model.sampling.least_negative == 0
    with pytest.raises(UnknownNameError, match=r"norm must be a known name; got 'bath'\. Did you mean 'batch'"):
        faster_rcnn_vgg16(3, norm="bath")
    with pytest.raises(ArgumentError, match='norm must be "none" with pretrained weights; got "batch"'):
        faster_rcnn_vgg16(3, pretrained=True, norm="batch")


def test_objects_are_read_as_released() -> None:
    with torch.device("meta"):
        assert faster_rcnn(3).decoding == DetectionOptions(score_threshold=0.05, iou_threshold=0.5, most=100)
        assert faster_rcnn_vgg16(3).decoding == DetectionOptions(score_threshold=0.05, iou_threshold=0.3, most=100)


@torch.no_grad()
def scale_outputs(model: nn.Module, layer: nn.Module, deviation: float) -> None:
    """Random networks say next to nothing or all too much: let this layer's answers vary as a trained one's do."""
    said: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, given, answer: said.append(answer))
    features = model.backbone(images())
    proposals, _ = model.rpn(ImageList(images(), [SIZE, SIZE]), features)
    model.roi_heads(features, proposals, [SIZE, SIZE])
    hook.remove()
    layer.weight *= deviation / torch.cat([answer.flatten() for answer in said]).std()


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, FasterRCNN]:
    torch.manual_seed(0)
    theirs = detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=5, rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=60
    )
    theirs.eval()
    predictor = theirs.roi_heads.box_predictor
    wanted = {theirs.rpn.head.cls_logits: 1.0, theirs.rpn.head.bbox_pred: 0.2}
    wanted |= {predictor.cls_score: 1.0, predictor.bbox_pred: 0.5}
    for layer, deviation in wanted.items():
        scale_outputs(theirs, layer, deviation)
    ours = faster_rcnn(4, encoder="torchvision/resnet50")
    options = ours.proposals.options
    ours.proposals.options = type(options)(before=200, after=60)
    found = ours.load_state_dict(faster_rcnn_state(theirs.state_dict()), strict=False)
    assert found.unexpected_keys == []
    assert all(name.endswith("num_batches_tracked") for name in found.missing_keys)
    return theirs.eval(), ours.eval()


@torch.no_grad()
def test_detects_what_torchvisions_detects(pair: tuple[nn.Module, FasterRCNN]) -> None:
    theirs, ours = pair
    batch, sizes = images(), [SIZE, (60, 90)]
    listed = ImageList(batch, sizes)
    features = theirs.backbone(batch)
    proposals, _ = theirs.rpn(listed, features)
    expected, _ = theirs.roi_heads(features, proposals, sizes)
    outputs = ours(batch, sizes=sizes)
    torch.testing.assert_close(outputs.regions, torch.cat(proposals), rtol=0, atol=1e-3)
    for found, wanted in zip(detected_regions(outputs, sizes), expected, strict=True):
        assert len(found) == len(wanted["scores"]) > 10
        torch.testing.assert_close(found.scores, wanted["scores"], rtol=0, atol=1e-4)
        torch.testing.assert_close(found.boxes, wanted["boxes"], rtol=0, atol=1e-2)
        assert torch.equal(found.labels + 1, wanted["labels"])


@torch.no_grad()
def test_costs_what_torchvisions_costs(pair: tuple[nn.Module, FasterRCNN]) -> None:
    theirs, ours = (copy.deepcopy(model).train() for model in pair)
    for model in (theirs, ours):
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
    theirs.rpn._pre_nms_top_n["training"] = theirs.rpn._post_nms_top_n["training"] = 60
    ours.proposals.options = type(ours.proposals.options)(before_training=60, after_training=60)
    # so many draws that all are drawn: no chance is left
    theirs.rpn.fg_bg_sampler.batch_size_per_image = theirs.roi_heads.fg_bg_sampler.batch_size_per_image = 10_000
    theirs.rpn.fg_bg_sampler.positive_fraction = theirs.roi_heads.fg_bg_sampler.positive_fraction = 0.5
    ours.sampling = RegionSampling(count=10_000, share=0.5)
    batch = images()
    shifted = [{"boxes": one["boxes"], "labels": one["labels"] + 1} for one in TARGETS]
    features = theirs.backbone(batch)
    proposals, of_anchors = theirs.rpn(ImageList(batch, [SIZE, SIZE]), features, shifted)
    _, of_regions = theirs.roi_heads(features, proposals, [SIZE, SIZE], shifted)
    found = RegionDetectionLoss(anchors=10_000)(ours(batch, TARGETS), TARGETS)
    torch.testing.assert_close(found["objectness"], of_anchors["loss_objectness"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["proposals"], of_anchors["loss_rpn_box_reg"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["classes"], of_regions["loss_classifier"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["boxes"], of_regions["loss_box_reg"], rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_is_refused() -> None:
    model = small()
    with pytest.raises(ArgumentError, match="targets must be 2, one an image; got 1"):
        model(images(), TARGETS[:1])
    with pytest.raises(ArgumentError, match="sizes must be 2, one an image; got 1"):
        model(images(), sizes=[SIZE])
    with pytest.raises(ArgumentError, match="proposals must be 2, one table an image; got 1"):
        model(images(), proposals=[torch.zeros(0, 4)])
    message = r"proposals must be \(N, 4\) xyxy pixels of each image; got shape \(7, 5\). If column 4 is a score, pass"
    with pytest.raises(ArgumentError, match=message):
        model(images(), proposals=[torch.zeros(0, 4), torch.zeros(7, 5)])
    with pytest.raises(ArgumentError, match=r"Call model\(images, targets\)"):
        RegionDetectionLoss()(model.eval()(images()), TARGETS)
    with pytest.raises(ArgumentError, match='variant must be "v1" or "v2"'):
        faster_rcnn(3, variant="v3")

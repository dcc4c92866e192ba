"""Without the network: torchvision's own detectors, with random weights, stand for the published ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models._api import WeightsEnum
from torchvision.models.detection import RetinaNet
from torchvision.ops import FrozenBatchNorm2d

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.faster_rcnn import FasterRCNN, faster_rcnn
from delineate.models.mask_rcnn import DescribingRCNN, keypoint_rcnn, mask_rcnn
from delineate.models.published_detectors import (
    PUBLISHED,
    check_published,
    coco_object_names,
    load_published,
    ssd_preprocessing,
    with_epsilon,
)
from delineate.models.retinanet import retinanet
from delineate.models.ssd import ssd300
from delineate.postprocess.detection import detected_boxes, detected_regions
from delineate.structures.outputs import RegionOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.scored_boxes import ScoredBoxes

SIZE = (60, 90)  # torchvision pads it to 64 x 96
PROPOSALS = {"rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 30}
CLASS_BIASES = (
    "cls_score.bias",
    *(f"classification_head.{layer}.bias" for layer in ("cls_logits", *(f"module_list.{i}" for i in range(6)))),
)
MOST = 5  # detections, whose heads take most of the time


@dataclass(frozen=True)
class Case:
    """A published network, our factory of it, and what torchvision's is given to stay small."""

    factory: Callable[..., nn.Module]
    options: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)
    num_classes: int = 80

    def build(self, **options: Any) -> nn.Module:
        given = {"num_classes": self.num_classes, **self.options, **options}
        return self.factory(given.pop("num_classes"), **given)


CASES = {
    "retinanet_resnet50_fpn": Case(retinanet, {"variant": "v1"}),
    "retinanet_resnet50_fpn_v2": Case(retinanet, {"variant": "v2"}),
    "ssd300_vgg16": Case(ssd300, {"boxes": "coco"}),
    "fasterrcnn_resnet50_fpn": Case(faster_rcnn, {"after": 30}, PROPOSALS),
    "fasterrcnn_resnet50_fpn_v2": Case(faster_rcnn, {"variant": "v2", "after": 30}, PROPOSALS),
    "maskrcnn_resnet50_fpn": Case(mask_rcnn, {"after": 30}, PROPOSALS),
    "maskrcnn_resnet50_fpn_v2": Case(mask_rcnn, {"variant": "v2", "after": 30}, PROPOSALS),
    "keypointrcnn_resnet50_fpn": Case(keypoint_rcnn, {"after": 30}, PROPOSALS, 1),
}
QUICK = ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn")


def described_state(network: str) -> dict[str, Tensor]:
    """Names and shapes of the published file: frozen batch norm counts no batches."""
    classes = len(models.get_model_weights(network).COCO_V1.meta["categories"])
    with torch.device("meta"):
        state = models.get_model(network, weights=None, weights_backbone=None, num_classes=classes).state_dict()
    if not PUBLISHED[network].without_epsilon:
        return state
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def as_published(network: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of the file: the first versions' are of a time when blocks were not nested."""
    found = {}
    for name, value in state.items():
        if PUBLISHED[network].without_epsilon:
            name = re.sub(r"(blocks\.\d)\.0\.(weight|bias)$", r"\1.\2", name)
            name = re.sub(r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", name)
            name = re.sub(r"(head\.\w+_head\.conv)\.(\d)\.0\.", lambda part: f"{part[1]}.{2 * int(part[2])}.", name)
            name = re.sub(r"mask_head\.(\d)\.0\.", lambda part: f"mask_head.mask_fcn{int(part[1]) + 1}.", name)
        found[name] = value
    return found


def random_state(network: str) -> dict[str, Tensor]:
    """Layers that keep the size of what goes through them."""
    torch.manual_seed(0)
    state = {}
    for name, value in described_state(network).items():
        filled = torch.zeros(value.shape, dtype=value.dtype)
        if value.dim() > 1:
            filled.normal_(0, (2 / value[0].numel()) ** 0.5)
        elif name.endswith(("weight", "running_var")):
            filled.fill_(1)
        elif value.is_floating_point():
            filled.uniform_(-0.1, 0.1)
        state[name] = filled
    return state


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a download brings: "state"; and "asked", the weights that were asked for."""
    held: dict[str, Any] = {"asked": []}

    def serve(self: Any, **options: Any) -> dict[str, Tensor]:
        held["asked"].append((str(self), options))
        return held["state"]

    monkeypatch.setattr(WeightsEnum, "get_state_dict", serve)
    for name in ("kaiming_uniform_", "kaiming_normal_", "normal_"):  # of tens of millions of weights that are replaced
        monkeypatch.setattr(nn.init, name, lambda tensor, *given, **options: tensor)
    return held


def last_layers(theirs: nn.Module) -> list[dict[nn.Module, tuple[float, float]]]:
    """The layers that decide, one group after the other, with the deviation and mean of a trained one's answers."""
    if hasattr(theirs, "roi_heads"):
        heads = theirs.roi_heads
        groups = [
            {theirs.rpn.head.cls_logits: (1, 0), theirs.rpn.head.bbox_pred: (0.2, 0)},
            {heads.box_predictor.cls_score: (2, 0), heads.box_predictor.bbox_pred: (0.5, 0)},
        ]
        for head, layer in (("mask_predictor", "mask_fcn_logits"), ("keypoint_predictor", "kps_score_lowres")):
            if getattr(heads, head) is not None:
                groups.append({getattr(getattr(heads, head), layer): (1, 0)})
        return groups
    classes, boxes = theirs.head.classification_head, theirs.head.regression_head
    if hasattr(classes, "cls_logits"):
        return [{classes.cls_logits: (1.5, -3), boxes.bbox_reg: (0.3, 0)}]
    return [dict.fromkeys(classes.module_list, (2, 0)) | dict.fromkeys(boxes.module_list, (0.5, 0))]


@torch.no_grad()
def make_lively(theirs: nn.Module, image: Tensor, names: list[str]) -> None:
    """Statistics as after training, answers that differ, and next to no score for ids that COCO does not use."""

    def learn(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        module.running_mean.copy_(given[0].mean((0, 2, 3)))
        module.running_var.copy_(given[0].var((0, 2, 3)) + 1e-3)

    norms = [part for part in theirs.modules() if isinstance(part, nn.BatchNorm2d | FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(learn) for norm in norms]
    if norms:
        theirs([image])
    for hook in hooks:
        hook.remove()
    for norm in norms:
        if isinstance(norm, FrozenBatchNorm2d):
            assert norm.eps == 0  # as published
            norm.weight /= 100  # and deviations so small that the epsilon of batch norm would show
            norm.running_var /= 10_000
    said: dict[nn.Module, list[Tensor]] = {}

    def hear(module: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        said.setdefault(module, []).append(answer.movedim(1, 0).flatten(1))  # a row for each channel

    for group in last_layers(theirs):
        hooks = [layer.register_forward_hook(hear) for layer in group]
        theirs([image])
        for hook in hooks:
            hook.remove()
        for layer, (deviation, mean) in group.items():
            answers = torch.cat(said[layer], dim=1) - layer.bias[:, None]
            centre = answers.mean(1)  # a random layer answers all places nearly alike, and one class wins everywhere
            factor = deviation / (answers - centre[:, None]).std()
            layer.weight *= factor
            layer.bias.copy_(mean - centre * factor)
    unused = torch.tensor([name == "N/A" for name in names])
    unused[0] = isinstance(theirs, RetinaNet)  # which has a sigmoid for the background too
    for name, values in theirs.named_parameters():
        if name.endswith(CLASS_BIASES):
            values[unused.repeat(len(values) // len(unused))] = -1e4


def pixels(size: tuple[int, int]) -> Tensor:
    noise = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    noise[..., size[0] // 4 : size[0] // 2, size[1] // 3 :] //= 4
    return noise


def options_of(theirs: nn.Module) -> dict[str, Any]:
    """What torchvision's model decodes with."""
    if hasattr(theirs, "roi_heads"):
        heads = theirs.roi_heads
        return {
            "score_threshold": heads.score_thresh,
            "iou_threshold": heads.nms_thresh,
            "most": heads.detections_per_img,
        }
    return {
        "score_threshold": theirs.score_thresh,
        "iou_threshold": theirs.nms_thresh,
        "most": theirs.detections_per_img,
        "candidates": theirs.topk_candidates,
    }


def prepared_by(model: nn.Module, images: Tensor, precision: torch.dtype) -> Tensor:
    preprocessing = getattr(model, "preprocessing", Preprocessing.for_channels(images.shape[1]))
    return preprocessing(images, dtype=precision)


@torch.no_grad()
def detections(model: nn.Module, images: Tensor, precision: torch.dtype) -> tuple[ScoredBoxes, Tensor | None]:
    """As a user's: pixels, the model's preprocessing and decoding; and the maps of what was found."""
    outputs = model.eval()(prepared_by(model, images, precision))
    size = (images.shape[2], images.shape[3])
    if not isinstance(outputs, RegionOutputs):
        return detected_boxes(outputs, [size], model.decoding)[0], None
    found = detected_regions(outputs, [size], model.decoding)[0]
    if not isinstance(model, DescribingRCNN):
        return found, None
    return found, model.described(outputs, found.boxes, torch.zeros(len(found), dtype=torch.int64))


@pytest.mark.parametrize(
    "network", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in CASES]
)
@torch.no_grad()
def test_detects_what_torchvisions_detects(network: str, served: dict[str, Any]) -> None:
    case = CASES[network]
    size = (300, 300) if network == "ssd300_vgg16" else SIZE
    images = pixels(size)
    served["state"] = as_published(network, random_state(network))
    limits = {} if network == "ssd300_vgg16" else {"min_size": min(size), "max_size": max(size)}
    theirs = models.get_model(network, weights="COCO_V1", **limits, **case.theirs).eval()
    names = models.get_model_weights(network).COCO_V1.meta["categories"]
    decoding = options_of(theirs)
    if hasattr(theirs, "roi_heads"):
        theirs.roi_heads.detections_per_img = MOST
    make_lively(theirs, images[0] / 255, names)
    served.update(state=as_published(network, theirs.state_dict()), asked=[])

    model = case.build(weights="coco")
    enumeration = type(models.get_model_weights(network).COCO_V1).__name__
    assert served["asked"] == [(f"{enumeration}.COCO_V1", {"progress": False, "check_hash": True})]
    assert decoding.items() <= vars(model.decoding).items()
    if isinstance(model, FasterRCNN):
        model.decoding = replace(model.decoding, most=MOST)
        model.proposals.options = replace(model.proposals.options, before=200)

    said: list[Tensor] = []
    for head in ("mask_predictor", "keypoint_predictor"):
        if getattr(getattr(theirs, "roi_heads", None), head, None) is not None:
            getattr(theirs.roi_heads, head).register_forward_hook(lambda module, given, answer: said.append(answer))
    # in double precision, in which no order of scores and no suppression hangs on a rounding
    precision = torch.float32 if network == "ssd300_vgg16" else torch.float64
    served["state"] = as_published(network, theirs.to(precision).state_dict())
    load_published(model.to(precision), network)
    found, maps = detections(model, images, precision)
    mean, std = (
        torch.tensor(values, dtype=precision)[:, None, None]
        for values in (theirs.transform.image_mean, theirs.transform.image_std)
    )
    given = prepared_by(model, images, precision)[0] * std + mean  # the image with the roundings of our preprocessing
    torch.testing.assert_close(given, images[0] / 255, rtol=0, atol=1e-6, check_dtype=False)
    expected = theirs([given])[0]

    assert len(found) == len(expected["scores"]) >= min(MOST, model.decoding.most)
    ours = coco_object_names(network)
    numbers = [names.index(ours[label]) for label in found.labels]
    assert len(set(numbers)) > 1 or case.num_classes == 1
    # scores that are equal but for a rounding may change places: each has its like
    theirs_found = rows(expected["boxes"], expected["scores"], expected["labels"])
    ours_found = rows(found.boxes, found.scores, torch.tensor(numbers))
    apart = torch.cdist(ours_found, theirs_found, p=torch.inf)
    like = apart.argmin(0)
    assert apart.amin(0).max() < 1e-2, (theirs_found[apart.amin(0) >= 1e-2], ours_found[apart.amin(1) >= 1e-2])
    assert sorted(like.tolist()) == list(range(len(found))), apart.amin(0).max()
    if maps is not None:
        (logits,) = said
        maps = maps[like]
        if network.startswith("mask"):
            each = torch.arange(len(found))
            maps, logits = maps[each, found.labels[like]], logits[each, expected["labels"]]
        assert maps.std() > 0.3
        torch.testing.assert_close(maps, logits, rtol=0, atol=5e-3)


def rows(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """One row an object, in which a hundredth of a pixel counts as a ten-thousandth of a score."""
    return torch.cat([boxes, 100 * scores[:, None], 1000.0 * labels[:, None]], dim=1)


def test_options_that_differ_are_named_before_anything_is_built_or_downloaded(served: dict[str, Any]) -> None:
    wrong: list[tuple[Callable[..., nn.Module], dict[str, Any], str]] = [
        (retinanet, {}, r"got 'coco' with another variant. Pass variant='v1' or variant='v2'"),
        (
            retinanet,
            {"variant": "v1", "scale": 3, "extra": "encoder"},
            "extra='encoder', scale=3. Pass extra='pyramid'",
        ),
        (ssd300, {}, "boxes='voc'. Pass boxes='coco'"),
        (faster_rcnn, {"encoder": "resnet18"}, "encoder='resnet18'. Pass encoder='resnet50'"),
        (mask_rcnn, {"head_channels": 8}, "head_channels=8. Pass head_channels=256"),
        (keypoint_rcnn, {"hidden": 8}, "hidden=8. Pass hidden=1024"),
    ]
    for factory, options, message in wrong:
        with pytest.raises(ArgumentError, match=message):
            factory(80, weights="coco", **options)
    with pytest.raises(UnknownNameError, match="Did you mean 'coco'"):
        faster_rcnn(80, weights="cocoo")
    assert served["asked"] == []


def test_the_library_and_the_training_of_an_encoder_do_not_matter() -> None:
    for encoder in ("resnet50", "timm/resnet50.a1_in1k", "torchvision/resnet50"):
        check_published("coco", "fasterrcnn_resnet50_fpn", encoder=encoder, channels=256, hidden=1024, scale=8)


@pytest.mark.parametrize("network", CASES)
def test_every_name_of_torchvisions_has_its_place(network: str, served: dict[str, Any]) -> None:
    published, case = PUBLISHED[network], CASES[network]
    libraries = ["torchvision/", "timm/"] if "encoder" in published.options else [None]
    labels = range(1, case.num_classes + 1)
    for library in libraries:
        options = {} if library is None else {"encoder": f"{library}resnet50"}
        with torch.device("meta"):
            expected = case.build(weights="coco", **options).state_dict()
        form = {} if library is None else {"staged": library == "torchvision/"}
        found = published.state(described_state(network), labels=labels, **form)
        uncounted = {name for name in expected if published.without_epsilon and name.endswith("num_batches_tracked")}
        assert {name: value.shape for name, value in found.items()} == {
            name: value.shape for name, value in expected.items() if name not in uncounted
        }
    assert served["asked"] == []  # describing a model downloads nothing


@torch.no_grad()
def test_other_classes_and_channels_take_the_rest(served: dict[str, Any]) -> None:
    state = served["state"] = random_state("retinanet_resnet50_fpn")
    model = retinanet(3, variant="v1", weights="coco", encoder="torchvision/resnet50", in_channels=1)
    ours = model.state_dict()
    torch.testing.assert_close(ours["encoder.stages.0.0.weight"], state["backbone.body.conv1.weight"].sum(1, True))
    assert torch.equal(ours["classes.6.weight"], state["head.classification_head.conv.3.0.weight"])
    assert torch.equal(ours["boxes.8.weight"], state["head.regression_head.bbox_reg.weight"])
    assert torch.allclose(ours["classes.8.bias"], torch.tensor(-4.59512))  # as from scratch
    assert model.eval()(torch.randn(1, 1, 64, 64)).logits.shape[2] == 3


@pytest.mark.slow
@torch.no_grad()
def test_other_joints_keep_the_boxes(served: dict[str, Any]) -> None:
    state = served["state"] = random_state("keypointrcnn_resnet50_fpn")
    model = keypoint_rcnn(joints=5, weights="coco")
    assert torch.equal(model.head[14].weight, state["roi_heads.keypoint_head.14.weight"])
    assert model.head[16].weight.shape[1] == 5
    assert torch.equal(model.classes.bias, state["roi_heads.box_predictor.cls_score.bias"].flip(0))


@pytest.mark.slow
def test_published_masks_become_pixels_by_their_own_rule(served: dict[str, Any]) -> None:
    served["state"] = random_state("maskrcnn_resnet50_fpn")
    assert mask_rcnn(3, weights="coco").pasting == "whole_pixels"
    assert mask_rcnn(3, encoder="resnet18", channels=8, hidden=8, head_channels=8).pasting == "centres"


def test_a_model_of_other_layers_is_refused_and_unchanged(served: dict[str, Any]) -> None:
    served["state"] = random_state("retinanet_resnet50_fpn")
    model = retinanet(80, encoder="resnet18", channels=16)
    before = {name: value.zero_().clone() for name, value in model.state_dict().items()}  # not initialised here
    with pytest.raises(ArgumentError, match="weights must be None for other widths than the published; got '"):
        load_published(model, "retinanet_resnet50_fpn")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, **options: Any) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fail)
    model = retinanet(3, encoder="resnet18", channels=16, layers=0)
    with pytest.raises(ArgumentError, match=r"downloaded once when they are 'coco'; that failed \(no route\). Leave"):
        load_published(model, "retinanet_resnet50_fpn")


def test_batch_norm_with_and_without_epsilon_agree() -> None:
    frozen = FrozenBatchNorm2d(6, eps=0).double()
    frozen.running_mean.normal_()
    frozen.weight.normal_()
    frozen.running_var.copy_(torch.tensor([1, 1e-2, 1e-4, 1e-5, 1e-7, 1e-12]))
    norm = nn.BatchNorm2d(6).double().eval()
    norm.load_state_dict(
        {
            name.removeprefix("norm."): value
            for name, value in with_epsilon({f"norm.{k}": v for k, v in frozen.state_dict().items()}).items()
        },
        strict=False,
    )
    given = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(norm(given), frozen(given), rtol=1e-9, atol=1e-9)


def test_a_channel_that_never_varied_keeps_its_scale() -> None:
    state = {"a.weight": torch.ones(1), "a.running_var": torch.zeros(1), "b.weight": torch.ones(1)}
    assert {name: value.item() for name, value in with_epsilon(state).items()} == {
        "a.weight": 1,
        "a.running_var": 0,
        "b.weight": 1,
    }


def test_ssds_preprocessing_is_torchvisions_and_outlives_its_model(served: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = ssd300(20, boxes="coco", weights="coco")
        assert not hasattr(ssd300(20, boxes="coco"), "preprocessing")
    transform = models.detection.ssd300_vgg16(weights=None, weights_backbone=None).transform
    assert model.preprocessing == Preprocessing(tuple(transform.image_mean), tuple(transform.image_std))
    assert Preprocessing.from_dict(json.loads(json.dumps(model.preprocessing.to_dict()))) == model.preprocessing
    assert ssd_preprocessing(4).mean == pytest.approx([sum(transform.image_mean) / 3] * 4)


def test_objects_are_cocos_eighty() -> None:
    names = coco_object_names()
    assert len(names) == len(set(names)) == 80
    assert (names[11], names[12], names[79]) == ("stop sign", "parking meter", "toothbrush")  # id 12 is not in use
    assert {coco_object_names(network) for network in CASES if not network.startswith("key")} == {names}

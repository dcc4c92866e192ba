"""Without the network: torchvision's own models, with random weights, stand for the published ones."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import segmentation
from torchvision.models._api import WeightsEnum

from delineate.data.formats.voc import CLASSES
from delineate.errors import ArgumentError
from delineate.models.catalogue import create_model, parameter_count
from delineate.models.context_segmenter import ContextSegmenter
from delineate.models.torchvision_weights import coco_class_names, from_torchvision, load_coco_weights

OPTIONS: dict[str, dict[str, Any]] = {"fcn": {}, "deeplabv3": {"variant": "torchvision"}}
MODELS = {"fcn": "fcn_resnet", "deeplabv3": "deeplabv3"}


@pytest.fixture(scope="module", params=["fcn", "deeplabv3"])
def published(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    torch.manual_seed(0)
    reference = getattr(segmentation, f"{request.param}_resnet50")(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    with torch.no_grad():
        for layer in reference.modules():  # so that every statistic counts
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
    return request.param, reference.eval()


@pytest.fixture
def downloads(published: tuple[str, nn.Module], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Which weights were asked for, and how."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def serve(self: Any, **options: Any) -> dict[str, Tensor]:
        asked.append((str(self), options))
        return published[1].state_dict()

    monkeypatch.setattr(WeightsEnum, "get_state_dict", serve)
    return asked


@pytest.mark.parametrize("library", ["torchvision/", "timm/"])
@torch.no_grad()
def test_logits_are_torchvisions(library: str, published: tuple[str, nn.Module], downloads: Any) -> None:
    architecture, reference = published
    model = create_model(
        MODELS[architecture], num_classes=21, encoder=f"{library}resnet50", weights="coco", **OPTIONS[architecture]
    ).eval()
    names = {"fcn": "FCN_ResNet50_Weights", "deeplabv3": "DeepLabV3_ResNet50_Weights"}
    assert downloads == [(f"{names[architecture]}.COCO_WITH_VOC_LABELS_V1", {"progress": False, "check_hash": True})]
    model, reference = model.double(), deepcopy(reference).double()
    for size in [(33, 47), (64, 40)]:
        images = torch.randn(1, 3, *size, dtype=torch.float64)
        expected = reference(images)
        torch.testing.assert_close(model(images).logits, expected["out"])
    # and what only training computes, with the batch norms below still in evaluation
    model.training = True
    (side,) = model(images).auxiliary
    torch.testing.assert_close(side, expected["aux"])


def test_every_name_of_both_depths_has_its_place() -> None:
    for architecture, name in MODELS.items():
        for depth in ("resnet50", "resnet101"):
            for staged in (True, False):
                with torch.device("meta"):
                    theirs = getattr(segmentation, f"{architecture}_{depth}")(
                        weights=None, weights_backbone=None, aux_loss=True
                    ).state_dict()
                    encoder = f"torchvision/{depth}" if staged else depth
                    ours = create_model(name, num_classes=21, encoder=encoder, **OPTIONS[architecture]).state_dict()
                renamed = from_torchvision(theirs, architecture, staged=staged)
                assert {key: value.shape for key, value in renamed.items()} == {
                    key: value.shape for key, value in ours.items()
                }


@torch.no_grad()
def test_other_classes_and_channels_take_the_rest(published: tuple[str, nn.Module], downloads: Any) -> None:
    architecture, reference = published
    model = create_model(
        MODELS[architecture],
        num_classes=3,
        in_channels=1,
        encoder="torchvision/resnet50",
        weights="coco",
        **{**OPTIONS[architecture], "auxiliary": False},
    )
    theirs = reference.state_dict()
    ours = model.state_dict()
    torch.testing.assert_close(ours["encoder.stages.0.0.weight"], theirs["backbone.conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(ours["encoder.stages.4.2.conv2.weight"], theirs["backbone.layer4.2.conv2.weight"])
    hidden = {"fcn": "classifier.0.weight", "deeplabv3": "classifier.1.weight"}[architecture]
    assert torch.equal(ours["classifier.hidden.0.weight"], theirs[hidden])
    assert model(torch.randn(2, 1, 40, 41)).logits.shape == (2, 3, 40, 41)


def test_other_widths_are_refused_before_anything_changes(published: tuple[str, nn.Module], downloads: Any) -> None:
    architecture, _ = published
    narrow = {"fcn": {"head_channels": 8}, "deeplabv3": {"channels": 8}}[architecture]
    with pytest.raises(ArgumentError, match="weights must be None for other widths than the published; got '"):
        create_model(
            MODELS[architecture],
            num_classes=21,
            encoder="torchvision/resnet50",
            weights="coco",
            **{**OPTIONS[architecture], **narrow},
        )


def test_counting_downloads_nothing(published: tuple[str, nn.Module], downloads: Any) -> None:
    architecture, _ = published
    options = {**OPTIONS[architecture], "encoder": "torchvision/resnet50"}
    assert parameter_count(MODELS[architecture], weights="coco", **options) == parameter_count(
        MODELS[architecture], **options
    )
    assert downloads == []


def test_a_model_of_other_layers_is_refused(published: tuple[str, nn.Module], downloads: Any) -> None:
    architecture, _ = published
    model = create_model("pspnet", num_classes=21, encoder="torchvision/resnet50", auxiliary=False)
    assert isinstance(model, ContextSegmenter)
    with pytest.raises(ArgumentError, match="weights must be None for other widths"):
        load_coco_weights(model, architecture, "resnet50")


def test_classes_are_pascal_vocs() -> None:
    assert len(coco_class_names()) == 21
    assert coco_class_names() == CLASSES

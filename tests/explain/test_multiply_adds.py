from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from delineate.explain.multiply_adds import multiply_adds
from delineate.models.catalogue import create_model


def test_by_hand() -> None:
    grouped = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Conv2d(8, 5, 1))
    # 4 x 6 positions: 8 outputs of 2 * 9 inputs each, then 5 of 8
    assert multiply_adds(grouped, (8, 12), in_channels=4) == 4 * 6 * (8 * 2 * 9 + 5 * 8)
    # every input position goes to all 2 x 2 weights of 3 outputs
    assert multiply_adds(nn.ConvTranspose2d(3, 3, 2, stride=2), (5, 7)) == 5 * 7 * 3 * 3 * 4


@pytest.mark.parametrize(("name", "giga"), [("vgg16", 15.47), ("resnet50", 4.09), ("alexnet", 0.71)])
def test_equals_torchvisions_published_figures(name: str, giga: float) -> None:
    with torch.device("meta"):
        model = models.get_model(name)
    assert multiply_adds(model, (224, 224)) / 1e9 == pytest.approx(giga, abs=0.006)


@pytest.mark.parametrize(
    ("name", "classes", "size", "giga"),
    [("segnet", 11, (360, 480), 106.7), ("fcn8s", 21, (500, 500), 181.5)],
)
def test_equals_the_canon(name: str, classes: int, size: tuple[int, int], giga: float) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=classes)
    assert multiply_adds(model, size) / 1e9 == pytest.approx(giga, abs=0.06)


def test_leaves_the_model_as_it_was() -> None:
    model = nn.Conv2d(3, 2, 1).train()
    multiply_adds(model, (4, 4))
    assert model.training
    assert model.weight.device.type == "cpu"

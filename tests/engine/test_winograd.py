"""Convolutions replaced in a network: which, when, and that nobody notices."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from delineate.engine import winograd as module
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.weights import ModelCard
from delineate.engine.winograd import WinogradConv2d, with_winograd
from delineate.models.catalogue import create_model
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy


class Shared(nn.Module):
    """One convolution in two places, and those that are not to be replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(96, 96, 3, padding=1)
        self.layers = nn.Sequential(self.first, nn.ReLU(), nn.Conv2d(96, 100, 3, bias=False))
        self.others = nn.ModuleList(
            [
                nn.Conv2d(96, 96, 3, padding=1, stride=2),
                nn.Conv2d(96, 96, 3, padding=2, dilation=2),
                nn.Conv2d(96, 96, 3, padding=1, groups=2),
                nn.Conv2d(96, 96, 3, padding=1, padding_mode="reflect"),
                nn.Conv2d(96, 96, 1),
                nn.Conv2d(96, 96, (3, 1), padding=(1, 0)),
                nn.Conv2d(96, 96, 3, padding=(1, 0)),
                nn.Conv2d(95, 96, 3, padding=1),
                nn.Conv2d(96, 96, 3, padding=1).double(),
            ]
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(self.first(images))


def test_wide_convolutions_of_stride_1_are_replaced_wherever_they_stand() -> None:
    network = Shared().eval()
    expected = copy.deepcopy(network)
    assert with_winograd(network) is network
    assert isinstance(network.first, WinogradConv2d)
    assert network.layers[0] is network.first
    assert isinstance(network.layers[2], WinogradConv2d)
    assert {type(layer) for layer in network.others} == {nn.Conv2d}
    assert network.state_dict().keys() == expected.state_dict().keys()
    images = torch.randn(2, 96, 21, 18)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), expected(images), atol=1e-5, rtol=1e-4)


def test_it_steps_aside_where_it_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, ...]] = []

    def noted(images: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        used.append(tuple(images.shape))
        return images

    monkeypatch.setattr(module, "winograd_conv2d", noted)
    layer = WinogradConv2d(nn.Conv2d(96, 96, 3, padding="same"))
    small, large = torch.randn(1, 96, 15, 17), torch.randn(1, 96, 16, 16)
    layer(large)  # gradients may be wanted
    with torch.inference_mode():
        layer(small)
        with torch.autocast("cpu", torch.bfloat16):
            layer(large)
        assert used == []
        layer(large)
        layer(torch.cat([small] * 2))
    assert used == [(1, 96, 16, 16), (2, 96, 15, 17)]


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_predictor_uses_it_only_where_it_may_choose(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delineate.engine.precision.multiplies_bfloat16", lambda: False)
    monkeypatch.setattr("delineate.engine.predictor.winograd_pays", lambda: True)
    torch.manual_seed(0)
    network = create_model("unet", num_classes=3, encoder="resnet18", decoder_channels=[128, 96, 32, 16, 16]).eval()
    card = ModelCard("unet", {"num_classes": 3}, Preprocessing(), Taxonomy.numbered(3))
    predictor = SemanticPredictor(network, card, precision=precision, device="cpu")
    replaced = [layer for layer in predictor._fast.modules() if isinstance(layer, WinogradConv2d)]
    assert (len(replaced) > 10) == (precision == "auto")
    assert not any(isinstance(layer, WinogradConv2d) for layer in network.modules())
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 96, 128), dtype=np.uint8))
    with torch.inference_mode():
        expected = network(predictor.preprocessing(pixels)).logits
    found = predictor.outputs(pixels).logits
    torch.testing.assert_close(found, expected, atol=float(expected.abs().max()) * 1e-4, rtol=0)

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


def test_of_bfloat16_it_is_used_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = WinogradConv2d(nn.Conv2d(32, 16, 3, padding=1), torch.bfloat16)
    layer.rectifies = True
    images = torch.randn(1, 32, 17, 18).contiguous(memory_format=torch.channels_last)
    used = []
    original = module.winograd_conv2d
    monkeypatch.setattr(module, "winograd_conv2d", lambda *a, **k: used.append(a[0].dtype) or original(*a, **k))
    with torch.inference_mode():
        plain = layer(images)
        with torch.autocast("cpu", torch.bfloat16):
            fast = layer(images)
    assert used == [torch.bfloat16]
    assert plain.dtype == torch.float32
    assert fast.dtype == torch.bfloat16
    torch.testing.assert_close(fast.float(), plain, atol=0.02 * float(plain.max()), rtol=0)
    assert float(fast.min()) == 0 == float(plain.min())


@pytest.mark.parametrize(
    ("dtype", "amx", "bfloat16", "name", "pays"),
    [
        (torch.float32, False, False, "Intel(R) Xeon(R)", True),
        (torch.float32, False, True, "AMD EPYC", False),
        (torch.bfloat16, False, True, "AMD EPYC", True),
        (torch.bfloat16, True, True, "Intel(R) Xeon(R)", False),
        (torch.float16, False, True, "Intel(R) Xeon(R)", False),
    ],
)
def test_the_processor_decides_whether_it_pays(monkeypatch, dtype, amx, bfloat16, name, pays) -> None:
    monkeypatch.setattr(module, "has_amx", lambda: amx)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(module, "processor_name", lambda: name)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("torch.backends.mkl.is_available", lambda: True)
    assert module.winograd_pays(dtype) is pays


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
@pytest.mark.parametrize("chosen", [True, False])
def test_a_predictor_uses_it_only_where_it_may_choose(
    fast: str, monkeypatch: pytest.MonkeyPatch, *, chosen: bool
) -> None:
    monkeypatch.setattr("delineate.engine.precision.multiplies_bfloat16", lambda: fast == "bfloat16")
    monkeypatch.setattr("delineate.engine.predictor.winograd_pays", lambda dtype: True)
    torch.manual_seed(0)
    network = create_model("unet", num_classes=3, encoder="resnet18", decoder_channels=[128, 128, 32, 16, 16]).eval()
    card = ModelCard("unet", {"num_classes": 3}, Preprocessing(), Taxonomy.numbered(3))
    predictor = SemanticPredictor(network, card, precision="auto" if chosen else fast, device="cpu")
    replaced = [layer for layer in predictor._fast.modules() if isinstance(layer, WinogradConv2d)]
    assert (len(replaced) > 10) == chosen
    assert not any(isinstance(layer, WinogradConv2d) for layer in network.modules())
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 96, 128), dtype=np.uint8))
    with torch.inference_mode():
        expected = network(predictor.preprocessing(pixels)).logits
    tolerance = {"float32": 1e-4, "bfloat16": 0.04}[fast] * float(expected.abs().max())
    for _ in range(2):  # weights are laid out in the first
        found = predictor.outputs(pixels).logits.float()
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)

"""Convolutions with weights laid out: the same numbers, and nothing kept that is not used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from delineate.engine.packing import COPIES, PackedConv2d, packing_pays, with_packed

pytestmark = pytest.mark.skipif(not packing_pays(), reason="needs oneDNN")

LAYERS = {
    "3 x 3": lambda: nn.Conv2d(5, 7, 3, padding=1),
    "strided": lambda: nn.Conv2d(16, 8, 3, stride=2, padding=1, bias=False),
    "dilated": lambda: nn.Conv2d(8, 8, 3, dilation=2, padding=(2, 3)),
    "grouped": lambda: nn.Conv2d(8, 16, 3, groups=4),
    "depthwise": lambda: nn.Conv2d(8, 8, 5, groups=8, padding=2),
    "1 x 1": lambda: nn.Conv2d(64, 32, 1),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rectifies", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_results_stay(kind: str, *, rectifies: bool, channels_last: bool) -> None:
    torch.manual_seed(0)
    plain = LAYERS[kind]()
    layer = PackedConv2d(plain)
    layer.rectifies = rectifies
    images = torch.randn(2, plain.in_channels, 19, 23)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = plain(images).relu() if rectifies else plain(images)
        for _ in range(2):
            torch.testing.assert_close(layer(images), expected, atol=1e-5, rtol=1e-5)
    assert len(layer._packed) == 1


def test_half_weights_under_autocast() -> None:
    plain = nn.Conv2d(16, 32, 3, padding=1)
    layer = PackedConv2d(plain)
    images = torch.randn(1, 16, 20, 20)
    with torch.inference_mode():
        expected = plain(images)
    layer.weight.data, layer.bias.data = layer.weight.data.bfloat16(), layer.bias.data.bfloat16()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        first, second = layer(images), layer(images)
    assert first.dtype == second.dtype == torch.bfloat16
    for found in (first, second):
        torch.testing.assert_close(found.float(), expected, atol=0.02 * float(expected.abs().max()), rtol=0)
    assert torch.equal(first, second)
    assert set(layer._packed) == {(1, 16, 20, 20, torch.bfloat16)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_formats_that_cannot_be_laid_out_are_convolved_as_torch_does(dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delineate.engine.packing.packing_pays", lambda dtype: dtype == torch.float32)
    layer = PackedConv2d(nn.Conv2d(16, 8, 3))
    images = torch.randn(1, 16, 9, 9)
    with torch.inference_mode():
        expected = layer(images)
        layer.weight.data, layer.bias.data = layer.weight.data.to(dtype), layer.bias.data.to(dtype)
        with torch.autocast("cpu", dtype):
            torch.testing.assert_close(layer(images).float(), expected, atol=0.05, rtol=0)
    assert {kind[-1] for kind in layer._packed} == {torch.float32}
    assert packing_pays(torch.float16) is False


def test_few_copies_of_the_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = PackedConv2d(nn.Conv2d(3, 4, 1))
    with torch.inference_mode():
        for side in range(1, 3 * COPIES):
            layer(torch.zeros(1, 3, side, 5))
            assert 1 <= len(layer._packed) <= COPIES
        monkeypatch.setattr("delineate.engine.packing.NUMBERS", 25)
        for side in range(1, 5):
            layer(torch.zeros(1, 3, side, 7))
            assert len(layer._packed) <= 2
        monkeypatch.setattr("delineate.engine.packing.NUMBERS", 3)
        layer(torch.zeros(1, 3, 3, 9))
        assert set(layer._packed) == {(1, 3, 3, 9, torch.float32)}
        assert layer(torch.zeros(0, 3, 5, 5)).shape == (0, 4, 5, 5)
        assert (0, 3, 5, 5, torch.float32) not in layer._packed
    layer(torch.zeros(1, 3, 9, 9))  # a gradient may be wanted
    assert (1, 3, 9, 9, torch.float32) not in layer._packed


def test_gradients_flow_where_they_are_wanted() -> None:
    plain = nn.Conv2d(3, 4, 3)
    layer = PackedConv2d(plain)
    layer.rectifies = True
    images = torch.randn(1, 3, 8, 8, requires_grad=True)
    layer(images).sum().backward()
    own, images.grad = images.grad, None
    plain(images).relu().sum().backward()
    torch.testing.assert_close(own, images.grad)


def test_other_convolutions_stay() -> None:
    class Own(nn.Conv2d):
        pass

    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        Own(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3).double(),
        nn.ConvTranspose2d(4, 4, 2),
    )
    assert with_packed(network) is network
    assert [type(layer) for layer in network] == [
        PackedConv2d,
        Own,
        nn.Conv2d,
        nn.Conv2d,
        nn.Conv2d,
        nn.ConvTranspose2d,
    ]

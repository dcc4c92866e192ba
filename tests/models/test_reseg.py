from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import VGG16_Weights

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.reseg import reseg
from tests.models.segmenter import SegmenterTests


class TestReSeg(SegmenterTests):
    name = "reseg"
    options = {"width": 1 / 8, "sweep_channels": [16, 16], "upsample_channels": 16}
    published = [({"num_classes": 11}, 2_544_549)]  # by arithmetic on the released configuration


class TestReSegOnPatches(SegmenterTests):
    name = "reseg"
    options = {"width": 1 / 8, "sweep_channels": [16, 16], "upsample_channels": 16, "patch_sizes": [2, 1]}


def test_its_parts_have_the_released_sizes() -> None:
    with torch.device("meta"):
        model = reseg(11)
    assert [layer.out_channels for layer in model.encoder if isinstance(layer, nn.Conv2d)] == [
        *(64, 64),
        *(128, 128),
        *(256, 256, 256),
    ]
    assert isinstance(model.encoder[-1], nn.ReLU)
    assert [(layer.in_channels, layer.out_channels) for layer in model.upsample[::2]] == [(200, 50), (50, 50)]
    # 3 gates, both directions: input and state matrices, two biases
    gru = [2 * 3 * 100 * (before + 100 + 2) for before in (256, 200, 200, 200)]
    assert sum(parameter.numel() for parameter in model.sweeps.parameters()) == sum(gru)


@torch.no_grad()
def test_each_patch_of_two_adds_an_upsampling() -> None:
    model = reseg(2, width=1 / 16, sweep_channels=[3, 3, 3], patch_sizes=[2, 1, 2], upsample_channels=4)
    assert model.stride == 16
    assert len(model.upsample) == 8
    assert model(torch.randn(1, 3, 17, 30)).logits.shape == (1, 2, 17, 30)


def test_every_pixel_sees_the_whole_image() -> None:
    model = reseg(1, width=1 / 16, sweep_channels=[8], upsample_channels=8).double().eval()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(images).logits[0, 0, 2, 3], images)
    seen = nn.functional.max_pool2d(gradient.abs().sum(1, keepdim=True), 8)
    assert (seen > 0).all()


def test_pretrained_layers_are_those_before_the_third_pooling(monkeypatch: pytest.MonkeyPatch) -> None:
    places, widths = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28], [3, 64, 64, 128, 128, 256, 256, 256] + [512] * 6
    state = {}
    for index, place in enumerate(places):
        state[f"features.{place}.weight"] = torch.empty(widths[index + 1], widths[index], 3, 3).fill_(index)
        state[f"features.{place}.bias"] = torch.empty(widths[index + 1]).fill_(index)
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, progress: state)
    encoder = reseg(2, pretrained=True).encoder
    assert [layer.bias[0].item() for layer in encoder if isinstance(layer, nn.Conv2d)] == [0, 1, 2, 3, 4, 5, 6]


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match="encoder must be a known name; got 'resnet18'"):
        reseg(2, encoder="resnet18")
    with pytest.raises(ArgumentError, match="pretrained must be False unless width is 1; got True"):
        reseg(2, width=0.5, pretrained=True)
    with pytest.raises(ArgumentError, match=r"patch_sizes must hold 2 powers of 2.*got \[2\]"):
        reseg(2, patch_sizes=[2])
    with pytest.raises(ArgumentError, match=r"patch_sizes must hold 2 powers of 2.*got \[3, 1\]"):
        reseg(2, patch_sizes=[3, 1])
    with pytest.raises(ArgumentError, match=r"sweep_channels must name at least one ReNet layer; got \[\]"):
        reseg(2, sweep_channels=[])

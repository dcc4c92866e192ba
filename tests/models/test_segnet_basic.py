from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delineate.errors import UnknownNameError
from delineate.explain.receptive_field import receptive_field
from delineate.models.segnet_basic import segnet_basic
from tests.models.segmenter import SegmenterTests, copy_in_order


class TestSegNetBasic(SegmenterTests):
    name = "segnet_basic"
    options = {"channels": 8}
    published = [({"num_classes": 11}, 1_416_587)]
    # batch norm takes every shift away again
    without_gradient = ("encoder.*.0.bias", "decoder.*.0.bias")


class TestSegNetBasicWithBilinearInterpolation(TestSegNetBasic):
    options = {"channels": 8, "upsampling": "bilinear"}


class Plain(nn.Module):
    """The release's prototxt, layer by layer, with PyTorch's own unpooling."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        pairs = [(3, channels), *[(channels, channels)] * 7]
        self.layers = nn.ModuleList(nn.Sequential(nn.Conv2d(i, o, 7, padding=3), nn.BatchNorm2d(o)) for i, o in pairs)
        self.score = nn.Conv2d(channels, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Caffe: divided by (1 + alpha / n * squares of the n nearest channels) ** beta; three channels fit into 5
        x = x / (1 + 1e-4 / 5 * x.square().sum(1, keepdim=True)) ** 0.75
        memory = []
        for layer in self.layers[:4]:
            x = F.relu(layer(x))
            size = x.shape[2:]
            x, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            memory.append((indices, size))
        for layer in self.layers[4:]:
            indices, size = memory.pop()
            x = layer(F.max_unpool2d(x, indices, 2, 2, output_size=size))
        return self.score(x)


@torch.no_grad()
def test_equals_a_plain_transcription() -> None:
    model, plain = segnet_basic(5, channels=6), Plain(5, 6)
    copy_in_order(model, plain)
    for images in (100 * torch.randn(2, 3, 37, 50), torch.randn(2, 3, 64, 32)):
        torch.testing.assert_close(model.train()(images).logits, plain.train()(images), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model.eval()(images).logits, plain.eval()(images), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_sizes_at_360_by_480() -> None:
    with torch.device("meta"):
        model = segnet_basic(11).eval()
        sizes = []
        for stage in (*model.encoder, *model.decoder):
            stage.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
        assert model(torch.empty(1, 3, 360, 480)).logits.shape == (1, 11, 360, 480)
    down = [(360, 480), (180, 240), (90, 120), (45, 60)]
    assert sizes == [*down, *reversed(down)]


def test_receptive_field_of_the_paper() -> None:
    """Section 3.1: a value of the deepest feature sees 106 x 106 pixels."""
    field = receptive_field(segnet_basic(11, channels=2))
    assert (field.size, field.stride) == ((106, 106), (16, 16))


def test_other_upsampling_costs_what_it_says() -> None:
    counts = {}
    for name in ("max_unpool", "bilinear", "transposed"):
        model = segnet_basic(11, upsampling=name)
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    assert counts == {"max_unpool": 1_416_587, "bilinear": 1_416_587, "transposed": 1_416_587 + 4 * 16 * 64 * 64}
    with pytest.raises(UnknownNameError, match="Did you mean 'max_unpool'"):
        segnet_basic(2, upsampling="unpool")

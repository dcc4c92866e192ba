from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import VGG16_BN_Weights, vgg16_bn

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.segnet import segnet
from tests.models.segmenter import SegmenterTests, copy_in_order


class TestSegNet(SegmenterTests):
    name = "segnet"
    options = {"base_channels": 8}
    training_size = (128, 192)  # pooling five times would leave too few pixels of smaller ones for a smooth loss
    published = [({"num_classes": 11}, 29_449_355)]
    # batch norm takes every shift away again
    without_gradient = ("encoder.*.0.bias", "decoder.*.0.bias")


class TestSegNetWithTransposedConvolutions(TestSegNet):
    options = {"base_channels": 8, "upsampling": "transposed"}


class Plain(nn.Module):
    """The release's prototxt, layer by layer, with PyTorch's own unpooling."""

    def __init__(self, classes: int, widths: list[int]) -> None:
        super().__init__()
        a, b, c, d, e = widths
        down = [[3, a, a], [a, b, b], [b, c, c, c], [c, d, d, d], [d, e, e, e]]
        up = [[e, e, e, d], [d, d, d, c], [c, c, c, b], [b, b, a], [a, a]]
        self.down, self.up = (
            nn.ModuleList(
                nn.ModuleList(
                    nn.ModuleList([nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o)]) for i, o in pairwise(stage)
                )
                for stage in stages
            )
            for stages in (down, up)
        )
        self.last = nn.Conv2d(a, classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        memory = []
        for stage in self.down:
            for convolution, norm in stage:
                x = F.relu(norm(convolution(x)))
            memory.append(x.shape[2:])
            x, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            memory.append(indices)
        for stage in self.up:
            indices, size = memory.pop(), memory.pop()
            x = F.max_unpool2d(x, indices, 2, 2, output_size=size)
            for convolution, norm in stage:
                x = F.relu(norm(convolution(x)))
        return self.last(x)


@torch.no_grad()
def test_equals_a_plain_transcription():
    model = segnet(5, base_channels=4)
    plain = Plain(5, [4, 8, 16, 32, 32])
    copy_in_order(model, plain)
    for images in (torch.randn(2, 3, 37, 50), torch.randn(2, 3, 64, 32)):
        torch.testing.assert_close(model.train()(images).logits, plain.train()(images))
        torch.testing.assert_close(model.eval()(images).logits, plain.eval()(images))


@torch.no_grad()
def test_published_sizes_and_work_at_360_by_480():
    with torch.device("meta"):
        model = segnet(11).eval()
        sizes = []
        for stage in (*model.encoder, *model.decoder):
            stage.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
        with FlopCounterMode(display=False) as counter:
            logits = model(torch.empty(1, 3, 360, 480)).logits
    pooled = [(180, 240), (90, 120), (45, 60), (23, 30)]
    assert sizes == [(360, 480), *pooled, *reversed(pooled), (360, 480)]
    assert logits.shape == (1, 11, 360, 480)
    assert round(counter.get_total_flops() / 2e9, 1) == 106.7


def test_ends_with_a_plain_convolution_and_starts_as_he_says():
    model = segnet(11, base_channels=16)
    assert isinstance(model.classify, nn.Conv2d)
    assert model.classify.bias is not None
    weights = model.decoder[0][0][0].weight
    assert abs(weights.std().item() / (2 / (9 * 128)) ** 0.5 - 1) < 0.03


def test_pretrained_starts_from_vgg16_with_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = vgg16_bn(num_classes=1, init_weights=False).features
    published = {f"features.{name}": value for name, value in reference.state_dict().items()}
    monkeypatch.setattr(VGG16_BN_Weights, "get_state_dict", lambda self, progress: published)
    model = segnet(2, pretrained=True, in_channels=4)
    assert model.in_channels == model.encoder[0][0][0].in_channels == 4
    assert torch.equal(model.encoder[4][2][0].weight, reference[40].weight)
    assert not torch.equal(model.decoder[0][0][0].weight, reference[40].weight)


def test_errors_say_what_exists():
    with pytest.raises(ArgumentError, match="pretrained must be False unless base_channels is 64; got True"):
        segnet(2, pretrained=True, base_channels=8)
    with pytest.raises(UnknownNameError, match="Did you mean 'bilinear'"):
        segnet(2, base_channels=2, upsampling="bilinar")

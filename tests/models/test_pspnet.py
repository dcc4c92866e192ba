from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from delineate.errors import ArgumentError
from delineate.models.encoders.residual_units import residual_units
from delineate.models.pspnet import pspnet
from tests.models.segmenter import SegmenterTests


class TestPSPNet(SegmenterTests):
    name = "pspnet"
    options = {"encoder": "resnet18", "head_channels": 16}
    published = [
        ({"num_classes": 21, "encoder": "resnet101s", "auxiliary": False}, 65_708_501),
        ({"num_classes": 19, "encoder": "resnet101s", "auxiliary": False}, 65_707_475),
        ({"num_classes": 150, "encoder": "resnet50s", "auxiliary": False}, 46_782_550),
    ]


class TestPSPNetOnAnotherEncoder(SegmenterTests):
    name = "pspnet"
    options = {"encoder": "mobilenetv3_small_050", "head_channels": 16, "output_stride": 16, "bins": (1, 4)}


@pytest.mark.parametrize(
    ("size", "encoder", "feature", "gigamacs"), [(473, "resnet101s", 60, 229.8), (713, "resnet101s", 90, 517.2)]
)
def test_published_feature_and_work(size: int, encoder: str, feature: int, gigamacs: float) -> None:
    """In the release's crops, its pooling kernels of 60, 30, 20 and 10 are this network's bins of 1, 2, 3 and 6."""
    with torch.device("meta"):
        model = pspnet(21, encoder=encoder, auxiliary=False).eval()
        sizes: list[tuple[int, ...]] = []
        model.context.register_forward_hook(lambda module, taken, given: sizes.append(tuple(given.shape)))
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, size, size))
    assert sizes == [(1, 4096, feature, feature)]
    assert counter.get_total_flops() / 2e9 == pytest.approx(gigamacs, abs=0.05)


def test_layers_of_the_release() -> None:
    with torch.device("meta"):
        model = pspnet(21)
    assert [branch[0].weight.shape for branch in model.context.branches] == [(512, 2048, 1, 1)] * 4
    assert model.classifier.hidden[0].weight.shape == (512, 4096, 3, 3)
    assert model.auxiliary.hidden[0].weight.shape == (256, 1024, 3, 3)
    assert model.classifier.dropout.p == 0.1
    for stage, rate in ((-2, 2), (-1, 4)):
        for unit in residual_units(model.encoder, stage):
            assert unit.conv2.dilation == (rate, rate)


@torch.no_grad()
def test_equals_a_plain_transcription() -> None:
    """What follows the encoder, in the size where nothing is padded."""
    model = pspnet(4, encoder="resnet18", head_channels=8)
    model.train()(torch.randn(3, 3, 65, 97))
    model.eval()
    images = torch.randn(2, 3, 65, 97)
    feature = model.encoder(images)[-1]
    assert feature.shape[2:] == (9, 13)

    def layer(x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        x = F.conv2d(x, convolution.weight, padding=convolution.kernel_size[0] // 2)
        return F.relu((x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt())

    joined = [feature]
    for bins, branch in zip((1, 2, 3, 6), model.context.branches, strict=True):
        pooled = layer(F.adaptive_avg_pool2d(feature, bins), branch[0], branch[1])
        joined.append(F.interpolate(pooled, size=(9, 13), mode="bilinear", align_corners=True))
    hidden = layer(torch.cat(joined, 1), model.classifier.hidden[0], model.classifier.hidden[1])
    logits = model.classifier.classify(hidden)
    expected = F.interpolate(logits, size=(65, 97), mode="bilinear", align_corners=True)
    torch.testing.assert_close(model(images).logits, expected, atol=1e-4, rtol=1e-4)


def test_the_second_head_trains_and_then_goes() -> None:
    model = pspnet(3, encoder="resnet18", head_channels=8)
    images = torch.randn(2, 3, 40, 41)
    assert [tuple(side.shape) for side in model.train()(images).auxiliary] == [(2, 3, 40, 41)]
    assert model.eval()(images).auxiliary == ()
    assert pspnet(3, encoder="resnet18", head_channels=8, auxiliary=False).train()(images).auxiliary == ()


def test_errors() -> None:
    model = pspnet(2, encoder="resnet18", head_channels=8).train()
    with pytest.raises(ArgumentError, match="batch size must be at least 2 in training"):
        model(torch.randn(1, 3, 64, 64))
    for bins in ((), (1, 0)):
        with pytest.raises(ArgumentError, match="bins must be numbers from 1, at least one"):
            pspnet(2, encoder="resnet18", bins=bins)

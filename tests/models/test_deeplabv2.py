from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.context_segmenter import ContextSegmenter
from delineate.models.deeplabv2 import SummedHeads, deeplabv2
from delineate.models.encoders.residual_units import dilation_of, residual_units
from tests.models.segmenter import SegmenterTests

THIN = {"encoder": "vgg16", "width": 1 / 16, "fc_channels": 32}


class TestDeepLabV2(SegmenterTests):
    name = "deeplabv2"
    options = {"encoder": "resnet18"}
    published = [
        ({"num_classes": 21}, 44_048_532),
        ({"num_classes": 21, "encoder": "vgg16"}, 37_877_652),
        ({"num_classes": 21, "encoder": "vgg16", "rates": [2, 4, 8, 12]}, 37_877_652),
        ({"num_classes": 21, "encoder": "vgg16", "rates": [12]}, 20_505_429),
        ({"num_classes": 21, "scales": [0.5, 0.75, 1.0]}, 44_048_532),
    ]


class TestDeepLabV2OnVGG(SegmenterTests):
    name = "deeplabv2"
    options = THIN


class TestDeepLabV2MultiScale(SegmenterTests):
    name = "deeplabv2"
    options = {**THIN, "rates": [2, 4], "scales": [0.5, 0.75, 1.0]}


class TestDeepLabV2OnAnEncoderThatRoundsDown(SegmenterTests):
    name = "deeplabv2"
    options = {"encoder": "convnext_atto", "rates": [2]}


@pytest.mark.parametrize("encoder", ["vgg16", "resnet18"])
@torch.no_grad()
def test_scores_are_the_sum_of_single_heads(encoder: str) -> None:
    thin = THIN if encoder == "vgg16" else {"encoder": encoder}
    model = deeplabv2(3, **thin).eval()
    images = torch.randn(1, 3, 40, 56)
    single = [
        ContextSegmenter(model.encoder, nn.Identity(), head, num_classes=3, align_corners=True).eval()(images).logits
        for head in model.classifier.heads
    ]
    assert len(single) == 4
    torch.testing.assert_close(model(images).logits, sum(single), atol=1e-5, rtol=1e-5)


def test_summed_heads_by_hand() -> None:
    heads = [nn.Conv2d(1, 1, 1) for _ in range(2)]
    for factor, head in enumerate(heads, start=2):
        nn.init.constant_(head.weight, factor)
        nn.init.constant_(head.bias, 0.5)
    assert SummedHeads(heads)(torch.full((1, 1, 1, 2), 10.0)).tolist() == [[[[51.0, 51.0]]]]


@torch.no_grad()
def test_a_resnets_scores_lie_on_every_eighth_pixel() -> None:
    """Every layer of a ResNet is symmetric around its pixel, so a mirrored image of 8 k + 1 pixels gives mirrored
    features."""
    model = deeplabv2(2, encoder="resnet18").eval()
    for layer in model.encoder.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.add_(layer.weight.flip(2, 3)).div_(2)
    images = torch.randn(1, 3, 49, 65)
    features = model.encoder(images)[-1]
    assert features.shape[-2:] == (7, 9)
    torch.testing.assert_close(model.encoder(images.flip(2, 3))[-1].flip(2, 3), features, atol=1e-4, rtol=1e-4)
    expected = F.interpolate(model.classifier(features), size=(49, 65), mode="bilinear", align_corners=True)
    torch.testing.assert_close(model(images).logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_multiple_scales_take_the_largest_logit() -> None:
    fused = deeplabv2(3, **THIN, scales=(0.5, 1.0)).eval()
    images = torch.randn(1, 3, 48, 64)
    half = F.interpolate(images, size=(24, 32), mode="bilinear", align_corners=False)
    small = F.interpolate(fused.model(half).logits, size=(48, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(fused(images).logits, torch.maximum(small, fused.model(images).logits))


def test_holes_and_stride() -> None:
    with torch.device("meta"):
        model = deeplabv2(21)
        assert model.encoder.strides[-1] == 8
        assert [head.dilation[0] for head in model.classifier.heads] == [6, 12, 18, 24]
        assert model.classifier(model.encoder(torch.zeros(1, 3, 321, 321))[-1]).shape == (1, 21, 41, 41)
    # the release: hole 2 from res4a_branch2b on, 4 from res5a_branch2b on
    for stage, units, rate in ((-2, 23, 2), (-1, 3, 4)):
        assert [dilation_of(unit) for unit in residual_units(model.encoder, stage)] == [rate] * units


def test_errors_say_what_exists() -> None:
    with pytest.raises(ArgumentError, match=r"rates must be at least 1, at least one; got \[\]"):
        deeplabv2(2, rates=[])
    with pytest.raises(ArgumentError, match=r"rates must be at least 1, at least one; got \[6, 0\]"):
        deeplabv2(2, rates=[6, 0])
    with pytest.raises(ArgumentError, match=r"width must be 1 unless encoder='vgg16'; got 0\.5\. Choose a smaller"):
        deeplabv2(2, encoder="resnet18", width=0.5)
    with pytest.raises(ArgumentError, match="scales must be above 0"):
        deeplabv2(2, **THIN, scales=[-1])
    with pytest.raises(UnknownNameError, match="encoder must be a known name"):
        deeplabv2(2, encoder="resnet1")

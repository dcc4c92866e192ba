from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.fpn import fpn, upsampling_stages
from tests.models.segmenter import SegmenterTests, copy_in_order


class TestFPN(SegmenterTests):
    name = "fpn"
    options = {"encoder": "resnet18", "pyramid_channels": 32, "channels": 32, "auxiliary_stride": 16}
    published = [
        ({"num_classes": 21, "variant": "smp", "encoder": "resnet34"}, 23_157_973),
        ({"num_classes": 21, "variant": "smp", "encoder": "resnet50"}, 26_118_613),
        ({"num_classes": 21, "variant": "smp", "encoder": "resnet101"}, 45_110_741),
        ({"num_classes": 21, "encoder": "resnet50"}, 26_118_613 + 4 * (9 * 256 * 256 + 256)),
    ]


@torch.no_grad()
def test_smp_variant_equals_segmentation_models_pytorch() -> None:
    expected = smp.FPN("resnet18", encoder_weights=None, classes=5, decoder_pyramid_channels=32,
                       decoder_segmentation_channels=64)  # fmt: skip
    expected(torch.randn(2, 3, 64, 64))
    model = fpn(5, encoder="resnet18", pyramid_channels=32, channels=64, variant="smp")
    decoder = expected.decoder
    theirs = [decoder.p2.skip_conv, decoder.p3.skip_conv, decoder.p4.skip_conv, decoder.p5]
    copy_in_order(expected.encoder, model.encoder)
    for ours, layer in zip(model.decoder.pyramid.laterals, theirs, strict=True):
        ours.load_state_dict(layer.state_dict())
    for ours, branch in zip(model.decoder.branches, reversed(decoder.seg_blocks), strict=True):
        copy_in_order(branch, ours)
    model.head.classify.load_state_dict(expected.segmentation_head[0].state_dict())
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(model.eval()(images).logits, expected.eval()(images), atol=1e-4, rtol=1e-4)
    assert model.decoder.dropout.p == 0.2


def test_the_papers_branch_has_a_stage_for_every_doubling() -> None:
    with torch.device("meta"):
        model = fpn(21)
    counts = [
        (sum(isinstance(layer, nn.Conv2d) for layer in branch), sum(isinstance(layer, nn.Upsample) for layer in branch))
        for branch in model.decoder.branches
    ]
    assert counts == [(1, 0), (1, 1), (2, 2), (3, 3)]
    assert {branch[1].num_groups for branch in model.decoder.branches} == {32}
    assert [tuple(lateral.weight.shape[:2]) for lateral in model.decoder.pyramid.laterals] == [
        (256, width) for width in (256, 512, 1024, 2048)
    ]
    assert model.head.classify.weight.shape == (21, 128, 1, 1)
    assert model.decoder.dropout.p == 0


@torch.no_grad()
def test_upsampling_follows_the_strides() -> None:
    for options in ({"output_stride": 8}, {"output_stride": 16}):
        model = fpn(3, encoder="resnet18", pyramid_channels=8, channels=8, **options).eval()
        assert model(torch.randn(1, 3, 33, 47)).logits.shape == (1, 3, 33, 47)
    assert upsampling_stages(4, 6, 2, align_corners=False)(torch.randn(1, 4, 3, 5)).shape == (1, 6, 12, 20)
    assert upsampling_stages(4, 6, 0, align_corners=False)(torch.randn(1, 4, 3, 5)).shape == (1, 6, 3, 5)
    assert upsampling_stages(4, 6, 0, align_corners=False)[1].num_groups == 3
    assert [upsampling_stages(4, width, 1, align_corners=False)[1].num_groups for width in (128, 64, 32, 9, 2)] == [
        32,
        32,
        16,
        3,
        1,
    ]


@torch.no_grad()
def test_takes_a_transformer() -> None:
    model = fpn(2, encoder="swin_tiny_patch4_window7_224", pyramid_channels=8, channels=8).eval()
    assert model.decoder.first == 0
    assert model(torch.randn(1, 3, 33, 47)).logits.shape == (1, 2, 33, 47)


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'paper'"):
        fpn(2, encoder="resnet18", variant="papers")
    with pytest.raises(ArgumentError, match="auxiliary_stride must be a stride of the encoder's features"):
        fpn(2, encoder="resnet18", auxiliary_stride=5)

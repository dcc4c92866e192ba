from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.upernet import upernet
from tests.models.segmenter import SegmenterTests, copy_in_order


class TestUPerNet(SegmenterTests):
    name = "upernet"
    options = {"encoder": "convnext_atto", "channels": 16, "auxiliary_stride": 16}
    sizes = [(1, 1), (33, 47)]


class TestUPerNetOnAResNet(SegmenterTests):
    name = "upernet"
    options = {"encoder": "resnet18", "channels": 16, "feature_norm": "none", "bins": (1, 3)}


@torch.no_grad()
def test_smp_variant_equals_segmentation_models_pytorch() -> None:
    expected = smp.UPerNet("resnet18", encoder_weights=None, classes=5, decoder_channels=16)
    expected(torch.randn(4, 3, 64, 64))
    for layer in expected.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.weight.normal_()
    model = upernet(5, encoder="resnet18", channels=16, variant="smp")
    theirs, ours = expected.decoder, model.decoder
    copy_in_order(expected.encoder, model.encoder)
    copy_in_order(theirs.feature_norms, ours.norms)
    copy_in_order(theirs.psp, ours.pyramid.laterals[-1])
    for lateral, block in zip(ours.pyramid.laterals, reversed(theirs.fpn_lateral_blocks), strict=False):
        copy_in_order(block, lateral)
    for output, block in zip(ours.pyramid.outputs, reversed(theirs.fpn_conv_blocks), strict=False):
        copy_in_order(block, output)
    copy_in_order(theirs.fusion_block, ours.fuse)
    copy_in_order(expected.segmentation_head, model.head)
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(model.eval()(images).logits, expected.eval()(images), atol=1e-4, rtol=1e-4)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (model, expected)]
    assert counts[0] == counts[1]


def test_layers_of_the_release() -> None:
    """Pooled branches, laterals and outputs: every layer has the decoder's width."""
    with torch.device("meta"):
        model = upernet(150, encoder="resnet50", feature_norm="none")
    decoder = model.decoder
    pooling, bottleneck = decoder.pyramid.laterals[-1]
    assert [branch[0].weight.shape for branch in pooling.branches] == [(512, 2048, 1, 1)] * 4
    assert bottleneck[0].weight.shape == (512, 2048 + 4 * 512, 3, 3)
    assert [lateral[0].weight.shape for lateral in decoder.pyramid.laterals[:-1]] == [
        (512, width, 1, 1) for width in (256, 512, 1024)
    ]
    assert decoder.fuse[0].weight.shape == (512, 4 * 512, 3, 3)
    assert model.head.classify.weight.shape == (150, 512, 1, 1)
    assert (decoder.dropout.p, model.head.scale, model.head.align_corners) == (0.1, 4, False)


@pytest.mark.parametrize(
    ("encoder", "channels", "scale"),
    [
        ("convnext_tiny", (96, 192, 384, 768), 4),
        ("swin_tiny_patch4_window7_224", (96, 192, 384, 768), 4),
        ("resnet50", (256, 512, 1024, 2048), 4),
        ("vit_tiny_patch16_224", (192, 192, 192), 16),
    ],
)
def test_takes_any_encoder(encoder: str, channels: tuple[int, ...], scale: int) -> None:
    with torch.device("meta"):
        model = upernet(3, encoder=encoder, channels=8).eval()
        logits = model(torch.zeros(1, 3, 70, 101)).logits
    assert logits.shape == (1, 3, 70, 101)
    assert tuple(norm.weight.shape[0] for norm in model.decoder.norms) == channels
    assert model.head.scale == scale


def test_errors() -> None:
    with pytest.raises(
        UnknownNameError, match=r"feature_norm must be a known name; got 'layers'. Did you mean 'layer'"
    ):
        upernet(2, encoder="resnet18", feature_norm="layers")
    with pytest.raises(UnknownNameError, match="variant must be a known name; got 'mmseg'"):
        upernet(2, encoder="resnet18", variant="mmseg")
    model = upernet(2, encoder="resnet18", channels=8).train()
    with pytest.raises(ArgumentError, match="batch size must be at least 2 in training"):
        model(torch.randn(1, 3, 64, 64))

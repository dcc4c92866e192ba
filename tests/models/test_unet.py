from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.unet import UNetBlock, UNetDecoder, unet
from tests.models.segmenter import SegmenterTests, copy_in_order


class TestUNet(SegmenterTests):
    name = "unet"
    options = {"encoder": "resnet18", "decoder_channels": (64, 32, 16, 16, 8)}
    published = [
        ({"num_classes": 21}, 24_439_269),
        ({"num_classes": 21, "encoder": "vgg16_bn", "centre": True, "finest_skip": 2}, 23_759_589),
    ]


class TestUNetThatStopsAtStrideFour(SegmenterTests):
    name = "unet"
    options = {"encoder": "resnet18", "decoder_channels": (64, 32, 16)}


class TestUNetWithASideHead(SegmenterTests):
    name = "unet"
    options = {"encoder": "resnet18", "decoder_channels": (64, 32, 16), "auxiliary_stride": 8}


class TestUNetOnConvNeXt(SegmenterTests):
    name = "unet"
    options = {"encoder": "convnext_atto", "decoder_channels": (64, 32, 16, 16, 8)}


@pytest.mark.parametrize(
    ("reference", "ours"),
    [
        ({"encoder_name": "resnet18"}, {"encoder": "resnet18"}),
        ({"encoder_name": "vgg11_bn"}, {"encoder": "vgg11_bn", "centre": True, "finest_skip": 2}),
    ],
)
@torch.no_grad()
def test_unet_equals_segmentation_models_pytorch(reference: dict, ours: dict) -> None:
    channels = (32, 16, 16, 8, 8)
    expected = smp.Unet(**reference, encoder_weights=None, classes=5, decoder_channels=channels)
    expected(torch.randn(2, 3, 64, 64))  # gives batch norm something to tell apart
    model = unet(5, **ours, decoder_channels=channels)
    copy_in_order(expected, model)
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(model.eval()(images).logits, expected.eval()(images), atol=1e-4, rtol=1e-4)


def test_decoder_walks_down_the_strides_of_any_encoder() -> None:
    # ConvNeXt: skips at 16, 8 and 4, then two blocks alone
    decoder = UNetDecoder((40, 80, 160, 320), (4, 8, 16, 32), (32, 16, 8, 4, 2))
    assert (decoder.channels, decoder.stride, decoder.skips) == (2, 1, 3)
    # dilated: the first block joins at its own size, and the second doubles twice
    decoder = UNetDecoder((8, 16, 32, 32), (2, 8, 16, 16), (32, 16, 8))
    assert [block.scale for block in decoder.blocks] == [1, 2, 4]
    features = [torch.randn(1, c, 32 // s, 64 // s) for c, s in zip((8, 16, 32, 32), (2, 8, 16, 16), strict=True)]
    assert decoder(features).shape == (1, 8, 16, 32)


@torch.no_grad()
def test_block_repeats_pixels_when_it_doubles() -> None:
    block = UNetBlock(1, 0, 1).eval()
    for layer in block.convolve:  # a convolution that returns its input
        layer[0].weight.zero_()[0, 0, 1, 1] = 1
    expected = torch.tensor([[[[1.0, 1, 2, 2], [1, 1, 2, 2]]]])
    torch.testing.assert_close(block(torch.tensor([[[[1.0, 2.0]]]])), expected, atol=1e-4, rtol=0)


def test_unet_says_how_many_blocks_fit() -> None:
    with pytest.raises(ArgumentError, match=r"at most 5 entries .* got \(9, 8, 7, 6, 5, 4\). Pass \(9, 8, 7, 6, 5\)"):
        unet(2, encoder="resnet18", decoder_channels=(9, 8, 7, 6, 5, 4))
    with pytest.raises(ArgumentError, match="at least one block"):
        unet(2, encoder="resnet18", decoder_channels=())


def test_side_head_classifies_the_last_feature_of_its_stride_in_training_alone() -> None:
    model = unet(3, encoder="resnet18", output_stride=8, decoder_channels=(8, 8), auxiliary_stride=8)
    assert model.auxiliary is not None
    assert model.encoder.strides == (2, 4, 8, 8, 8)
    assert (model.auxiliary.place, model.auxiliary.classify.in_channels) == (4, 512)
    images = torch.randn(2, 3, 41, 30)
    (side,) = model.train()(images).auxiliary
    assert side.shape == (2, 3, 41, 30)
    assert model.eval()(images).auxiliary == ()


def test_side_head_says_which_strides_there_are() -> None:
    with pytest.raises(ArgumentError, match=r"auxiliary_stride must be .*\(2, 4, 8, 16, 32\); got 64"):
        unet(2, encoder="resnet18", auxiliary_stride=64)


def test_unet_names_the_nearest_encoder() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet34'"):
        unet(2, encoder="resnet_34")

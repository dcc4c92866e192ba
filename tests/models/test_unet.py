from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.blocks.upsampling import UPSAMPLINGS
from delineate.models.catalogue import parameter_count
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


class TestUNetWithUnpooling(SegmenterTests):
    name = "unet"
    options = {"encoder": "resnet18", "decoder_channels": (64, 32, 16, 16, 8), "upsampling": "max_unpool"}


class TestUNetWithTransposedConvolutions(SegmenterTests):
    name = "unet"
    options = {"encoder": "resnet18", "decoder_channels": (16, 16, 16), "upsampling": "transposed"}


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


def test_every_upsampling_by_its_parameters() -> None:
    counts = {name: parameter_count("unet", encoder="resnet18", upsampling=name) for name in UPSAMPLINGS}
    plain = counts["nearest"]
    assert counts["bilinear"] == counts["bed_of_nails"] == plain
    coarse = (512, 256, 128, 64, 32)  # what each block makes finer
    assert counts["transposed"] == plain + sum(16 * width**2 for width in coarse)
    assert counts["resize_conv"] == plain + sum(9 * width**2 + width for width in coarse)
    # to the skip's channels where they differ, which is all the convolution behind takes; bias, then weights
    skips, blocks = (256, 128, 64, 64), (256, 128, 64, 32)
    projections = sum(
        (c * s + s if c != s else 0) + 9 * (s - c) * b for c, s, b in zip(coarse, skips, blocks, strict=False)
    )
    assert counts["max_unpool"] == plain + projections


@torch.no_grad()
def test_block_unpools_to_the_maxima_of_its_skip() -> None:
    skip = torch.tensor([[[[0.0, 1, 5, 0], [0, 0, 0, 0]]]])
    block = UNetBlock(1, 1, 2, upsampling="max_unpool").eval()
    seen = []
    block.convolve.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    block(torch.tensor([[[[3.0, 7.0]]]]), skip)
    assert seen[0][:, :1].tolist() == [[[[0, 3, 7, 0], [0, 0, 0, 0]]]]
    assert torch.equal(seen[0][:, 1:], skip)
    assert isinstance(block.project, nn.Identity)
    # without a skip, top left
    block = UNetBlock(1, 0, 2, upsampling="max_unpool").eval()
    block.convolve.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    block(torch.tensor([[[[3.0, 7.0]]]]))
    assert seen[1].tolist() == [[[[3, 0, 7, 0], [0, 0, 0, 0]]]]


def test_unpooling_needs_a_skip_at_every_doubling() -> None:
    with pytest.raises(ArgumentError, match=r"upsampling must be another than 'max_unpool' where .* 4 times finer"):
        UNetDecoder((8, 16, 32, 32), (2, 8, 16, 16), (32, 16, 8), upsampling="max_unpool")
    with pytest.raises(UnknownNameError, match="Did you mean 'nearest'"):
        unet(2, encoder="resnet18", upsampling="nearest_neighbour")


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

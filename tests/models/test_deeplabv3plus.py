from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders._utils import replace_strides_with_dilation

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.deeplabv3plus import deeplabv3plus
from tests.models.segmenter import SegmenterTests, copy_in_order


class TestDeepLabV3Plus(SegmenterTests):
    name = "deeplabv3plus"
    options = {"encoder": "resnet18", "decoder_channels": 32}
    published = [
        ({"num_classes": 21, "variant": "smp"}, 26_682_725),
        ({"num_classes": 21, "variant": "smp", "encoder": "resnet101"}, 45_674_853),
    ]


class TestDeepLabV3PlusWithoutSeparation(SegmenterTests):
    name = "deeplabv3plus"
    options = {"encoder": "resnet18", "decoder_channels": 16, "separable": False, "output_stride": 32}


@torch.no_grad()
def test_smp_variant_equals_segmentation_models_pytorch() -> None:
    expected = smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=5, decoder_channels=32)
    expected(torch.randn(2, 3, 64, 64))
    model = deeplabv3plus(5, encoder="resnet18", decoder_channels=32, variant="smp")
    copy_in_order(expected, model)
    # smp dilates the strided convolution itself as well, where timm and torchvision keep its taps on the old grid
    replace_strides_with_dilation(model.encoder.model.layer4, dilation_rate=2)
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(model.eval()(images).logits, expected.eval()(images), atol=1e-4, rtol=1e-4)


def test_paper_refines_twice_after_the_skip() -> None:
    with torch.device("meta"):
        model = deeplabv3plus(21, encoder="resnet50")
    convolutions = [layer for layer in model.decoder.refine.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.kernel_size[0] for layer in convolutions] == [3, 1, 3, 1]
    assert convolutions[0].in_channels == 256 + 48  # 304 in the paper
    assert model.decoder.reduce[0].weight.shape == (48, 256, 1, 1)
    assert model.head.classify.kernel_size == (1, 1)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_rates_follow_the_output_stride(output_stride: int, rates: list[int]) -> None:
    with torch.device("meta"):
        model = deeplabv3plus(2, encoder="resnet18", output_stride=output_stride, separable=False)
    assert [branch[0].dilation[0] for branch in list(model.decoder.pyramid.branches)[1:-1]] == rates
    assert model.encoder.strides[-1] == output_stride


def test_refuses_an_encoder_without_stride_four_and_an_unknown_variant() -> None:
    with pytest.raises(
        ArgumentError, match=r"feature at stride 4; got 'vit_tiny_patch16_224' with strides \(16, 16, 16\)"
    ):
        deeplabv3plus(2, encoder="vit_tiny_patch16_224")
    with pytest.raises(UnknownNameError, match="Did you mean 'paper'"):
        deeplabv3plus(2, encoder="resnet18", variant="papper")


def test_one_image_a_training_batch_is_refused_in_words() -> None:
    model = deeplabv3plus(2, encoder="resnet18", decoder_channels=8).train()
    with pytest.raises(ArgumentError, match="batch size must be at least 2 in training"):
        model(torch.randn(1, 3, 64, 64))

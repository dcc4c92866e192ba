from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders._utils import replace_strides_with_dilation

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.deeplabv3plus import deeplabv3plus
from delineate.models.encoders.creation import create_encoder
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


@pytest.mark.parametrize(("output_stride", "strides"), [(16, (2, 4, 8, 16, 16)), (8, (2, 4, 8, 8, 8))])
def test_aligned_xception_of_the_paper(output_stride: int, strides: tuple[int, ...]) -> None:
    """Strides become dilation from the block behind them on, as in the released code."""
    with torch.device("meta"):
        model = deeplabv3plus(21, encoder="xception65", output_stride=output_stride).eval()
        assert model(torch.zeros(1, 3, 65, 97)).logits.shape == (1, 21, 65, 97)
    assert model.encoder.strides == strides
    assert model.encoder.channels == (128, 256, 728, 1024, 2048)
    assert model.decoder.reduce[0].weight.shape == (48, 256, 1, 1)
    rates: dict[int, set[int]] = {}
    for name, layer in model.encoder.model.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.groups > 1:
            rates.setdefault(int(name.split("_")[1].split(".")[0]), set()).add(layer.dilation[0])
    deep = 16 // output_stride
    expected = {block: {1} for block in range(3)} | {block: {deep} for block in range(3, 20)} | {20: {2 * deep}}
    assert rates == expected


@torch.no_grad()
def test_dilated_xception_computes_the_same_feature_more_densely() -> None:
    sparse = create_encoder("xception41").eval()
    images = torch.randn(1, 3, 64, 96)
    coarse = sparse(images)[-1]
    for output_stride in (16, 8):
        dense = create_encoder("xception41", output_stride=output_stride).eval()
        dense.load_state_dict(sparse.state_dict())
        step = 32 // output_stride
        torch.testing.assert_close(dense(images)[-1][..., ::step, ::step], coarse, atol=1e-3, rtol=1e-3)

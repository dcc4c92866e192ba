from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.context_segmenter import ContextSegmenter
from delineate.models.deeplabv3 import deeplabv3
from delineate.models.encoders.residual_units import residual_units
from tests.models.segmenter import SegmenterTests


class TestDeepLabV3(SegmenterTests):
    name = "deeplabv3"
    options = {"encoder": "resnet18", "channels": 16, "multi_grid": (1, 2)}
    published = [
        ({"num_classes": 21, "variant": "torchvision", "auxiliary": False}, 39_638_869),
        ({"num_classes": 21, "variant": "torchvision"}, 42_004_074),
        ({"num_classes": 21, "variant": "torchvision", "encoder": "resnet101", "auxiliary": False}, 58_630_997),
        ({"num_classes": 21, "variant": "torchvision", "encoder": "torchvision/resnet101"}, 60_996_202),
        # torchvision's without its 3x3 convolution
        ({"num_classes": 21}, 39_638_869 - 256 * 256 * 9 - 512),
    ]


class TestDeepLabV3Cascade(SegmenterTests):
    name = "deeplabv3"
    options = {"encoder": "resnet18", "variant": "cascade", "cascade_blocks": 1}
    # the trunk, three blocks of three units, and a classifier
    published = [
        (
            {"num_classes": 21, "variant": "cascade"},
            23_508_032 + 9 * (2 * 2048 * 512 + 9 * 512**2 + 2 * (512 + 512 + 2048)) + 2048 * 21 + 21,
        )
    ]


class TestDeepLabV3OnAnotherEncoder(SegmenterTests):
    name = "deeplabv3"
    options = {"encoder": "mobilenetv3_small_050", "channels": 16, "variant": "torchvision"}


def rates_of(model: ContextSegmenter) -> list[int]:
    return [unit.conv2.dilation[0] for unit in residual_units(model.encoder)]


@pytest.mark.parametrize(
    ("output_stride", "pyramid", "last_stage"),
    [(8, [12, 24, 36], [4, 8, 16]), (16, [6, 12, 18], [2, 4, 8]), (32, [3, 6, 9], [1, 2, 4])],
)
@pytest.mark.parametrize("encoder", ["resnet50", "torchvision/resnet50"])
def test_rates_of_the_paper(encoder: str, output_stride: int, pyramid: list[int], last_stage: list[int]) -> None:
    with torch.device("meta"):
        model = deeplabv3(21, encoder=encoder, output_stride=output_stride)
    assert model.encoder.strides[-1] == output_stride
    assert [branch[0].dilation[0] for branch in list(model.context.branches)[1:-1]] == pyramid
    assert rates_of(model) == last_stage
    assert model.align_corners
    assert model.auxiliary is None


def test_cascade_doubles_its_rates() -> None:
    with torch.device("meta"):
        model = deeplabv3(21, variant="cascade").eval()
        rates = [[unit.conv2.dilation[0] for unit in block] for block in model.context.blocks]
        assert model(torch.zeros(1, 3, 65, 65)).logits.shape == (1, 21, 65, 65)
    assert rates_of(model) == [2, 4, 2]
    assert rates == [[4, 8, 4], [8, 16, 8], [16, 32, 16]]
    norms = [layer for layer in model.context.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 27


def test_cascade_blocks_start_from_weights_of_their_own() -> None:
    model = deeplabv3(2, encoder="resnet18", variant="cascade", cascade_blocks=2)
    weights = [unit.conv1.weight for block in model.context.blocks for unit in block]
    weights.append(residual_units(model.encoder)[-1].conv1.weight)
    assert len({float(weight.detach().sum()) for weight in weights}) == 5
    assert [unit.conv1.dilation[0] for block in model.context.blocks for unit in block] == [4, 4, 8, 8]


def test_torchvisions_variant_is_torchvisions() -> None:
    with torch.device("meta"):
        model = deeplabv3(21, variant="torchvision", auxiliary=False).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 520, 520))
    assert counter.get_total_flops() / 2e9 == pytest.approx(168.731, abs=2e-3)
    assert [branch[0].dilation[0] for branch in list(model.context.branches)[1:-1]] == [12, 24, 36]
    assert rates_of(model) == [2, 4, 4]
    assert model.context.project[1].p == 0.5
    assert not model.align_corners


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cascade'"):
        deeplabv3(2, variant="cascades")
    with pytest.raises(
        ArgumentError, match=r"weights must be None for variant 'paper'; got coco. Those are torchvision's"
    ):
        deeplabv3(21, weights="coco")
    with torch.device("meta"):
        with pytest.raises(ArgumentError, match=r"multi_grid must have 3 numbers from 1.*'resnet50'; got \(1, 2\)"):
            deeplabv3(2, multi_grid=(1, 2))
        with pytest.raises(ArgumentError, match="multi_grid must be None with encoder 'vgg11'"):
            deeplabv3(2, encoder="vgg11", multi_grid=(1, 2, 4))
        with pytest.raises(ArgumentError, match="encoder must be a ResNet for the cascade; got 'vgg11'"):
            deeplabv3(2, encoder="vgg11", variant="cascade")
        with pytest.raises(ArgumentError, match="cascade_blocks must be at least 1; got 0"):
            deeplabv3(2, encoder="resnet18", variant="cascade", cascade_blocks=0)


def test_one_image_a_training_batch_is_refused_in_words() -> None:
    model = deeplabv3(2, encoder="resnet18", channels=8).train()
    with pytest.raises(ArgumentError, match="batch size must be at least 2 in training"):
        model(torch.randn(1, 3, 64, 64))

from __future__ import annotations

import pytest
import torch
from torch import nn

from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.residual_units import dilate_whole_stages, dilation_of, residual_units, set_dilations


@pytest.mark.parametrize(("name", "counts"), [("resnet18", (2, 2)), ("resnet50", (6, 3)), ("resnet101", (23, 3))])
@pytest.mark.parametrize("library", ["timm/", "torchvision/"])
def test_finds_the_units_of_both_libraries(library: str, name: str, counts: tuple[int, int]) -> None:
    with torch.device("meta"):
        encoder = create_encoder(library + name, output_stride=8)
    assert (len(residual_units(encoder, -2)), len(residual_units(encoder))) == counts
    assert [dilation_of(unit) for unit in residual_units(encoder)][-2:] == [4, 4]
    assert dilation_of(residual_units(encoder, -2)[-1]) == 2


@pytest.mark.parametrize("name", ["vgg11", "convnext_atto", "mobilenetv3_small_050", "googlenet"])
def test_others_have_none(name: str) -> None:
    with torch.device("meta"):
        assert residual_units(create_encoder(name)) == []


@pytest.mark.parametrize("name", ["timm/resnet50", "torchvision/resnet50"])
@pytest.mark.parametrize(
    ("stride", "before", "after"), [(8, (1, 2), (2, 4)), (16, (1, 1), (1, 2)), (32, (1, 1), (1, 1))]
)
def test_whole_stages(name: str, stride: int, before: tuple[int, int], after: tuple[int, int]) -> None:
    with torch.device("meta"):
        encoder = create_encoder(name, output_stride=stride)
    stages = [residual_units(encoder, stage) for stage in (-2, -1)]
    assert tuple(dilation_of(units[0]) for units in stages) == before
    dilate_whole_stages(encoder)
    assert [{dilation_of(unit) for unit in units} for units in stages] == [{rate} for rate in after]


@torch.no_grad()
def test_rates_change_and_sizes_stay() -> None:
    encoder = create_encoder("resnet18", output_stride=16).eval()
    images = torch.randn(1, 3, 33, 50)
    before = encoder(images)
    set_dilations(residual_units(encoder), [2, 5])
    spatial = [
        layer
        for unit in residual_units(encoder)
        for layer in unit.modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
    ]
    assert [layer.dilation for layer in spatial] == [(2, 2), (2, 2), (5, 5), (5, 5)]
    after = encoder(images)
    assert [feature.shape for feature in after] == [feature.shape for feature in before]
    assert torch.equal(after[-2], before[-2])
    assert not torch.equal(after[-1], before[-1])
    with pytest.raises(ValueError, match="shorter"):
        set_dilations(residual_units(encoder), [2])

from __future__ import annotations

import pytest
import torch

from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import first_coarse_feature


@pytest.mark.parametrize(
    ("strides", "place"), [((2, 4, 8, 16, 32), 1), ((4, 8, 16, 32), 0), ((16, 16, 16), 0), ((1, 2), 1), ((1, 2, 8), 2)]
)
def test_pyramids_begin_at_stride_four(strides: tuple[int, ...], place: int) -> None:
    assert first_coarse_feature(strides) == place


@pytest.mark.parametrize(
    ("name", "rounds_up"),
    [
        ("resnet18", True),
        ("resnet50d", True),
        ("resnet50s", True),
        ("torchvision/resnet18", True),
        ("resnetblur50", False),
        ("vgg11", False),
        ("convnext_atto", False),
    ],
)
def test_encoders_say_whether_they_take_any_size(name: str, rounds_up: bool) -> None:
    with torch.device("meta"):
        encoder = create_encoder(name, output_stride=8).eval()
        assert encoder.rounds_up == rounds_up
        if rounds_up:
            for size in [(1, 1), (2, 9), (33, 47)]:
                sizes = [tuple(feature.shape[2:]) for feature in encoder(torch.zeros(1, 3, *size))]
                assert sizes == [tuple(-(-side // stride) for side in size) for stride in encoder.strides]

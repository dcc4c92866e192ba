from __future__ import annotations

import pytest
import torch
from torch import nn

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.encoders.torchvision_encoder import vgg_layers
from delineate.models.encoders.vgg_with_holes import vgg16_with_holes

NARROW = {"width": 1 / 16}


@pytest.mark.parametrize("pooling", ["3x3", "2x2"])
@torch.no_grad()
def test_features_have_the_promised_channels_and_strides(pooling: str) -> None:
    encoder = vgg16_with_holes(in_channels=2, pooling=pooling, **NARROW)
    assert encoder.in_channels == 2
    features = encoder(torch.randn(1, 2, 32, 64))
    expected = [(1, c, 32 // s, 64 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(feature.shape) for feature in features] == expected


@torch.no_grad()
def test_wide_poolings_round_sizes_up() -> None:
    encoder = vgg16_with_holes(**NARROW)
    assert encoder.rounds_up
    features = encoder(torch.zeros(1, 3, 321, 1))
    assert [feature.shape[2] for feature in features] == [161, 81, 41, 41, 41]
    assert [feature.shape[3] for feature in features] == [1] * 5


@torch.no_grad()
def test_vggs_own_poolings_give_vggs_own_values_at_its_positions() -> None:
    plain = vgg_layers("vgg16", width=1 / 16)
    encoder = vgg16_with_holes(pooling="2x2", weights=None, **NARROW)
    values = list(plain.state_dict().values())
    encoder.load_state_dict(dict(zip(encoder.state_dict(), values, strict=True)))
    images = torch.randn(1, 3, 128, 192)
    expected, holes = plain(images), encoder(images)
    assert expected.any()
    torch.testing.assert_close(holes[-1][..., 2::4, 2::4], expected, atol=1e-5, rtol=1e-5)
    pool4 = plain[:24](images)
    torch.testing.assert_close(holes[3][..., 1::2, 1::2], pool4, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_wide_poolings_are_centred_on_every_eighth_pixel() -> None:
    """A network that only spreads gives the mirrored image of 8 k + 1 pixels mirrored features."""
    encoder = vgg16_with_holes(**NARROW)
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1e-2)
    images = torch.rand(1, 3, 57, 65)
    features = encoder(images)[-1]
    assert features.std() > 0.1
    torch.testing.assert_close(encoder(images.flip(2, 3))[-1].flip(2, 3), features)


def test_weights_reach_every_layer() -> None:
    weights = {f"features.{name}": torch.zeros_like(v) for name, v in vgg_layers("vgg16").state_dict().items()}
    for number, value in enumerate(weights.values()):
        value.fill_(number)
    state = vgg16_with_holes(weights=weights).state_dict()
    assert [float(value.mean()) for value in state.values()] == pytest.approx(list(range(26)))
    assert sum(value.numel() for value in state.values()) == 14_714_688


def test_errors_say_what_exists() -> None:
    with pytest.raises(UnknownNameError, match="pooling must be a known name; got '3'"):
        vgg16_with_holes(pooling="3")
    with pytest.raises(ArgumentError, match="width must be above 0; got 0"):
        vgg16_with_holes(width=0)

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from delineate.errors import ArgumentError
from delineate.models.encoders.timm_encoder import TimmEncoder


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("resnet18", (2, 4, 8, 16, 32)),
        ("convnext_atto", (4, 8, 16, 32)),
        ("mobilenetv3_small_050", (2, 4, 8, 16, 32)),
        ("vit_tiny_patch16_224", (16, 16, 16)),
        ("swin_tiny_patch4_window7_224", (4, 8, 16, 32)),
    ],
)
@torch.no_grad()
def test_features_have_the_promised_channels_and_strides(name: str, strides: tuple[int, ...]) -> None:
    encoder = TimmEncoder(name, in_channels=2).eval()
    assert encoder.strides == strides
    features = encoder(torch.randn(1, 2, 64, 96))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(feature.shape) for feature in features] == expected


@torch.no_grad()
def test_dilation_computes_the_same_feature_more_densely() -> None:
    dense, sparse = TimmEncoder("resnet18", output_stride=8).eval(), TimmEncoder("resnet18").eval()
    dense.load_state_dict(sparse.state_dict())
    images = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(dense(images)[-1][..., ::4, ::4], sparse(images)[-1], atol=1e-4, rtol=1e-4)


def test_an_architecture_of_stride_16_is_one_of_output_stride_16() -> None:
    assert TimmEncoder("vit_tiny_patch16_224", output_stride=16).strides == (16, 16, 16)


def test_what_cannot_be_dilated_says_so() -> None:
    with pytest.raises(
        ArgumentError, match=r"output_stride must be one that encoder 'densenet121' can have \(32\); got 8"
    ):
        TimmEncoder("densenet121", output_stride=8)
    with pytest.raises(
        ArgumentError, match="encoder must return features for images of any size; got 'maxvit_tiny_tf_224'"
    ):
        TimmEncoder("maxvit_tiny_tf_224")


def test_pretrained_is_timms_business(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    create = timm.create_model

    def recorded(name: str, **options: Any) -> torch.nn.Module:
        calls.append({"name": name, **options})
        return create(name, **{**options, "pretrained": False})

    monkeypatch.setattr(timm, "create_model", recorded)
    encoder = TimmEncoder("resnet18.a1_in1k", pretrained=True, in_channels=4)
    assert encoder.in_channels == 4
    assert calls == [{"name": "resnet18.a1_in1k", "features_only": True, "pretrained": True, "in_chans": 4}]


def test_residual_branches_of_random_weights_are_at_work_from_the_start() -> None:
    encoder = TimmEncoder("resnet18").train()
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert all(layer.weight.eq(1).all() for layer in norms)

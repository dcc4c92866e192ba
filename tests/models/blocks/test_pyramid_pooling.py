from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch.decoders.upernet.decoder import PSPModule
from torch import nn
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.models.blocks.conv_norm_act import ConvNormAct
from delineate.models.blocks.pyramid_pooling import PyramidPooling
from tests.models.segmenter import copy_in_order


@torch.no_grad()
def test_equals_segmentation_models_pytorch() -> None:
    expected = PSPModule(6, 4).train()
    expected(torch.randn(4, 6, 12, 12))  # moves the batch statistics away from their start
    pyramid = PyramidPooling(6, 4)
    whole = nn.Sequential(pyramid, ConvNormAct(pyramid.out_channels, 4))
    copy_in_order(expected, whole)
    for size in [(9, 11), (12, 6), (1, 1)]:
        features = torch.randn(2, 6, *size)
        torch.testing.assert_close(whole.eval()(features), expected.eval()(features))


@torch.no_grad()
def test_aligned_corners_and_the_order_of_branches() -> None:
    pyramid = PyramidPooling(3, 2, (2, 5), align_corners=True).eval()
    features = torch.randn(2, 3, 7, 10)
    joined = pyramid(features)
    assert joined.shape == (2, 3 + 2 * 2, 7, 10)
    assert torch.equal(joined[:, :3], features)
    pooled = pyramid.branches[1](F.adaptive_avg_pool2d(features, 5))
    torch.testing.assert_close(joined[:, 5:], F.interpolate(pooled, size=(7, 10), mode="bilinear", align_corners=True))


def test_one_bin_cannot_be_normalised_over_one_image() -> None:
    with pytest.raises(ArgumentError, match="batch size must be at least 2 in training"):
        PyramidPooling(3, 5).train()(torch.randn(1, 3, 4, 6))
    assert PyramidPooling(3, 5, (2, 3)).train()(torch.randn(1, 3, 4, 6)).shape == (1, 13, 4, 6)

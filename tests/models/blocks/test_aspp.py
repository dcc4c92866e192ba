from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPP as ReferenceASPP

from delineate.errors import ArgumentError
from delineate.models.blocks.aspp import ASPP, ImagePooling
from tests.models.segmenter import copy_in_order


@pytest.mark.parametrize("separable", [False, True])
@torch.no_grad()
def test_equals_segmentation_models_pytorch(separable: bool) -> None:
    expected = ReferenceASPP(6, 8, (1, 2, 3), separable=separable, dropout=0.1)
    expected(torch.randn(4, 6, 12, 12))
    pyramid = ASPP(6, 8, (1, 2, 3), separable=separable, norm_between=False)
    copy_in_order(expected, pyramid)
    features = torch.randn(2, 6, 9, 11)
    torch.testing.assert_close(pyramid.eval()(features), expected.eval()(features))


def test_any_number_of_rates() -> None:
    pyramid = ASPP(4, 8, (2, 4), separable=True)
    assert len(pyramid.branches) == 4
    assert pyramid.project[0][0].in_channels == 32
    assert pyramid(torch.randn(2, 4, 5, 5)).shape == (2, 8, 5, 5)


def test_image_pooling_is_the_same_everywhere() -> None:
    pooled = ImagePooling(3, 5).eval()(torch.randn(1, 3, 4, 6))
    assert pooled.shape == (1, 5, 4, 6)
    assert torch.equal(pooled, pooled[..., :1, :1].expand_as(pooled))


def test_image_pooling_cannot_normalise_one_value() -> None:
    with pytest.raises(ArgumentError, match=r"batch size must be at least 2 in training.*got 1. Use a larger batch"):
        ImagePooling(3, 5).train()(torch.randn(1, 3, 4, 6))

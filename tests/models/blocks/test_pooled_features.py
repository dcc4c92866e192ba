"""A feature of any size as one vector."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from delineate.errors import ArgumentError
from delineate.models.blocks.pooled_features import PooledFeatures, small_linear


def test_bins_keep_where_things_are() -> None:
    feature = torch.zeros(2, 1, 4, 4)
    feature[0, 0, 0, 0] = feature[1, 0, 3, 3] = 4
    assert PooledFeatures(1, bins=2)(feature).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert PooledFeatures(1, bins=1)(feature).tolist() == [[0.25], [0.25]]


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (12, 5)])
def test_any_size_gives_one_width(size: tuple[int, int]) -> None:
    pooled = PooledFeatures(5, bins=3, hidden=(8, 6), dropout=0.5)
    assert pooled.width == 6
    assert pooled(torch.rand(2, 5, *size)).shape == (2, 6)
    assert PooledFeatures(5, bins=3).width == 45


def test_layers_are_the_papers_in_their_order() -> None:
    kinds = [type(layer) for layer in PooledFeatures(2, bins=1, hidden=(4, 4)).layers]
    assert kinds == [nn.Dropout, nn.Linear, nn.ReLU] * 2


def test_a_small_layer_says_little() -> None:
    torch.manual_seed(0)
    layer = small_linear(1000, 10)
    assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not layer.bias.any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="bins must be at least 1; got 0"):
        PooledFeatures(2, bins=0)
    with pytest.raises(ArgumentError, match=r"hidden must be widths of at least 1; got \[4, 0\]"):
        PooledFeatures(2, bins=1, hidden=(4, 0))
    with pytest.raises(ArgumentError, match="dropout must be at least 0 and below 1; got 1"):
        PooledFeatures(2, bins=1, dropout=1)

from __future__ import annotations

import torch
from torch import nn

from delineate.models.blocks.initialisation import initialise_classifier, initialise_relu_network


@torch.no_grad()
def test_relu_layers_keep_the_variance() -> None:
    layers = nn.Sequential(*(layer for _ in range(10) for layer in (nn.Conv2d(64, 64, 3), nn.ReLU())))
    initialise_relu_network(layers)
    assert not layers[0].bias.any()
    signal = torch.randn(4, 64, 32, 32).relu()
    ratio = layers(signal).square().mean() / signal.square().mean()
    assert 0.5 < float(ratio) < 2


def test_classifiers_are_bounded_by_glorots_limit() -> None:
    layer = nn.Conv2d(30, 6, 1)
    initialise_classifier(layer)
    limit = (6 / 36) ** 0.5
    assert 0.8 * limit < float(layer.weight.detach().abs().max()) <= limit
    assert not layer.bias.any()

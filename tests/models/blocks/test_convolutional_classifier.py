from __future__ import annotations

import torch

from delineate.models.blocks.convolutional_classifier import convolutional_classifier


def test_linear_layers_become_convolutions() -> None:
    matrix = torch.arange(3.0 * 2 * 49).view(3, -1)
    weights = {"classifier.0.weight": matrix, "classifier.3.weight": torch.eye(3)}
    weights |= {"classifier.0.bias": torch.ones(3), "classifier.3.bias": torch.zeros(3)}
    classifier = convolutional_classifier(2, 7, 3, weights).eval()
    feature = torch.randn(1, 2, 7, 7)
    expected = (feature.flatten(1) @ matrix.T + 1).relu()
    torch.testing.assert_close(classifier(feature).flatten(1), expected)


def test_holes_keep_the_size_when_padded() -> None:
    classifier = convolutional_classifier(3, 3, 5, dilation=12, padding=12).eval()
    assert classifier(torch.randn(1, 3, 20, 30)).shape == (1, 5, 20, 30)
    assert classifier[0].dilation == (12, 12)

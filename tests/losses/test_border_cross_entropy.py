from __future__ import annotations

import math

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.border_cross_entropy import BorderCrossEntropy, border_cross_entropy
from delineate.losses.cross_entropy import cross_entropy
from delineate.ops.border_weights import border_weights
from tests.losses.semantic_loss import SemanticLossTester, random_batch


class TestBorderCrossEntropy(SemanticLossTester):
    loss = BorderCrossEntropy
    variants = ({}, {"w0": 3, "sigma": 1.5, "background": None}, {"w0": 0, "class_weights": [0.5, 2.0, 0.0, 1.0]})


def test_two_cells_and_a_gap_by_hand():
    target = torch.tensor([[[1, 1, 0, 1, 1]]])
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 0.5, -1.0, 3.0]], dtype=torch.float64)[None, :, None]
    value = border_cross_entropy(logits, target, w0=4, sigma=3, class_weights=torch.tensor([2.0, 1.0]))
    above = below = 0.0
    for x, (label, sums) in enumerate(zip([1, 1, 0, 1, 1], [4, 2, 2, 2, 4], strict=True)):
        weight = (2.0 if label == 0 else 1.0) + 4 * math.exp(-(sums**2) / 18)
        scores = logits[0, :, 0, x].tolist()
        above += weight * (math.log(sum(math.exp(score) for score in scores)) - scores[label])
        below += weight
    assert value.item() == pytest.approx(above / below, rel=1e-6)


def test_without_border_weight_it_is_cross_entropy():
    logits, target = random_batch()
    weights = torch.tensor([0.5, 2.0, 3.0, 1.0])
    torch.testing.assert_close(
        border_cross_entropy(logits, target, w0=0, class_weights=weights),
        cross_entropy(logits, target, class_weights=weights),
    )
    one = torch.zeros(1, 9, 9, dtype=torch.long)
    one[0, 2:5, 2:5] = 1  # one object alone has no neighbour to be parted from
    logits = torch.randn(1, 2, 9, 9)
    torch.testing.assert_close(border_cross_entropy(logits, one), cross_entropy(logits, one))


def test_equals_cross_entropy_weighted_pixel_by_pixel():
    logits, target = random_batch()
    weights = (1 + 10 * border_weights(target, sigma=2).double()) * (target != 255)
    values = torch.nn.functional.cross_entropy(logits, target, ignore_index=255, reduction="none")
    torch.testing.assert_close(border_cross_entropy(logits, target, sigma=2), (weights * values).sum() / weights.sum())


def test_errors():
    with pytest.raises(ArgumentError, match=r"w0 must be 0 or more; got -1"):
        BorderCrossEntropy(w0=-1)
    with pytest.raises(ArgumentError, match=r"sigma must be a positive number of pixels; got 0"):
        BorderCrossEntropy(sigma=0)
    with pytest.raises(ArgumentError, match=r"background must be a label or None; got True"):
        BorderCrossEntropy(background=True)

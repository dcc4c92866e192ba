from __future__ import annotations

import warnings

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.dice import soft_dice
from delineate.losses.tversky import Tversky, tversky
from tests.losses.semantic_loss import SemanticLossTester, random_batch


class TestTversky(SemanticLossTester):
    loss = Tversky
    variants = ({}, {"gamma": 4 / 3, "class_weights": [0.0, 1.0, 2.0, 3.0]}, {"alpha": 0.9, "beta": 0.2, "gamma": 0.5})


def test_by_hand():
    # class 0: TP 3/4, FP 1/4 + 1/4, FN 1/4; class 1: TP 3/4 + 3/4, FP 1/4, FN 1/4 + 1/4
    logits = torch.log(torch.tensor([[0.75, 0.25, 0.25], [0.25, 0.75, 0.75]])).reshape(1, 2, 1, 3)
    target = torch.tensor([[[0, 1, 1]]])
    first, second = 0.75 / (0.75 + 0.2 * 0.5 + 0.6 * 0.25), 1.5 / (1.5 + 0.2 * 0.25 + 0.6 * 0.5)
    value = tversky(logits, target, alpha=0.2, beta=0.6)
    assert value.item() == pytest.approx(1 - (first + second) / 2, rel=1e-6)
    focal = tversky(logits, target, alpha=0.2, beta=0.6, gamma=2)
    assert focal.item() == pytest.approx(((1 - first) ** 0.5 + (1 - second) ** 0.5) / 2, rel=1e-6)


@pytest.mark.parametrize("weights", [None, [0.0, 1.0, 2.0, 0.5]])
def test_equal_prices_are_dice(weights):
    logits, target = random_batch()
    tensor = None if weights is None else torch.tensor(weights)
    torch.testing.assert_close(
        tversky(logits, target, alpha=0.5, beta=0.5, class_weights=tensor),
        soft_dice(logits, target, class_weights=tensor),
    )


def test_prices_of_one_are_the_soft_jaccard_loss():
    logits, target = random_batch()
    probs, counted = logits.softmax(1), target != 255
    scores = []
    for label in range(4):
        p, g = probs[:, label][counted], (target == label)[counted].double()
        scores.append(1 - (p * g).sum() / (p + g - p * g).sum())
    torch.testing.assert_close(tversky(logits, target, alpha=1, beta=1), torch.stack(scores).mean())


def test_equals_segmentation_models_pytorch_when_every_class_is_present():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = pytest.importorskip("segmentation_models_pytorch.losses")
    logits, _ = random_batch()
    target = torch.arange(60).reshape(2, 5, 6) % 4
    reference = losses.TverskyLoss("multiclass", smooth=0.0, alpha=0.3, beta=0.7)(logits, target)
    torch.testing.assert_close(tversky(logits, target), reference, rtol=1e-6, atol=1e-6)


def test_a_miss_costs_more_than_a_false_positive():
    target = torch.tensor([[[1, 1, 0, 0]]])
    missed = torch.tensor([[0.0, 0.0, 9.0, 9.0], [9.0, 0.0, 0.0, 0.0]]).reshape(1, 2, 1, 4)
    invented = torch.tensor([[0.0, 0.0, 0.0, 9.0], [9.0, 9.0, 0.0, 0.0]]).reshape(1, 2, 1, 4)
    only_one = torch.tensor([0.0, 1.0])
    assert tversky(missed, target, class_weights=only_one) > tversky(invented, target, class_weights=only_one)


def test_gradient_is_finite_at_a_perfect_overlap():
    logits = torch.tensor([200.0, 0.0]).reshape(1, 2, 1, 1).requires_grad_()
    tversky(logits, torch.tensor([[[0]]]), gamma=4 / 3).backward()
    assert logits.grad.isfinite().all()


def test_errors():
    with pytest.raises(ArgumentError, match=r"alpha must be a positive number; got 0"):
        Tversky(alpha=0)
    with pytest.raises(ArgumentError, match=r"gamma must be a positive number; got -1"):
        Tversky(gamma=-1)

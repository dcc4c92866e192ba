from __future__ import annotations

import warnings

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.dice import SoftDice, soft_dice
from tests.losses.semantic_loss import SemanticLossTester, random_batch


class TestSoftDice(SemanticLossTester):
    loss = SoftDice
    variants = ({}, {"power": 2}, {"class_weights": [0.0, 1.0, 2.0, 3.0]})


def naive(logits, target, *, power=1, weights=None, ignore_index=255):
    probs = logits.softmax(1)
    scores, total = 0.0, 0.0
    for label in range(logits.shape[1]):
        p, g = probs[:, label][target != ignore_index], (target == label)[target != ignore_index].double()
        if g.sum() > 0:
            weight = 1.0 if weights is None else weights[label]
            scores += weight * (1 - 2 * (p * g).sum() / ((p**power).sum() + g.sum()))
            total += weight
    return scores / total


def test_by_hand():
    # class 0: overlap 3/4, areas (3/4 + 1/4) and 1 -> Dice 3/4; class 1: overlap 3/4, areas 1 and 1 -> Dice 3/4
    logits = torch.log(torch.tensor([[0.75, 0.25], [0.25, 0.75]])).reshape(1, 2, 1, 2)
    target = torch.tensor([[[0, 1]]])
    assert soft_dice(logits, target).item() == pytest.approx(0.25, rel=1e-6)
    # power 2: areas 9/16 + 1/16 + 1 = 13/8, so Dice = 1.5 / 1.625
    assert soft_dice(logits, target, power=2).item() == pytest.approx(1 - 12 / 13, rel=1e-6)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("weights", [None, [0.0, 1.0, 2.0, 0.5]])
def test_equals_the_naive_twin(power: int, weights):
    logits, target = random_batch()
    value = soft_dice(logits, target, power=power, class_weights=None if weights is None else torch.tensor(weights))
    torch.testing.assert_close(value, naive(logits, target, power=power, weights=weights))


def test_equals_segmentation_models_pytorch_when_every_class_is_present():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = pytest.importorskip("segmentation_models_pytorch.losses")
    logits, _ = random_batch()
    target = torch.arange(60).reshape(2, 5, 6) % 4
    reference = losses.DiceLoss("multiclass", smooth=0.0)(logits, target)
    torch.testing.assert_close(soft_dice(logits, target), reference, rtol=1e-6, atol=1e-6)


def test_an_absent_class_is_left_out_of_the_mean():
    logits, target = random_batch()
    target[target == 2] = 0
    torch.testing.assert_close(soft_dice(logits, target), naive(logits, target))
    sure = torch.nn.functional.one_hot(torch.where(target == 255, 0, target), 4).permute(0, 3, 1, 2) * 60.0
    assert soft_dice(sure, target).item() == pytest.approx(0, abs=1e-6)


def test_only_classes_of_weight_zero_gives_zero():
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    value = soft_dice(logits, torch.zeros(1, 2, 2, dtype=torch.long), class_weights=torch.tensor([0.0, 1.0]))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_errors():
    logits, target = random_batch()
    with pytest.raises(ArgumentError, match=r"power must be 1 or 2; got 3"):
        soft_dice(logits, target, power=3)
    with pytest.raises(ArgumentError, match=r"power must be 1 or 2; got 0"):
        SoftDice(power=0)
    with pytest.raises(ArgumentError, match=r"class_weights must hold 4 values, one a class; got \(5,\)"):
        soft_dice(logits, target, class_weights=torch.ones(5))

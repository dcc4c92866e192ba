from __future__ import annotations

import pytest
import torch
from torch.nn.functional import one_hot

from delineate.errors import ArgumentError
from delineate.losses.generalised_dice import GeneralisedDice, generalised_dice
from tests.losses.semantic_loss import SemanticLossTester, random_batch


class TestGeneralisedDice(SemanticLossTester):
    loss = GeneralisedDice
    variants = ({}, {"weighting": "simple"}, {"weighting": "uniform", "class_weights": [0.0, 1.0, 2.0, 3.0]})


def naive(logits, target, *, power=2, ignore_index=255):
    """The paper's formula, class by class over the pixels that count."""
    probs = logits.softmax(1).movedim(1, 0)
    above = below = 0.0
    for label, prob in enumerate(probs):
        p, r = prob[target != ignore_index], (target == label)[target != ignore_index].double()
        if r.sum() > 0:
            weight = 1 / r.sum() ** power
            above += weight * (r * p).sum()
            below += weight * (r + p).sum()
    return 1 - 2 * above / below


@pytest.mark.parametrize(("weighting", "power"), [("square", 2), ("simple", 1), ("uniform", 0)])
def test_equals_the_naive_twin(weighting: str, power: int):
    logits, target = random_batch()
    torch.testing.assert_close(
        generalised_dice(logits, target, weighting=weighting), naive(logits, target, power=power)
    )


def test_by_hand():
    # class 0: one pixel, p = 3/4 there and 1/4 on each of two others; class 1: two pixels, 3/4 each, 1/4 on the other
    logits = torch.log(torch.tensor([[0.75, 0.25, 0.25], [0.25, 0.75, 0.75]])).reshape(1, 2, 1, 3)
    target = torch.tensor([[[0, 1, 1]]])
    above = 1 * 0.75 + 0.25 * 1.5
    below = 1 * (1 + 1.25) + 0.25 * (2 + 1.75)
    assert generalised_dice(logits, target).item() == pytest.approx(1 - 2 * above / below, rel=1e-6)


def test_a_class_that_is_absent_or_tiny_keeps_the_loss_bounded():
    logits, target = random_batch(classes=4)
    target[target == 2] = 0
    value = generalised_dice(logits, target)
    torch.testing.assert_close(value, naive(logits, target))
    right = one_hot(torch.where(target == 255, 0, target), 4).permute(0, 3, 1, 2) * 60.0
    assert generalised_dice(right, target).item() == pytest.approx(0, abs=1e-6)
    one = torch.zeros(1, 600, 600, dtype=torch.long)
    one[0, 0, 0] = 1
    large = torch.zeros(1, 3, 600, 600).requires_grad_()
    generalised_dice(large, one).backward()
    assert large.grad.isfinite().all()
    assert large.grad[0, 1, 0, 0] < 0  # the lone pixel is pulled to its class


def test_only_classes_of_weight_zero_gives_zero():
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    value = generalised_dice(logits, torch.zeros(1, 2, 2, dtype=torch.long), class_weights=torch.tensor([0.0, 1.0]))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_errors():
    with pytest.raises(ArgumentError, match=r"weighting must be one of square, simple, uniform; got 'cubic'"):
        GeneralisedDice(weighting="cubic")
    logits, target = random_batch()
    with pytest.raises(ArgumentError, match=r"class_weights must hold 4 values, one a class; got \(2,\)"):
        generalised_dice(logits, target, class_weights=torch.ones(2))

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from delineate.errors import ArgumentError
from delineate.losses.sigmoid_focal import sigmoid_focal


def test_one_value_by_hand():
    # p = 3/4: of the right answer 1/4 * (1/4)^2 * ln(4/3), of the wrong one 3/4 * (3/4)^2 * ln 4
    values = sigmoid_focal(torch.full((2,), math.log(3)), torch.tensor([1.0, 0.0]))
    assert values.tolist() == pytest.approx([math.log(4 / 3) / 64, 27 / 64 * math.log(4)], rel=1e-5)


@pytest.mark.parametrize("alpha", [0.25, 0.9, None])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_equals_torchvision_with_its_gradient(alpha, gamma):
    targets, found = (torch.rand(5, 7, 3, dtype=torch.float64) < 0.3).double(), []
    start = torch.randn(5, 7, 3, dtype=torch.float64) * 4
    for form in (
        lambda x: sigmoid_focal(x, targets, alpha=alpha, gamma=gamma),
        lambda x: sigmoid_focal_loss(x, targets, alpha=-1 if alpha is None else alpha, gamma=gamma),
    ):
        leaf = start.clone().requires_grad_()
        values = form(leaf)
        values.sum().backward()
        found.append((values.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1])


def test_gamma_zero_is_cross_entropy():
    logits, targets = torch.randn(20), (torch.rand(20) < 0.5).float()
    expected = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(sigmoid_focal(logits, targets, alpha=None, gamma=0), expected)


def test_truth_values_and_half_precision():
    logits, targets = torch.randn(6, 2), torch.rand(6, 2) < 0.5
    values = sigmoid_focal(logits, targets)
    assert torch.equal(values, sigmoid_focal(logits, targets.float()))
    half = sigmoid_focal(logits.bfloat16(), targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, sigmoid_focal(logits.bfloat16().float(), targets))
    assert sigmoid_focal(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_sure_answers_have_finite_gradients(gamma, logit):
    leaf = torch.full((2,), logit, requires_grad=True)
    values = sigmoid_focal(leaf, torch.tensor([0.0, 1.0]), gamma=gamma)
    values.sum().backward()
    assert values.isfinite().all()
    assert leaf.grad.isfinite().all()
    right = int(logit > 0)
    assert values[right] == 0  # the wrong one costs 200 times its weight
    assert values[1 - right].item() == pytest.approx(200 * (0.75 if logit > 0 else 0.25))


def test_the_gradient_is_the_slope():
    targets, leaf = torch.tensor([1.0, 0, 1, 0]).double(), torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal(x, targets), (leaf,))


def test_errors():
    with pytest.raises(ArgumentError, match=r"alpha must lie between 0 and 1; got -1\. None weighs both answers 1"):
        sigmoid_focal(torch.zeros(1), torch.zeros(1), alpha=-1)
    with pytest.raises(ArgumentError, match=r"gamma must be 0 or more; got -2"):
        sigmoid_focal(torch.zeros(1), torch.zeros(1), gamma=-2)

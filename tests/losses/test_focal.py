from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from delineate.errors import ArgumentError
from delineate.losses.cross_entropy import cross_entropy
from delineate.losses.focal import Focal, focal
from tests.losses.semantic_loss import SemanticLossTester, random_batch


class TestFocal(SemanticLossTester):
    loss = Focal
    variants = ({}, {"gamma": 0.5}, {"gamma": 3, "alpha": [0.1, 0.2, 0.3, 0.4]})


def test_one_pixel_by_hand():
    # p = 3/4, gamma 2, alpha 1/2: 1/2 * (1/4)^2 * ln(4/3)
    logits = torch.tensor([math.log(3), 0.0]).reshape(1, 2, 1, 1)
    value = focal(logits, torch.tensor([[[0]]]), gamma=2, alpha=torch.tensor([0.5, 1.0]))
    assert value.item() == pytest.approx(0.5 / 16 * math.log(4 / 3), rel=1e-5)


def test_gamma_zero_is_cross_entropy():
    logits, target = random_batch()
    torch.testing.assert_close(focal(logits, target, gamma=0.0), cross_entropy(logits, target))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_two_classes_equal_torchvisions_sigmoid_form(gamma: float):
    logits, target = random_batch(classes=2)
    counted = target != 255
    difference = (logits[:, 1] - logits[:, 0])[counted]
    reference = sigmoid_focal_loss(difference, target[counted].double(), alpha=0.25, gamma=gamma, reduction="mean")
    torch.testing.assert_close(focal(logits, target, gamma=gamma, alpha=torch.tensor([0.75, 0.25])), reference)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_gradient_is_finite_where_the_true_class_has_probability_one(gamma: float):
    logits = torch.tensor([200.0, 0.0]).reshape(1, 2, 1, 1).requires_grad_()
    focal(logits, torch.tensor([[[0]]]), gamma=gamma).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_errors():
    logits, target = random_batch()
    with pytest.raises(ArgumentError, match=r"gamma must be 0 or more; got -1"):
        Focal(gamma=-1)
    with pytest.raises(ArgumentError, match=r"alpha must hold 4 values, one a class; got \(2,\)"):
        focal(logits, target, alpha=torch.ones(2))

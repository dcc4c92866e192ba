from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from delineate.errors import ArgumentError
from delineate.losses.boundary import Boundary, boundary
from tests.losses.semantic_loss import SemanticLossTester, random_batch


class TestBoundary(SemanticLossTester):
    loss = Boundary
    variants = ({}, {"class_weights": [0.0, 1.0, 2.0, 3.0]})


def released_distances(target: np.ndarray, classes: int) -> np.ndarray:
    """The distance maps of the authors' code: at least 1 outside, 0 and less inside."""
    maps = np.zeros((classes, *target.shape))
    for label in range(classes):
        inside = target == label
        if inside.any():
            maps[label] = distance_transform_edt(~inside) * ~inside - (distance_transform_edt(inside) - 1) * inside
    return maps


def test_gradient_is_that_of_the_authors_distance_maps():
    logits, _ = random_batch(batch=1)
    target = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (1, 5, 6)))
    ours = logits.clone().requires_grad_()
    boundary(ours, target).backward()
    # half a pixel apart for every class alike, which the softmax does not feel
    theirs = logits.clone().requires_grad_()
    maps = torch.from_numpy(released_distances(target[0].numpy(), 4))[None]
    ((maps * theirs.softmax(1)).sum() / target.numel()).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-7)


def test_one_mistaken_pixel_costs_its_distances():
    target = torch.tensor([[[0, 0, 0, 1, 1]]])
    sure = torch.nn.functional.one_hot(target, 2).permute(0, 3, 1, 2) * 80.0
    near, far = sure.clone(), sure.clone()
    near[0, :, 0, 2] = sure[0, :, 0, 2].flip(0)
    far[0, :, 0, 0] = sure[0, :, 0, 0].flip(0)
    # half a pixel, or two and a half, beyond the outline of 1 and inside that of 0; a fifth of the pixels
    assert boundary(sure, target).item() == pytest.approx(0, abs=1e-6)
    assert boundary(near, target).item() == pytest.approx((0.5 + 0.5) / 5, rel=1e-5)
    assert boundary(far, target).item() == pytest.approx((2.5 + 2.5) / 5, rel=1e-5)
    assert boundary(far, target, class_weights=torch.tensor([0.0, 1.0])).item() == pytest.approx(0.5, rel=1e-5)


def test_a_gradient_step_moves_the_outline_to_the_truth():
    target = torch.zeros(1, 12, 12, dtype=torch.long)
    target[0, 3:9, 3:9] = 1
    shifted = torch.zeros(1, 2, 12, 12)
    shifted[0, 1] = -1.0
    shifted[0, 1, 5:11, 5:11] = 1.0
    shifted.requires_grad_()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(boundary(shifted, target), shifted)
        shifted = (shifted - 5 * gradient).detach().requires_grad_()
    assert torch.equal(shifted.argmax(1), target)


def test_a_class_without_an_outline_costs_nothing():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = boundary(logits, torch.ones(1, 4, 4, dtype=torch.long))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_errors():
    logits, target = random_batch()
    with pytest.raises(ArgumentError, match=r"class_weights must hold 4 values, one a class; got \(2,\)"):
        boundary(logits, target, class_weights=torch.ones(2))

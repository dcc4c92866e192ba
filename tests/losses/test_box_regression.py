from __future__ import annotations

import math

import jaxtyping
import pytest
import torch
import torchvision.ops as reference

from delineate.errors import ArgumentError
from delineate.losses.box_regression import (
    complete_iou_loss,
    distance_iou_loss,
    generalised_iou_loss,
    iou_loss,
    smooth_l1,
)
from delineate.ops import boxes as overlaps

FORMS = {
    "generalised": (generalised_iou_loss, reference.generalized_box_iou_loss),
    "distance": (distance_iou_loss, reference.distance_box_iou_loss),
    "complete": (complete_iou_loss, reference.complete_box_iou_loss),
}
MATRICES = {
    "iou": (iou_loss, overlaps.box_iou),
    "generalised": (generalised_iou_loss, overlaps.generalised_box_iou),
    "distance": (distance_iou_loss, overlaps.distance_box_iou),
    "complete": (complete_iou_loss, overlaps.complete_box_iou),
}
each_form = pytest.mark.parametrize(("form", "theirs"), FORMS.values(), ids=FORMS)
each_matrix = pytest.mark.parametrize(("form", "matrix"), MATRICES.values(), ids=MATRICES)


def boxes(seed, count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, 2, generator=generator, dtype=dtype).mul(100).sort(dim=1).values.reshape(count, 4)


def test_by_hand():
    a, b = torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[0.0, 0, 2, 4]])
    assert iou_loss(a, b).item() == pytest.approx(2 / 3)
    assert generalised_iou_loss(a, b).item() == pytest.approx(2 / 3 + 4 / 16)
    assert distance_iou_loss(a, b).item() == pytest.approx(2 / 3 + 2 / 32)
    turn = (math.atan(2) - math.atan(0.5)) ** 2 * 4 / math.pi**2
    assert complete_iou_loss(a, b).item() == pytest.approx(2 / 3 + 2 / 32 + turn**2 / (2 / 3 + turn))


@each_form
def test_equals_torchvision_with_its_gradient(form, theirs):
    targets, gradients = boxes(1, 60), []
    for function in (form, theirs):
        leaf = boxes(0, 60).requires_grad_()
        values = function(leaf, targets)
        values.sum().backward()
        gradients.append((values.detach(), leaf.grad))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)  # torchvision adds 1e-7 below


@each_matrix
def test_is_the_diagonal_of_the_matrix(form, matrix):
    a, b = boxes(0, 20), boxes(1, 20)
    torch.testing.assert_close(form(a, b), 1 - matrix(a, b).diagonal(), rtol=0, atol=1e-12)


@each_matrix
def test_perfect_boxes_cost_nothing(form, matrix):
    some = boxes(0, 20)
    torch.testing.assert_close(form(some, some), torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (form(some, boxes(1, 20)) > 0).all()


@each_matrix
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_boxes_without_area_are_finite(form, matrix, dtype):
    flat = [
        [1, 1, 1, 1],
        [0, 1, 5, 1],
        [1, 0, 1, 5],
        [3, 3, 1, 1],
        [0, 0, 4, 4],
        [1e4, 1e4, 1e4, 1e4],
        [-1e6, 0, 1e6, 0],
    ]
    pairs = torch.tensor(flat, dtype=dtype)
    first, second = pairs.repeat_interleave(len(flat), 0).requires_grad_(), pairs.repeat(len(flat), 1)
    values = form(first, second)
    values.sum().backward()
    assert values.isfinite().all()
    assert first.grad.isfinite().all()


@pytest.mark.parametrize("form", [iou_loss, generalised_iou_loss, distance_iou_loss])
def test_the_gradient_is_the_slope(form):
    targets = boxes(5, 6)
    assert torch.autograd.gradcheck(lambda leaf: form(leaf, targets), (boxes(4, 6).requires_grad_(),))


@pytest.mark.parametrize("form", [generalised_iou_loss, distance_iou_loss, complete_iou_loss])
def test_boxes_that_do_not_meet_are_pulled_together(form):
    target, leaf = torch.tensor([[50.0, 50, 60, 60]]), torch.tensor([[0.0, 0, 10, 10]], requires_grad=True)
    form(leaf, target).sum().backward()
    moved = (leaf - leaf.grad * 100).detach()
    assert form(moved, target).item() < form(leaf, target).item()


@each_matrix
def test_empty_and_half_precision(form, matrix):
    leaf = torch.zeros(0, 4, requires_grad=True)
    values = form(leaf, torch.zeros(0, 4))
    assert values.shape == (0,)
    values.sum().backward()
    assert leaf.grad.shape == (0, 4)
    a, b = boxes(0, 5).bfloat16(), boxes(1, 5).bfloat16()
    assert form(a, b).dtype == torch.float32
    torch.testing.assert_close(form(a, b), form(a.float(), b.float()))


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_smooth_l1_is_py_faster_rcnns(sigma):
    difference = torch.linspace(-2, 2, 41, dtype=torch.float64)
    near = difference.abs() < 1 / sigma**2
    expected = torch.where(near, 0.5 * (sigma * difference) ** 2, difference.abs() - 0.5 / sigma**2)
    found = smooth_l1(difference, torch.zeros_like(difference), beta=1 / sigma**2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_smooth_l1_of_any_shape():
    a, b = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(smooth_l1(a, b, beta=0), (a - b).abs())
    assert smooth_l1(a.bfloat16(), b).dtype == torch.float32
    assert smooth_l1(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    leaf = torch.randn(9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: smooth_l1(x, torch.zeros_like(x), beta=0.2), (leaf,))


def test_errors(monkeypatch):
    with pytest.raises(ArgumentError, match=r"beta must be 0 or more; got -1"):
        smooth_l1(torch.zeros(1), torch.zeros(1), beta=-1)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    message = r"targets must be one box for each prediction, \(3, 4\); got \(2, 4\)\. For every pair use"
    with pytest.raises(ArgumentError, match=message):
        iou_loss(torch.zeros(3, 4), torch.zeros(2, 4))

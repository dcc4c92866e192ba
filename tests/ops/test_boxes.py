import math

import jaxtyping
import pytest
import torch
import torchvision.ops as reference

from delineate.errors import ArgumentError
from delineate.ops.boxes import box_iou, complete_box_iou, distance_box_iou, generalised_box_iou

FORMS = {
    "iou": (box_iou, reference.box_iou),
    "generalised": (generalised_box_iou, reference.generalized_box_iou),
    "distance": (distance_box_iou, reference.distance_box_iou),
    "complete": (complete_box_iou, reference.complete_box_iou),
}
each_form = pytest.mark.parametrize(("form", "theirs"), FORMS.values(), ids=FORMS)


def boxes(seed, count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, 2, generator=generator, dtype=dtype).mul(100).sort(dim=1).values.reshape(count, 4)


def test_by_hand():
    a, b = torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[0.0, 0, 2, 4]])
    assert box_iou(a, b).item() == pytest.approx(1 / 3)
    assert generalised_box_iou(a, b).item() == pytest.approx(1 / 3 - 4 / 16)
    assert distance_box_iou(a, b).item() == pytest.approx(1 / 3 - 2 / 32)
    turn = (math.atan(2) - math.atan(0.5)) ** 2 * 4 / math.pi**2
    assert complete_box_iou(a, b).item() == pytest.approx(1 / 3 - 2 / 32 - turn**2 / (2 / 3 + turn))


@each_form
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torchvision(form, theirs, grad, dtype):
    a, b = boxes(0, 40, dtype), boxes(1, 30, dtype)
    a.requires_grad_(grad)
    found = form(a, b)
    assert found.dtype == dtype
    assert found.requires_grad == grad
    torch.testing.assert_close(found, theirs(a, b), rtol=0, atol=1e-7 if dtype == torch.float64 else 2e-6)


@each_form
def test_half_precision_answers_in_float32(form, theirs):
    a, b = boxes(0, 6).bfloat16(), boxes(1, 5).bfloat16()
    assert form(a, b).dtype == torch.float32
    torch.testing.assert_close(form(a, b), theirs(a.float(), b.float()), rtol=0, atol=1e-6)


@each_form
def test_with_and_without_a_gradient_agree_on_boxes_without_area(form, theirs):
    flat = torch.tensor([[1, 1, 1, 1], [0, 1, 5, 1], [1, 0, 1, 5], [3, 3, 1, 1], [0, 0, 4, 4]], dtype=torch.float64)
    plain = form(flat, flat)
    assert plain.isfinite().all()
    leaf = flat.clone().requires_grad_()
    differentiable = form(leaf, flat)
    torch.testing.assert_close(differentiable.detach(), plain, rtol=0, atol=1e-12)
    differentiable.sum().backward()
    assert leaf.grad.isfinite().all()
    assert theirs(flat, flat)[:4, :4].isnan().any()  # what this module exists to avoid


@each_form
def test_the_gradient_is_torchvisions(form, theirs):
    gradients = []
    for function in (form, theirs):
        leaf = boxes(2, 12).requires_grad_()
        function(leaf, boxes(3, 9)).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", [box_iou, generalised_box_iou, distance_box_iou])
def test_the_gradient_is_the_slope(form):
    assert torch.autograd.gradcheck(form, (boxes(4, 3).requires_grad_(), boxes(5, 4).requires_grad_()))


@each_form
def test_empty_sets(form, theirs):
    assert form(torch.zeros(0, 4), boxes(0, 3, torch.float32)).shape == (0, 3)
    assert form(boxes(0, 3, torch.float32), torch.zeros(0, 4, requires_grad=True)).shape == (3, 0)


@pytest.mark.gpu
@each_form
def test_on_a_gpu(form, theirs):
    a, b = boxes(0, 20), boxes(1, 10)
    torch.testing.assert_close(form(a.cuda(), b.cuda()).cpu(), form(a, b), rtol=0, atol=1e-12)


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    message = r"boxes2 must be \(N, 4\) xyxy pixels; got shape \(7, 5\)\. If column 4 is a score, pass boxes2\[:, :4\]"
    with pytest.raises(ArgumentError, match=message):
        box_iou(torch.zeros(3, 4), torch.zeros(7, 5))
    with pytest.raises(ArgumentError, match=r"boxes1 must be \(N, 4\) xyxy pixels; got shape \(4,\)\.$"):
        complete_box_iou(torch.zeros(4), torch.zeros(7, 4))

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from delineate.errors import ArgumentError
from delineate.losses.cross_entropy import CrossEntropy, cross_entropy
from tests.losses.semantic_loss import SemanticLossTester, random_batch


def naive(logits, target, *, weights=None, ignore_index=255, smoothing=0.0):
    """Pixel by pixel in Python floats."""
    classes = logits.shape[1]
    weights = [1.0] * classes if weights is None else weights
    above = below = 0.0
    for b, y, x in torch.cartesian_prod(*(torch.arange(n) for n in target.shape)).tolist():
        label = int(target[b, y, x])
        if label == ignore_index:
            continue
        values = [float(v) for v in logits[b, :, y, x]]
        log_sum = math.log(sum(math.exp(v) for v in values))
        above += (1 - smoothing) * weights[label] * (log_sum - values[label])
        above += smoothing / classes * sum(w * (log_sum - v) for w, v in zip(weights, values, strict=True))
        below += weights[label]
    return above / below


class TestCrossEntropy(SemanticLossTester):
    loss = CrossEntropy
    variants = (
        {},
        {"class_weights": [0.5, 2.0, 0.0, 1.0]},
        {"label_smoothing": 0.1, "class_weights": [1.0, 2.0, 3.0, 4.0]},
    )


def test_two_pixels_by_hand():
    # p(true) = 3/4 and 1/2, weights 1 and 3: (ln 4/3 + 3 ln 2) / 4
    logits = torch.tensor([[[[math.log(3), 0.0]], [[0.0, 0.0]]]])
    target = torch.tensor([[[0, 1]]])
    value = cross_entropy(logits, target, class_weights=torch.tensor([1.0, 3.0]))
    assert value.item() == pytest.approx((math.log(4 / 3) + 3 * math.log(2)) / 4, rel=1e-6)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0, 1.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_equals_the_naive_twin_and_torch(weights, smoothing: float):
    logits, target = random_batch()
    tensor = None if weights is None else torch.tensor(weights)
    value = cross_entropy(logits, target, class_weights=tensor, label_smoothing=smoothing)
    assert value.item() == pytest.approx(naive(logits, target, weights=weights, smoothing=smoothing), rel=1e-9)
    reference = functional.cross_entropy(
        logits, target, weight=None if tensor is None else tensor.double(), ignore_index=255, label_smoothing=smoothing
    )
    torch.testing.assert_close(value, reference)


def test_scaling_all_class_weights_changes_nothing():
    logits, target = random_batch()
    weights = torch.tensor([0.5, 2.0, 3.0, 1.0])
    torch.testing.assert_close(
        cross_entropy(logits, target, class_weights=weights), cross_entropy(logits, target, class_weights=7 * weights)
    )


def test_only_classes_of_weight_zero_gives_zero():
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    value = cross_entropy(logits, torch.zeros(1, 2, 2, dtype=torch.long), class_weights=torch.tensor([0.0, 1.0]))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_class_weights_are_no_part_of_the_state():
    assert CrossEntropy(class_weights=[1.0, 2.0]).state_dict() == {}


def test_errors():
    logits, target = random_batch()
    with pytest.raises(ArgumentError, match=r"class_weights must hold 4 values, one a class; got \(3,\)"):
        cross_entropy(logits, target, class_weights=torch.ones(3))
    with pytest.raises(ArgumentError, match=r"label_smoothing must lie in 0\.\.1; got 1\.5"):
        CrossEntropy(label_smoothing=1.5)

from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.cross_entropy import CrossEntropy, cross_entropy
from delineate.losses.partial_labels import REMOVED, asked_classes, check_labelled, marginal_logits
from delineate.losses.weighted_sum import WeightedSum
from delineate.structures.outputs import SemanticOutputs
from tests.losses.semantic_loss import random_batch

ODDS = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)  # probabilities 0.1, 0.2, 0.3, 0.4


def answers(valid: list[bool], **options) -> list[float]:
    logits = ODDS.log().reshape(1, 4, 1, 1)
    return marginal_logits(logits, torch.tensor([valid]), **options).softmax(1).flatten().tolist()


def test_by_hand():
    assert answers([True, True, False, True]) == pytest.approx([1 / 7, 2 / 7, 0, 4 / 7])
    assert answers([True, True, False, True], rest_class=0) == pytest.approx([0.4, 0.2, 0, 0.4])
    assert answers([True, False, False, True], rest_class=0) == pytest.approx([0.6, 0, 0, 0.4])
    assert answers([True, False, True, True], rest_class=3) == pytest.approx([0.1, 0, 0.3, 0.6])
    # a data set that does not label the rest class ignores what it does not label
    assert answers([False, True, False, True], rest_class=0) == pytest.approx([0, 1 / 3, 0, 2 / 3])
    assert answers([True, False, False, False], rest_class=0) == pytest.approx([1, 0, 0, 0])


def test_images_are_independent_and_whole_ones_unchanged():
    logits, _ = random_batch()
    valid = torch.tensor([[True, False, True, True], [True] * 4])
    for rest_class in (None, 2):
        result = marginal_logits(logits, valid, rest_class=rest_class)
        torch.testing.assert_close(result[1], logits[1], rtol=0, atol=1e-12)
        torch.testing.assert_close(result[:1], marginal_logits(logits[:1], valid[:1], rest_class=rest_class))
        assert (result[0, 1] == REMOVED).all()


def test_the_marginal_cross_entropy_is_that_of_the_summed_probability():
    # background in a set that labels only class 1: -log(p0 + p2 + p3)
    logits = ODDS.log().reshape(1, 4, 1, 1)
    valid = torch.tensor([[True, True, False, False]])
    loss = CrossEntropy(rest_class=0)
    value = loss(SemanticOutputs(logits), torch.tensor([[[0]]]), valid_classes=valid)["loss"]
    assert value.item() == pytest.approx(-torch.tensor(0.8, dtype=torch.float64).log().item(), rel=1e-9)
    # and with label smoothing the even share goes to the two classes that are asked
    smooth = CrossEntropy(rest_class=0, label_smoothing=0.2)
    value = smooth(SemanticOutputs(logits), torch.tensor([[[0]]]), valid_classes=valid)["loss"]
    rest, one = -torch.tensor([0.8, 0.2], dtype=torch.float64).log()
    assert value.item() == pytest.approx((0.9 * rest + 0.1 * one).item(), rel=1e-9)


def test_gradient_is_that_of_finite_differences():
    logits, target = random_batch(1)
    valid = torch.tensor([[True, False, True, True], [True, True, True, False]])
    target[target == 1] = 255
    target[target == 3] = 2
    logits.requires_grad_()
    for rest_class in (None, 2):
        loss = lambda x, r=rest_class: cross_entropy(marginal_logits(x, valid, rest_class=r), target)  # noqa: E731
        assert torch.autograd.gradcheck(loss, (logits,))


def test_half_precision_is_left_behind():
    logits, _ = random_batch(2, dtype=torch.bfloat16)
    valid = torch.tensor([[True, False, True, True], [True] * 4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = marginal_logits(logits, valid, rest_class=0)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, marginal_logits(logits.float(), valid, rest_class=0))
    assert asked_classes(result).sum((2, 3)).bool().tolist() == valid.tolist()


def test_a_weighted_sum_hands_the_classes_on():
    logits, target = random_batch()
    valid = torch.tensor([[True, False, True, True], [True] * 4])
    target[0][target[0] == 1] = 0
    loss = CrossEntropy(rest_class=0)
    alone = loss(SemanticOutputs(logits), target, valid_classes=valid)["loss"]
    both = WeightedSum({"ce": (loss, 2.0)})(SemanticOutputs(logits), target, valid_classes=valid)
    torch.testing.assert_close(both["loss"], 2 * alone)
    assert not torch.isclose(alone, loss(SemanticOutputs(logits), target)["loss"])


def test_side_heads_are_asked_for_the_same_classes():
    logits, target = random_batch()
    valid = torch.tensor([[True, False, True, True], [True] * 4])
    target[0][target[0] == 1] = 0
    side = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    loss = CrossEntropy(auxiliary_weight=1.0)
    result = loss(SemanticOutputs(logits, (side,)), target, valid_classes=valid)
    torch.testing.assert_close(
        result["auxiliary"], loss(SemanticOutputs(side), target, valid_classes=valid)["loss"].detach()
    )


def test_a_label_that_the_image_may_not_hold_is_refused():
    valid = torch.tensor([[True, False, True], [True, True, True]])
    check_labelled(torch.tensor([[[0, 2, 255]], [[1, 1, 2]]]), valid)
    with pytest.raises(
        ArgumentError, match=r"target must hold only classes that valid_classes grants the image; got \[1\]\. Declare"
    ):
        check_labelled(torch.tensor([[[0, 1, 255]], [[1, 1, 2]]]), valid)
    with pytest.raises(ArgumentError, match="valid_classes grants"):
        CrossEntropy()(SemanticOutputs(torch.zeros(1, 3, 1, 1)), torch.tensor([[[1]]]), valid_classes=valid[:1])


def test_errors():
    logits, _ = random_batch()
    valid = torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ArgumentError, match=r"valid_classes must hold .* \(2, 4\); got \(2, 3\)"):
        marginal_logits(logits, valid[:, :3])
    with pytest.raises(ArgumentError, match=r"rest_class must be a class, 0\.\.3; got 4"):
        marginal_logits(logits, valid, rest_class=4)

from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.cross_entropy import CrossEntropy
from delineate.losses.dice import SoftDice
from delineate.losses.weighted_sum import WeightedSum
from delineate.structures.outputs import SemanticOutputs
from tests.losses.semantic_loss import Ranks, random_batch


def test_total_is_the_weighted_sum_and_parts_are_unweighted():
    logits, target = random_batch()
    outputs = SemanticOutputs(logits.requires_grad_(), (logits[:, :, ::2, ::2],))
    values = WeightedSum({"ce": (CrossEntropy(), 0.5), "dice": (SoftDice(), 2)})(outputs, target)
    parts = {"ce": CrossEntropy()(outputs, target)["loss"], "dice": SoftDice()(outputs, target)["loss"]}
    assert list(values) == ["loss", "ce", "dice"]
    torch.testing.assert_close(values["loss"], 0.5 * parts["ce"] + 2 * parts["dice"])
    torch.testing.assert_close(values["dice"], parts["dice"].detach())
    assert values["loss"].requires_grad
    assert not values["ce"].requires_grad


def test_the_normaliser_reaches_every_loss():
    logits, target = random_batch()
    ranks = Ranks(1)
    WeightedSum({"ce": (CrossEntropy(), 1), "dice": (SoftDice(), 1)})(
        SemanticOutputs(logits), target, normaliser=ranks.recording(0)
    )
    assert [value.ndim for value in ranks.records[0]] == [0, 1, 1, 1]


def test_a_sum_of_one_moves_with_the_module():
    losses = WeightedSum({"ce": (CrossEntropy(class_weights=[1.0, 2.0]), 1.0)}).to("meta")
    assert next(losses.buffers()).device.type == "meta"


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ({}, "losses must hold at least one loss; got none."),
        ({"loss": (CrossEntropy(), 1.0)}, "losses must be named other than 'loss', without dots; got 'loss'."),
        ({"ce": (CrossEntropy(), 0)}, "weight of ce must be a positive number; got 0."),
        ({"ce": (CrossEntropy(), float("nan"))}, "weight of ce must be a positive number; got nan."),
    ],
)
def test_errors(losses, said: str):
    with pytest.raises(ArgumentError) as caught:
        WeightedSum(losses)
    assert str(caught.value) == said

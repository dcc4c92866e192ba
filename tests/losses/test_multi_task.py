from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.cross_entropy import CrossEntropy
from delineate.losses.dice import SoftDice
from delineate.losses.multi_task import MultiTaskSum
from delineate.structures.outputs import SemanticOutputs
from tests.losses.semantic_loss import Ranks, random_batch


def two_tasks(seed: int = 0):
    (first, labels), (second, others) = random_batch(seed), random_batch(seed + 1, classes=2)
    outputs = {"parts": SemanticOutputs(first), "shadow": SemanticOutputs(second), "unused": None}
    return outputs, {"parts": labels, "shadow": others}


def test_fixed_weights():
    outputs, targets = two_tasks()
    values = MultiTaskSum({"parts": (CrossEntropy(), 2), "shadow": (SoftDice(), 0.5)})(outputs, targets)
    parts = CrossEntropy()(outputs["parts"], targets["parts"])["loss"]
    shadow = SoftDice()(outputs["shadow"], targets["shadow"])["loss"]
    torch.testing.assert_close(values["loss"], 2 * parts + 0.5 * shadow)
    torch.testing.assert_close(values["shadow"], shadow)
    assert list(values) == ["loss", "parts", "shadow"]


def test_fixed_weights_have_no_parameters_and_learned_ones_one_a_task():
    losses = {"parts": (CrossEntropy(), 1.0), "shadow": (SoftDice(), 1.0)}
    assert list(MultiTaskSum(losses).parameters()) == []
    learned = MultiTaskSum(losses, weighting="uncertainty")
    assert {name for name, _ in learned.named_parameters()} == {"log_variances.parts", "log_variances.shadow"}


def test_uncertainty_starts_as_the_plain_sum():
    outputs, targets = two_tasks()
    losses = {"parts": (CrossEntropy(), 1.0), "shadow": (SoftDice(), 1.0)}
    torch.testing.assert_close(
        MultiTaskSum(losses, weighting="uncertainty")(outputs, targets)["loss"],
        MultiTaskSum(losses)(outputs, targets)["loss"],
    )


def test_learned_weights_settle_where_every_task_counts_alike():
    outputs, targets = two_tasks()
    learned = MultiTaskSum({"parts": (CrossEntropy(), 1.0), "shadow": (SoftDice(), 1.0)}, weighting="uncertainty")
    optimizer = torch.optim.LBFGS(learned.parameters(), max_iter=50)

    def closure():
        optimizer.zero_grad()
        loss = learned(outputs, targets)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    for task, value in learned(outputs, targets).items():
        if task != "loss":
            assert torch.exp(learned.log_variances[task]).item() == pytest.approx(value.item(), rel=1e-3)


def test_the_normaliser_reaches_every_loss():
    outputs, targets = two_tasks()
    ranks = Ranks(1)
    MultiTaskSum({"parts": (CrossEntropy(), 1), "shadow": (SoftDice(), 1)})(
        outputs, targets, normaliser=ranks.recording(0)
    )
    assert [value.ndim for value in ranks.records[0]] == [0, 1, 1, 1]


def test_errors():
    with pytest.raises(ArgumentError, match=r"losses must hold at least one task; got none\."):
        MultiTaskSum({})
    with pytest.raises(ArgumentError, match=r"losses must be named other than 'loss', without dots; got 'a\.b'\."):
        MultiTaskSum({"a.b": (CrossEntropy(), 1.0)})
    with pytest.raises(ArgumentError, match=r"weight of a must be a positive number; got 0\."):
        MultiTaskSum({"a": (CrossEntropy(), 0)})
    with pytest.raises(ArgumentError, match=r"weighting must be one of fixed, uncertainty; got 'learned'\."):
        MultiTaskSum({"a": (CrossEntropy(), 1.0)}, weighting="learned")
    outputs, targets = two_tasks()
    with pytest.raises(ArgumentError, match=r"targets must hold every task: shadow; got none for \['shadow'\]\."):
        MultiTaskSum({"shadow": (CrossEntropy(), 1.0)})(outputs, {"parts": targets["parts"]})

"""Parameter groups and learning-rate schedules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from delineate.engine.optimization import create_optimizer, parameter_groups, schedule_factor
from delineate.engine.recipe_sections import OptimizerRecipe, ScheduleRecipe
from delineate.errors import ArgumentError


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)


def test_groups_split_encoder_and_decay():
    model = Segmenter()
    groups = parameter_groups(model, OptimizerRecipe(lr=0.1, encoder_lr=0.5, weight_decay=0.01))
    found = {(group["lr"], group["weight_decay"]): len(group["params"]) for group in groups}
    # encoder: one kernel decays, its bias and two vectors of the norm do not; head: one kernel, one bias
    assert found == {(0.05, 0.01): 1, (0.05, 0.0): 3, (0.1, 0.01): 1, (0.1, 0.0): 1}
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


def test_decay_all_and_a_model_without_an_encoder():
    groups = parameter_groups(nn.Linear(2, 2), OptimizerRecipe(decay_all=True, weight_decay=0.1))
    assert [group["weight_decay"] for group in groups] == [0.1]


def test_a_rate_for_no_encoder_is_an_error():
    with pytest.raises(ArgumentError, match="without an encoder; got 4"):
        parameter_groups(nn.Linear(2, 2), OptimizerRecipe(encoder_lr=4.0))


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_optimizers_by_name(name, kind):
    assert isinstance(create_optimizer(Segmenter(), OptimizerRecipe(name=name)), kind)


@pytest.mark.parametrize("total", [1, 7, 100])
def test_poly_equals_the_formula(total):
    factor = schedule_factor(ScheduleRecipe(name="poly", power=0.9), total)
    for step in range(total):
        assert factor(step) == pytest.approx((1 - step / total) ** 0.9)


def test_one_cycle_equals_torch():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    total = 40
    # torch ends its phases on whole steps: it rises over 0.3 * total - 1 steps and falls over the rest
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=total, pct_start=(12 + 1) / total
    )
    factor = schedule_factor(ScheduleRecipe(name="one_cycle", warmup=0.3), total)
    theirs = []
    for _ in range(total):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(theirs) < total:
            reference.step()
    ours = [factor(step) for step in range(total)]
    assert ours[:13] == pytest.approx(theirs[:13], abs=1e-9)
    assert ours[-1] == pytest.approx(theirs[-1], abs=0.02)
    assert max(ours) == ours[12] == 1.0


def test_warm_up_rises_linearly_then_cosine_falls_to_the_floor():
    factor = schedule_factor(ScheduleRecipe(name="cosine", warmup=0.1, floor=0.05), 100)
    assert [factor(step) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factor(10) == 1.0
    assert factor(55) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
    assert factor(99) == 0.05
    assert factor(500) == 0.05


def test_constant_stays():
    factor = schedule_factor(ScheduleRecipe(name="constant"), 10)
    assert {factor(step) for step in range(12)} == {1.0}

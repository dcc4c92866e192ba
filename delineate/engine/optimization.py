"""Optimizers and learning-rate schedules of a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from delineate.checks import require
from delineate.engine.recipe_sections import OptimizerRecipe, ScheduleRecipe


def parameter_groups(model: nn.Module, recipe: OptimizerRecipe) -> list[dict[str, Any]]:
    """The trainable weights in up to four groups: encoder or not, decayed or not.

    Biases, normalisation and other vectors are not decayed unless the recipe says ``decay_all``. The encoder is the
    sub-module called ``encoder``, where a model has one.

    Raises:
        ArgumentError: when the recipe has a rate for the encoder of a model without one.
    """
    part = getattr(model, "encoder", None)
    has_one = isinstance(part, nn.Module)
    advice = f"{type(model).__name__} learns at one rate."
    require(has_one or recipe.encoder_lr == 1, "encoder_lr", "be 1 without an encoder", recipe.encoder_lr, advice)
    encoder = {id(p) for p in part.parameters()} if isinstance(part, nn.Module) else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decayed = recipe.decay_all or parameter.ndim > 1
            groups.setdefault((id(parameter) in encoder, decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": recipe.lr * (recipe.encoder_lr if in_encoder else 1.0),
            "weight_decay": recipe.weight_decay if decayed else 0.0,
        }
        for (in_encoder, decayed), parameters in groups.items()
    ]


def create_optimizer(model: nn.Module, recipe: OptimizerRecipe, *, fused: bool = True) -> Optimizer:
    """The optimizer of the recipe over the trainable weights of ``model``; AdamW in one kernel where ``fused``."""
    groups = parameter_groups(model, recipe)
    if recipe.name == "sgd":
        return SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
    return AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=fused)


def schedule_factor(recipe: ScheduleRecipe, total_steps: int) -> Callable[[int], float]:
    """The factor on the peak learning rate at each optimizer step, a pure function of the step.

    Args:
        recipe: the schedule.
        total_steps: optimizer steps of the whole run.

    Returns:
        ``factor(step)`` for step 0 (the first) to ``total_steps - 1`` and beyond.

    Example:
        >>> factor = schedule_factor(ScheduleRecipe(name="poly", power=1.0, warmup=0.0), 10)
        >>> [round(factor(step), 2) for step in (0, 5, 9, 10)]
        [1.0, 0.5, 0.1, 0.0]
    """
    require(total_steps > 0, "total_steps", "be positive", total_steps)
    share = recipe.warmup if recipe.warmup is not None else (0.3 if recipe.name == "one_cycle" else 0.0)
    warmup = round(share * total_steps)

    def cosine(start: float, end: float, t: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * t)) / 2

    def factor(step: int) -> float:
        if step < warmup:
            if recipe.name == "one_cycle":
                return cosine(1 / 25, 1.0, step / warmup)
            return (step + 1) / warmup
        t = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
        if recipe.name == "one_cycle":
            return cosine(1.0, 1e-4, t)
        if recipe.name == "poly":
            return max((1 - t) ** recipe.power, recipe.floor)
        if recipe.name == "cosine":
            return max(cosine(1.0, 0.0, t), recipe.floor)
        return 1.0

    return factor

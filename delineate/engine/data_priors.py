"""Priors that the training boxes decide: a recipe that says ``priors: data`` gets numbers before its model is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from delineate.data.anchor_priors import anchor_priors
from delineate.data.fitted_boxes import FittedBoxes, fitted_boxes
from delineate.data.object_augmentation import eval_fit, resolved
from delineate.data.samples import ObjectSamples
from delineate.engine.recipe import Recipe
from delineate.engine.task import Task
from delineate.engine.weights import card_beside, without_downloads
from delineate.errors import RecipeError
from delineate.models.catalogue import create_model
from delineate.models.multibox import clustered_boxes
from delineate.models.yolov2 import STRIDE

FROM_DATA = "data"
DIGITS = 4  # of a prior in a recipe: far below a pixel, and what a person can read
MOST_CLUSTERED = 20_000  # boxes among which whole boxes are clustered: more of them cost minutes and move nothing


def with_data_priors(recipe: Recipe, task: Task, samples: Any, options: Mapping[str, Any]) -> Recipe:
    """The recipe with numbers in place of ``priors: data`` or ``priors: {count: 7}``; any other as it is.

    Boxes are clustered at the size that the model sees: their sides in cells by 1 - IoU for YOLO, whole boxes as shares
    of the picture for MultiBox. A recipe that starts from a run of the same model with as many priors of its own keeps
    those, as the run's weights are relative to them.

    Args:
        recipe: of one stage.
        task: its row.
        samples: of the training split.
        options: what the model is made with.

    Raises:
        RecipeError: when the model's priors are of another kind, or the split has fewer different boxes than priors.
    """
    asked = recipe.model.get("priors")
    if not isinstance(asked, str | Mapping):
        return recipe
    count = asked_count(asked)
    with torch.device("meta"):
        model = create_model(recipe.model["name"], **{**without_downloads(options), "priors": None})
    usual = getattr(model, "priors", None)
    if not isinstance(usual, Tensor) or usual.ndim != 2 or usual.shape[1] not in (2, 4):
        raise RecipeError(f"model.priors must be numbers for '{recipe.model['name']}'; got {asked}.")
    count = len(usual) if count is None else count
    found = _priors_before(recipe, count) or _clustered(recipe, task, samples, model, usual, count)
    return msgspec.structs.replace(recipe, model={**recipe.model, "priors": found})


def asked_count(asked: str | Mapping[str, Any]) -> int | None:
    """How many priors a recipe asks of the data; None for as many as the model usually has.

    Raises:
        RecipeError: when it asks for something else.

    Example:
        >>> asked_count("data"), asked_count({"count": 7})
        (None, 7)
    """
    if asked == FROM_DATA:
        return None
    count = asked.get("count") if isinstance(asked, Mapping) and set(asked) == {"count"} else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise RecipeError(f"model.priors must be data, {{count: N}} with N above 0, or a list of numbers; got {asked}.")
    return count


def _priors_before(recipe: Recipe, count: int) -> list[list[float]] | None:
    """The priors of the run that the recipe starts from, if it is of the same model and has so many."""
    if not recipe.start.weights:
        return None
    card = card_beside(recipe.start.weights)
    if card is None or card.name != recipe.model["name"]:
        return None
    priors = card.options.get("priors")
    return priors if isinstance(priors, list) and len(priors) == count else None


def _clustered(
    recipe: Recipe, task: Task, samples: ObjectSamples, model: nn.Module, usual: Tensor, count: int
) -> list[list[float]]:
    seen = task.fitted(recipe, samples, model).augmentation
    boxes = fitted_boxes(samples.truth(), eval_fit(resolved(seen)))
    seed = recipe.trainer.seed
    if usual.shape[1] == 2:
        sides = boxes.sides / STRIDE
        _check_enough(recipe, len(np.unique(sides, axis=0)), count, "box sizes")
        found = anchor_priors(sides, count, seed=seed).sizes
    else:
        shares = _drawn(boxes, seed).shares(_multiple(model))
        _check_enough(recipe, len(np.unique(shares.astype(np.float32), axis=0)), count, "boxes")
        found = clustered_boxes(torch.from_numpy(shares).float(), count, seed=seed).double().numpy()
    listed: list[list[float]] = np.round(found, DIGITS).tolist()
    return listed


def _drawn(boxes: FittedBoxes, seed: int) -> FittedBoxes:
    """All boxes, or some of very many."""
    if len(boxes) <= MOST_CLUSTERED:
        return boxes
    rows = np.sort(np.random.default_rng(seed).choice(len(boxes), MOST_CLUSTERED, replace=False))
    return FittedBoxes(boxes.corners[rows], boxes.sizes[rows])


def _multiple(model: nn.Module) -> int:
    """What the sides of the model's input are padded to."""
    return int(model.encoder.strides[-1])  # type: ignore[union-attr, index]


def _check_enough(recipe: Recipe, different: int, count: int, what: str) -> None:
    if different < count:
        advice = f"Ask for fewer, with priors: {{count: {different}}}." if different else "Choose a split with objects."
        raise RecipeError(
            f"model.priors must be no more than the different {what} in split '{recipe.data.train_split}' of "
            f"'{recipe.data.name}', {different} in all; got {count}. {advice}"
        )

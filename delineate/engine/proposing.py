"""Two stages that learn in turns: which of them a loss leaves out, and a fixed detector that proposes to another one.

Source: Ren, He, Girshick, Sun, "Faster R-CNN", NIPS 2015, section 3.2, "4-step alternating training".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from delineate.engine.recipe import Recipe
from delineate.engine.recipe_sections import BEFORE
from delineate.engine.weights import load_weights
from delineate.errors import DelineateError, RecipeError
from delineate.models.faster_rcnn import FasterRCNN
from delineate.structures.preprocessing import Preprocessing

FIRST_STAGE = ("encoder", "neck", "proposals")  # a two-stage detector's parts before its regions


def learns(recipe: Recipe, half: str) -> bool:
    """Whether the recipe's loss has something of that half, "proposals" or "regions".

    Example:
        >>> from delineate.engine.recipe import build_recipe
        >>> recipe = build_recipe({"model": "faster_rcnn", "loss": [{"name": "region_detection", "regions": 0}]})
        >>> learns(recipe, "proposals"), learns(recipe, "regions")
        (True, False)
    """
    return bool(recipe.loss[0].get(half, 1) != 0)


def left_out(model: nn.Module, recipe: Recipe) -> list[str]:
    """The parts of a two-stage detector that the recipe's loss teaches nothing; none of any other model."""
    if not isinstance(model, FasterRCNN):
        return []
    names = [] if learns(recipe, "proposals") else ["proposals"]
    if not learns(recipe, "regions"):
        names += [name for name, _ in model.named_children() if name not in FIRST_STAGE]
    return names


class Proposer:
    """A fixed two-stage detector's proposals.

    It is no module: checkpoints, averages and processes that train together know nothing of it, and a copy of what
    holds it holds the same one.

    Args:
        detector: whose first stage is asked.
    """

    def __init__(self, detector: FasterRCNN) -> None:
        self.detector = detector.eval().requires_grad_(False)
        self._device: torch.device | None = None

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor, sizes: Sequence[tuple[int, int]], *, training: bool) -> list[Tensor]:
        """The proposals of each image, best first.

        Args:
            images: preprocessed.
            sizes: (height, width) of each image, without padding.
            training: whether they are as many as a detector in training looks at.
        """
        if images.device != self._device:
            self.detector.to(images.device)
            self._device = images.device
        # the mode decides how many there are, and in these parts nothing else
        self.detector.training = training
        outputs = self.detector.proposed(images, sizes)
        counts = torch.bincount(outputs.images, minlength=len(images))
        return list(outputs.regions.split(counts.tolist()))


def load_proposer(
    recipe: Recipe, model: nn.Module, *, preprocessing: Preprocessing, fit: Mapping[str, Any]
) -> Proposer | None:
    """What proposes in the model's place; None where the recipe names nothing.

    Args:
        recipe: whose ``start.proposals`` is a run's folder or its weights.
        model: that learns.
        preprocessing: pixels to the model's input.
        fit: how pictures become of the size that the model sees, as in a model card.

    Raises:
        RecipeError: when either is no two-stage detector, or the other one has learnt from other pictures than this one
            will.
    """
    given = recipe.start.proposals
    if not given:
        return None
    check_two_stages(model, recipe)
    if given == BEFORE:
        raise RecipeError(f"start.proposals must name a run or its weights; got {BEFORE}, where no stage is before.")
    try:
        detector, card = load_weights(Path(given).expanduser())
    except DelineateError as error:
        raise RecipeError(f"start.proposals: {error}") from None
    check_proposing(detector, card.name, given)
    if card.preprocessing != preprocessing:
        raise RecipeError(
            f"start.proposals must see pixels as this run does, {_told(preprocessing)}; got '{given}' with "
            f"{_told(card.preprocessing)}."
        )
    check_fits(fit, card.fit, given)
    assert isinstance(detector, FasterRCNN)
    if recipe.trainer.channels_last:  # as the images come
        detector = detector.to(memory_format=torch.channels_last)
    return Proposer(detector)


def check_two_stages(model: nn.Module, recipe: Recipe) -> None:
    """Raise unless the model that learns has regions."""
    if not isinstance(model, FasterRCNN):
        raise RecipeError(
            f"start.proposals must be left out for '{recipe.model['name']}', which has no regions; got "
            f"'{recipe.start.proposals}'."
        )


def check_proposing(detector: nn.Module, name: str, place: str) -> None:
    """Raise unless the model that is to propose can."""
    if not isinstance(detector, FasterRCNN):
        raise RecipeError(
            f"start.proposals must name a two-stage detector, such as a run of faster_rcnn; got '{place}' with {name}."
        )


def check_fits(ours: Mapping[str, Any], theirs: Mapping[str, Any], place: str) -> None:
    """Raise unless both detectors see a picture at one size, by what a model card or an augmentation says of it."""
    keys = ("fit", "shortest", "longest") if ours.get("fit") == "shortest" else ("fit", "size")
    differing = [key for key in keys if theirs.get(key) != ours.get(key)]
    if differing:
        shown = ", ".join(f"{key} {theirs.get(key)} where this run has {ours.get(key)}" for key in differing)
        raise RecipeError(
            f"start.proposals must see pictures at the size of this run; got '{place}' with {shown}. Set augmentation "
            "as it was there."
        )


def _told(preprocessing: Preprocessing) -> str:
    values = preprocessing.to_dict()
    return ", ".join(f"{key} {value}" for key, value in values.items())

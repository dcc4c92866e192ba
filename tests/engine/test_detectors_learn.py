"""Detectors find the built-in digits after minutes of training from scratch: the recipes in recipes/digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from delineate.data.digits_objects import DigitObjects
from delineate.engine.object_evaluation import ObjectEvaluation
from delineate.engine.predictors import measure
from delineate.engine.recipe import Recipe, build_recipe, read_recipe
from delineate.engine.tasks import LEARNT
from delineate.engine.training import train
from delineate.models.catalogue import MODELS, create_model, list_models

RECIPES = Path(__file__).parents[2] / "recipes" / "digits"
DETECTORS = {name for task in ("detection", "instances", "keypoints") for name in list_models(task=task)}
LEARNERS = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem in DETECTORS)
FOUND = 0.9  # AP50 of boxes
DESCRIBED = {"masks": 0.85, "keypoints": 0.6}  # of what is found beside them, after one pass: 0.891 and 0.715


def recipe_of(name: str) -> Recipe:
    return build_recipe(read_recipe(RECIPES / f"{name}.yaml"))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_small_recipe_says_what_it_reached_and_fits_its_model(name: str) -> None:
    text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    recipe = recipe_of(name)
    assert recipe.model["name"] == name
    assert recipe.data.path == "digits"
    # priors that the data decide are numbers before a model is made
    options = {key: value for key, value in recipe.model.items() if key != "name" and not isinstance(value, dict)}
    with torch.device("meta"):
        model = create_model(name, num_classes=10, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) < 4_000_000
    # raises where the model does not take pictures of that size
    digits = DigitObjects(recipe.data.val_split, length=2)
    assert LEARNT[MODELS[name].task].fitted(recipe, digits, model).augmentation["size"] is not None


@pytest.mark.slow  # minutes each on two cores
@pytest.mark.training
@pytest.mark.parametrize("name", LEARNERS)
def test_a_detector_learns_to_find_digits(name: str, tmp_path: Path) -> None:
    run = train(RECIPES / f"{name}.yaml", out=tmp_path / name, progress=False)
    evaluation = measure(run, "digits", split=recipe_of(name).data.val_split)
    assert isinstance(evaluation, ObjectEvaluation)
    assert evaluation.kind == {"instances": "masks", "keypoints": "keypoints"}.get(MODELS[name].task, "boxes")
    assert evaluation.scores["ap50"] > DESCRIBED.get(evaluation.kind, FOUND)
    assert evaluation.scores.get("boxes", evaluation.scores)["ap50"] > FOUND

"""A recipe of several stages, each trained from the weights of the one before.

Staged fine-tuning (FCN-32s, then 16s, then 8s), freezing first and thawing later, and curricula (easy images, small
crops, then everything) are all of this form: the same recipe with some values changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from delineate.engine.recipe import Recipe, build_recipe
from delineate.engine.run import Run
from delineate.engine.session import Session
from delineate.errors import RecipeError
from delineate.models.catalogue import model_options


def stage_recipes(recipe: Recipe) -> list[Recipe]:
    """One whole recipe for each stage; the recipe itself when it has none.

    Each stage's values are laid over the recipe's: sections key by key, lists as a whole. A stage of another model
    keeps the options that this model has too, and a stage with another augmentation preset takes that preset's values.

    Raises:
        RecipeError: when the changes of a stage are wrong; names the stage.

    Example:
        >>> stages = [{}, {"model": {"name": "fcn16s"}, "optimizer": {"lr": 0.0001}}]
        >>> recipe = build_recipe({"model": {"name": "fcn32s", "width": 0.5}, "stages": stages})
        >>> [(stage.model["name"], stage.model["width"], stage.optimizer.lr) for stage in stage_recipes(recipe)]
        [('fcn32s', 0.5, 0.001), ('fcn16s', 0.5, 0.0001)]
    """
    if not recipe.stages:
        return [recipe]
    base = {**recipe.to_dict(), "stages": []}
    recipes = []
    for number, changes in enumerate(recipe.stages, start=1):
        if "stages" in changes or (number > 1 and "weights" in _mapping(changes.get("start"))):
            raise RecipeError(
                f"stages.{number - 1} must not set stages or start.weights; got them. A stage starts from the weights "
                "of the one before it."
            )
        try:
            recipes.append(build_recipe(_laid_over(base, changes)))
        except RecipeError as error:
            raise RecipeError(f"stages.{number - 1}: {error}") from None
    return recipes


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(base)
    for key, change in changes.items():
        before = values.get(key)
        if key == "model":
            change = {"name": change} if isinstance(change, str) else dict(_mapping(change))
            name = change.get("name", base["model"]["name"])
            known = model_options(name)
            values[key] = {option: value for option, value in base["model"].items() if option in known} | change
            values[key]["name"] = name
        elif isinstance(before, Mapping) and isinstance(change, Mapping):
            anew = key == "augmentation" and "preset" in change
            values[key] = dict(change) if anew else {**before, **change}
        else:
            values[key] = change
    return values


def train_stages(recipe: Recipe, run: Run, *, resume: bool, progress: bool) -> Run:
    """Train the stages one after another: the last into ``run``, the others into ``stages/1``, ``stages/2``... in it.

    A finished stage is not trained again: a run that was stopped goes on with the stage it was in.
    """
    recipes = stage_recipes(recipe)
    folders = [Run(run.path / "stages" / str(number)) for number in range(1, len(recipes))]
    if not resume:
        run.path.mkdir(parents=True, exist_ok=True)
        recipe.write(run.recipe)  # before the first stage, so that the folder is a run that can be resumed
    before: Run | None = None
    for own, folder in zip(recipes, [*folders, run], strict=True):
        if before is not None:
            start = msgspec.structs.replace(own.start, weights=str(before.path.resolve()))
            own = msgspec.structs.replace(own, start=start)
        if folder is run or not folder.weights.is_file():
            folder.path.mkdir(parents=True, exist_ok=True)
            began = folder.last_checkpoint.is_file()
            session = Session(own, devices=1, written=recipe if folder is run else None)
            session.fit(folder, resume=resume and began, progress=progress)
        before = folder
    return run


def final_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the weights a run ends with: that of its last stage."""
    return stage_recipes(recipe)[-1]

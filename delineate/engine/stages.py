"""A recipe of several stages, each trained from the weights of the one before, or from others that it names.

Staged fine-tuning (FCN-32s, then 16s, then 8s), freezing first and thawing later, curricula (easy images, small crops,
then everything) and the alternating training of Faster R-CNN are all of this form: the same recipe with some values
changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from torch import nn

from delineate.engine.checkpointing import TrainingInterrupted
from delineate.engine.preparation import check_recipe
from delineate.engine.proposing import check_fits, check_proposing, check_two_stages
from delineate.engine.recipe import Recipe, build_recipe, read_recipe
from delineate.engine.recipe_sections import BEFORE
from delineate.engine.run import Run
from delineate.engine.session import Session
from delineate.errors import DelineateError, RecipeError
from delineate.models.catalogue import model_options


def stage_recipes(recipe: Recipe) -> list[Recipe]:
    """One whole recipe for each stage; the recipe itself when it has none.

    Each stage's values are laid over the recipe's: sections key by key, lists as a whole. A stage of another model
    keeps the options that this model has too, and a stage with another augmentation preset takes that preset's values.
    A stage behind another starts from the weights of the one before, unless its own changes say from what.

    Raises:
        RecipeError: when the changes of a stage are wrong; names the stage.

    Example:
        >>> stages = [{}, {"model": {"name": "fcn16s"}, "optimizer": {"lr": 0.0001}}]
        >>> recipe = build_recipe({"model": {"name": "fcn32s", "width": 0.5}, "stages": stages})
        >>> [(stage.model["name"], stage.model["width"], stage.optimizer.lr) for stage in stage_recipes(recipe)]
        [('fcn32s', 0.5, 0.001), ('fcn16s', 0.5, 0.0001)]
        >>> [stage.start.weights for stage in stage_recipes(recipe)]
        ['', 'before']
    """
    if not recipe.stages:
        return [recipe]
    base = {**recipe.to_dict(), "stages": []}
    recipes = []
    for number, changes in enumerate(recipe.stages, start=1):
        if "stages" in changes:
            raise RecipeError(f"stages.{number - 1} must not set stages; got them. Write one list of all.")
        with _place(number):
            recipes.append(build_recipe(_laid_over(base, changes)))
        base["start"] = {**base["start"], "weights": BEFORE}
    return recipes


@contextmanager
def _place(number: int) -> Iterator[None]:
    """Errors name the stage they are of."""
    try:
        yield
    except DelineateError as error:
        raise RecipeError(f"stages.{number - 1}: {error}") from None


def _laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(base)
    for key, change in changes.items():
        before = values.get(key)
        if key == "model" and isinstance(change, str | Mapping):
            change = {"name": change} if isinstance(change, str) else {"name": base["model"]["name"], **change}
            known = model_options(change["name"]) if isinstance(change["name"], str) else {}
            kept = {option: value for option, value in base["model"].items() if option in known}
            values[key] = {"name": change["name"], **kept, **change}
        elif isinstance(before, Mapping) and isinstance(change, Mapping):
            anew = key == "augmentation" and "preset" in change
            values[key] = dict(change) if anew else {**before, **change}
        elif change is not None or key in ("model", "loss", "adversarial"):  # an empty section changes nothing
            values[key] = change
    return values


def _folders(run: Run, count: int) -> list[Run]:
    """Where each stage's run is: the last in ``run`` itself, the others in ``stages/1``, ``stages/2``... in it."""
    return [Run(run.path / "stages" / str(number)) for number in range(1, count)] + [run]


def _finished(stage: Run) -> bool:
    """Whether the stage has its weights, of which the card is written last."""
    return stage.weights.is_file() and stage.weights.with_suffix(".json").is_file()


def check_stages(recipe: Recipe, run: Run | None = None) -> Recipe:
    """The recipe of the last stage, once every stage has been looked through for what would stop it later.

    Args:
        recipe: with stages.
        run: the run that goes on, whose finished stages need nothing any more.

    Raises:
        RecipeError: when a stage cannot be trained; names it.
    """
    recipes = stage_recipes(recipe)
    folders = [None] * len(recipes) if run is None else _folders(run, len(recipes))
    before: tuple[nn.Module, Recipe] | None = None
    for number, (own, folder) in enumerate(zip(recipes, folders, strict=True), start=1):
        if folder is None or folder is run or not _finished(folder):
            began = folder is not None and folder.last_checkpoint.is_file()
            # what comes from the stage before is not there yet
            alone = own if number == 1 else _starting(own, "")
            with _place(number):
                model, fitted = check_recipe(alone, folder if began else None)
                if own.start.proposals == BEFORE:
                    check_two_stages(model, own)
                if before is not None:
                    _check_follows(model, msgspec.structs.replace(fitted, start=own.start), *before)
            before = model, fitted
    return recipes[-1]


def _starting(recipe: Recipe, before: str) -> Recipe:
    """The recipe with a path, or nothing, where it says "before"."""
    start = recipe.start
    places = {key: before for key in ("weights", "proposals") if getattr(start, key) == BEFORE}
    return msgspec.structs.replace(recipe, start=msgspec.structs.replace(start, **places))


def _check_follows(model: nn.Module, recipe: Recipe, model_before: nn.Module, recipe_before: Recipe) -> None:
    """Raise unless the stage before, of that model and recipe, will have what the recipe takes from it."""
    name, name_before = recipe.model["name"], recipe_before.model["name"]
    if recipe.start.weights == BEFORE and not _shared(model_before, model):
        raise RecipeError(
            f"model must share weights with that of the stage before; got '{name}', of which none has a name and a "
            "shape of its."
        )
    if recipe.start.proposals == BEFORE:
        check_proposing(model_before, name_before, BEFORE)
        check_fits(recipe.augmentation, recipe_before.augmentation, BEFORE)


def _shared(one: nn.Module, other: nn.Module) -> bool:
    """Whether any weight of one has a name and a shape of the other's."""
    shapes = {(name, weight.shape) for name, weight in one.state_dict().items() if weight.ndim}
    return any((name, weight.shape) in shapes for name, weight in other.state_dict().items())


def train_stages(recipe: Recipe, run: Run, *, resume: bool, progress: bool) -> Run:
    """Train the stages one after another: the last into ``run``, the others into ``stages/1``, ``stages/2``... in it.

    A finished stage is not trained again: a run that was stopped goes on with the stage it was in.
    """
    recipes = stage_recipes(recipe)
    run.path.mkdir(parents=True, exist_ok=True)
    recipe.write(run.recipe)  # before the first stage, so that the folder is a run that can be resumed
    before: Run | None = None
    for number, (own, folder) in enumerate(zip(recipes, _folders(run, len(recipes)), strict=True), start=1):
        if folder is not run and _finished(folder):
            _say_what_changed(own, folder, number)
            before = folder
            continue
        if before is not None:
            own = _starting(own, str(before.path.resolve()))
        folder.path.mkdir(parents=True, exist_ok=True)
        began = resume and folder.last_checkpoint.is_file()
        try:
            written = recipe if folder is run else None
            session = Session(own, devices=1, resume=folder if began else None, written=written)
            session.fit(folder, progress=progress)
        except TrainingInterrupted as error:  # whoever goes on wants all stages, not this one alone
            raise TrainingInterrupted(str(error).replace(str(folder.path), str(run.path))) from None
        before = folder
    return run


# where and how fast a stage runs, not what it learns
_NOT_LEARNT = {
    "data.path",
    "data.workers",
    "data.cache",
    "data.val_batch_size",
    "start.proposals",
    "start.weights",
    "trainer.checkpoint_minutes",
    "trainer.checkpoint_steps",
    "trainer.threads",
}


# what a recipe may leave open, or ask for by a word, and a run has as numbers
_CHOSEN_BY_DATA = (("augmentation", "crop"), ("augmentation", "size"), ("model", "priors"))


def _say_what_changed(recipe: Recipe, finished: Run, number: int) -> None:
    """Warn of values that a finished stage was not trained with."""
    asked, trained = recipe.to_dict(), build_recipe(read_recipe(finished.recipe)).to_dict()
    for section, key in _CHOSEN_BY_DATA:
        if key in asked[section] and (asked[section][key] is None or isinstance(asked[section][key], str | Mapping)):
            asked[section][key] = trained[section].get(key)
    now, then = _flat(asked), _flat(trained)
    changed = [key for key, value in now.items() if key not in _NOT_LEARNT and then.get(key) != value]
    if changed:
        shown = ", ".join(f"{key} {then.get(key)}, not {now[key]}" for key in changed[:3])
        logging.getLogger("delineate").warning(
            f"stages.{number - 1} is finished and stays as it was trained: {shown}. Change a later stage alone with "
            "--set stages.N.KEY=VALUE"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def final_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the weights a run ends with: that of its last stage."""
    return stage_recipes(recipe)[-1]

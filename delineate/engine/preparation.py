"""What a session of training begins with: the splits, the model and its first weights, each with its checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from delineate.data.order import sample_seed
from delineate.engine.checkpointing import read_checkpoint
from delineate.engine.data_priors import with_data_priors
from delineate.engine.freezing import parts_named
from delineate.engine.proposing import left_out, load_proposer
from delineate.engine.recipe import Recipe
from delineate.engine.recipe_sections import BEFORE, NONE, DataRecipe
from delineate.engine.run import Run
from delineate.engine.start_preprocessing import started_preprocessing
from delineate.engine.task import Task
from delineate.engine.tasks import LEARNT
from delineate.engine.weights import without_downloads
from delineate.errors import DelineateError, RecipeError, RunError, UnknownNameError
from delineate.models.catalogue import create_model
from delineate.models.pretrained import MatchReport, load_matching
from delineate.registry import nearest_name


def check_parts(model: nn.Module, recipe: Recipe) -> None:
    """Raise unless the recipe freezes only parts that the model has, and leaves something to learn."""
    parts, name = [part for part, _ in model.named_modules() if part], recipe.model["name"]
    frozen: set[nn.Parameter] = set()
    for part in recipe.start.freeze:
        named = parts_named(model, part)
        if named is None:
            near = nearest_name(part, parts)
            hint = f"Did you mean '{near}'?" if near else f"Its parts: {', '.join(parts[:8])}, ..."
            raise RecipeError(f"start.freeze must name parts of {name}; got '{part}'. {hint}")
        if not named:
            raise RecipeError(
                f"start.freeze must name parts of {name}; got '{part}', where there is no batch normalisation."
            )
        frozen.update(parameter for one in named for parameter in one.parameters())
    untaught = left_out(model, recipe)
    for part in untaught:
        frozen.update(model.get_submodule(part).parameters())
    if frozen and all(parameter in frozen for parameter in model.parameters()):
        listed = ", ".join(recipe.start.freeze) + (", and what the loss leaves out: " if untaught else "")
        listed += ", ".join(untaught)
        raise RecipeError(f"start.freeze must leave something to learn; got all of {name} ({listed}).")


def open_validation(task: Task, recipe: Recipe) -> Any:
    """The validation split; None when the data has none and the recipe did not ask for one by name."""
    try:
        return task.open_split(recipe, recipe.data.val_split)
    except UnknownNameError as error:
        if recipe.data.val_split != DataRecipe().val_split:
            raise RecipeError(f"data.val_split: {error}") from None
        return None


def decided_recipe(task: Task, recipe: Recipe, samples: Any) -> Recipe:
    """The recipe with numbers where it leaves options of the model to the training split, such as ``priors: data``."""
    return with_data_priors(recipe, task, samples, factory_options(task, recipe, samples))


def factory_options(task: Task, recipe: Recipe, samples: Any) -> dict[str, Any]:
    """What the model is made with: the recipe's options, and what the data decide."""
    options = {key: value for key, value in recipe.model.items() if key != "name"}
    options |= {"in_channels": recipe.data.channels, "num_classes": samples.taxonomy.num_classes}
    return options | task.decided(samples)


def new_model(recipe: Recipe, options: dict[str, Any]) -> nn.Module:
    """The model with the first weights that the recipe's seed decides, or published ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sample_seed(recipe.trainer.seed, -1, -1))
        try:
            return create_model(recipe.model["name"], **options)
        except OSError as error:
            if without_downloads(options) == options:
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunError(
                f"the published weights of model '{recipe.model['name']}' must be downloaded once; that failed "
                f"({reason}). To do without, leave out the model's pretrained or weights."
            ) from None


def load_start(model: nn.Module, recipe: Recipe) -> MatchReport | None:
    """Take over what fits of the recipe's starting weights, and say what did; None where it names none."""
    if recipe.start.weights in ("", NONE):
        return None
    if recipe.start.weights == BEFORE:
        raise RecipeError(f"start.weights must name a run or a file; got {BEFORE}, where no stage is before.")
    path = Path(recipe.start.weights).expanduser()
    try:
        return load_matching(model, Run(path).weights if path.is_dir() else path)
    except DelineateError as error:
        raise RecipeError(f"start.weights: {error}") from None


def check_resumed(model: nn.Module, run: Run) -> None:
    """Raise unless the run's last checkpoint is of this model; nothing of the run has been touched by then."""
    found = read_checkpoint(run.last_checkpoint, map_location="meta")["state_dict"]
    for name, value in model.state_dict().items():
        other = found.get(f"model.{name}")
        if other is None or other.shape != value.shape:
            theirs = "none" if other is None else f"one of {tuple(other.shape)}"
            raise RecipeError(
                f"a run that goes on must keep its model; got '{name}' of {tuple(value.shape)}, where '{run.path}' has "
                f"{theirs}. Train another model in a run of its own, with --set start.weights={run.path}"
            )


def check_recipe(recipe: Recipe, resumed: Run | None = None) -> tuple[nn.Module, Recipe]:
    """Raise what a session of the recipe would, as far as it shows before images are read.

    Args:
        recipe: of one stage.
        resumed: the run that goes on, if it does.

    Returns:
        Its model, of which shapes alone are sure to be there, and the recipe with what images and model decide.
    """
    task = LEARNT[recipe.task]
    samples = task.open_split(recipe, recipe.data.train_split)
    task.check_data(samples, recipe)
    open_validation(task, recipe)
    recipe = decided_recipe(task, recipe, samples)
    with torch.device("cpu" if recipe.start.weights not in ("", NONE) and resumed is None else "meta"):
        model = new_model(recipe, without_downloads(factory_options(task, recipe, samples)))
    check_parts(model, recipe)
    if resumed is not None:
        check_resumed(model, resumed)
    started = None if resumed is not None else load_start(model, recipe)
    preprocessing, _ = started_preprocessing(model, recipe, started, resumed)
    recipe = task.fitted(recipe, samples, model)
    fit = task.card_facts(recipe, samples).get("fit", {})
    load_proposer(recipe, model, preprocessing=preprocessing, fit=fit)
    task.losses(recipe, samples, counted=False)
    return model, recipe

"""What a session of training begins with: the splits, the model and its first weights, each with its checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from delineate.data.augmentation import Augmentation, train_mixings
from delineate.data.mixture import MixedSamples, open_mixture
from delineate.data.order import sample_seed
from delineate.data.samples import Samples
from delineate.data.statistics import WEIGHT_SCHEMES
from delineate.engine.checkpointing import read_checkpoint
from delineate.engine.recipe import Recipe
from delineate.engine.recipe_sections import DataRecipe
from delineate.engine.run import Run
from delineate.engine.weights import without_downloads
from delineate.errors import DelineateError, RecipeError, RunError, UnknownNameError
from delineate.losses.catalogue import create_losses
from delineate.losses.weighted_sum import WeightedSum
from delineate.models.catalogue import create_model
from delineate.models.pretrained import MatchReport, load_matching
from delineate.registry import nearest_name, unknown_name
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.taxonomy import Taxonomy


def check_parts(model: nn.Module, recipe: Recipe) -> None:
    """Raise unless the recipe freezes only parts that the model has, and leaves something to learn."""
    parts, name = [part for part, _ in model.named_modules() if part], recipe.model["name"]
    frozen: set[nn.Parameter] = set()
    for part in recipe.start.freeze:
        if part not in parts:
            near = nearest_name(part, parts)
            hint = f"Did you mean '{near}'?" if near else f"Its parts: {', '.join(parts[:8])}, ..."
            raise RecipeError(f"start.freeze must name parts of {name}; got '{part}'. {hint}")
        frozen.update(model.get_submodule(part).parameters())
    if frozen and all(parameter in frozen for parameter in model.parameters()):
        listed = ", ".join(recipe.start.freeze)
        raise RecipeError(f"start.freeze must leave something to learn; got all of {name} ({listed}).")


def open_split(read: DataRecipe, split: str) -> Samples:
    """A split of the recipe's data set, or of its mixture."""
    options = {"format": read.format, "on_error": read.on_error, "channels": read.channels}
    return open_mixture(read.path, split=split, classes=read.classes, **options)


def open_validation(read: DataRecipe) -> Samples | None:
    """The validation split; None when the data has none and the recipe did not ask for one by name."""
    try:
        return open_split(read, read.val_split)
    except UnknownNameError as error:
        if read.val_split != DataRecipe().val_split:
            raise RecipeError(f"data.val_split: {error}") from None
        return None


def check_adversary(samples: Samples, recipe: Recipe) -> None:
    """Raise where an adversary would judge label maps that are true only in the classes which their data set labels."""
    if recipe.adversarial is None or not isinstance(samples, MixedSamples):
        return
    for index in range(len(samples)):
        valid = samples.valid_classes(index).tolist()
        if not all(valid):
            missing = ", ".join(name for name, has in zip(samples.taxonomy.names, valid, strict=True) if not has)
            raise RecipeError(
                f"adversarial must be left out where images do not label every class; got '{samples.files(index)}', "
                f"whose data set does not label {missing}. Train without, or on data.classes that all data sets label."
            )


def factory_options(recipe: Recipe, taxonomy: Taxonomy) -> dict[str, Any]:
    """What the model is made with: the recipe's options, and what the data decides."""
    options = {key: value for key, value in recipe.model.items() if key != "name"}
    return {**options, "in_channels": recipe.data.channels, "num_classes": taxonomy.num_classes}


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
    if not recipe.start.weights:
        return None
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


def check_losses(losses: nn.Module, taxonomy: Taxonomy) -> None:
    """Raise unless the losses take outputs of as many classes as there are: tried on a single pixel."""
    losses(SemanticOutputs(torch.zeros(1, taxonomy.num_classes, 1, 1)), torch.zeros(1, 1, 1, dtype=torch.long))


def check_side_heads(losses: WeightedSum, recipe: Recipe, taxonomy: Taxonomy) -> None:
    """Raise unless each list of side heads' weights has as many as the recipe's model has heads, counted on shapes."""
    weights_of = {name: loss.auxiliary_weight for name, loss in losses.losses.items()}
    listed = {name: weights for name, weights in weights_of.items() if isinstance(weights, tuple)}
    if not listed:
        return
    options = factory_options(recipe, taxonomy)
    height, width = recipe.augmentation["crop"] or (512, 512)
    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        model = new_model(recipe, without_downloads(options)).train()
        heads = len(model(torch.empty(2, options["in_channels"], height, width)).auxiliary)
    for name, weights in listed.items():
        if len(weights) != heads:
            count = f"{heads} side head" + ("" if heads == 1 else "s")
            raise RecipeError(
                f"auxiliary_weight of loss '{name}' must hold one weight a side head; got {list(weights)}, where model "
                f"'{recipe.model['name']}' has {count}. One number, not a list, weighs any number of heads."
            )


def check_recipe(recipe: Recipe, resumed: Run | None = None) -> nn.Module:
    """Raise what a session of the recipe would, as far as it shows before images are read.

    Args:
        recipe: of one stage.
        resumed: the run that goes on, if it does.

    Returns:
        Its model, of which shapes alone are sure to be there.
    """
    samples = open_split(recipe.data, recipe.data.train_split)
    check_adversary(samples, recipe)
    open_validation(recipe.data)
    train_mixings(msgspec.convert(recipe.augmentation, Augmentation), samples.taxonomy)
    with torch.device("cpu" if recipe.start.weights and resumed is None else "meta"):
        model = new_model(recipe, without_downloads(factory_options(recipe, samples.taxonomy)))
    check_parts(model, recipe)
    if resumed is not None:
        check_resumed(model, resumed)
    else:
        load_start(model, recipe)
    losses = []
    for loss in recipe.loss:
        if isinstance(scheme := loss.get("class_weights"), str):
            if scheme not in WEIGHT_SCHEMES:
                raise unknown_name("class_weights", scheme, WEIGHT_SCHEMES)
            loss = {**loss, "class_weights": None}
        losses.append(loss)
    created = create_losses(losses, ignore_index=samples.taxonomy.ignore_index)
    check_losses(created, samples.taxonomy)
    check_side_heads(created, recipe, samples.taxonomy)
    return model

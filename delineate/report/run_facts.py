"""What the report of a run says of how it came about: the same facts for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from delineate.engine.predictor import Predictor
from delineate.engine.recipe import Recipe
from delineate.engine.recipe_sections import DataRecipe
from delineate.engine.stages import stage_recipes
from delineate.models.catalogue import model_options
from delineate.report.reported import ReportedRun

Fact = tuple[str, str]


def run_facts(recipe: Recipe, whole: Recipe, predictor: Predictor, sessions: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """Model, loss, optimizer, batches, augmentation and time.

    Args:
        recipe: of the last stage.
        whole: of the run.
        predictor: on its weights.
        sessions: of training, as ``environment.json`` has them, one at least.
    """
    shape = recipe.augmentation.get("crop") or recipe.augmentation.get("size")
    return [
        ("Model", _named(chosen(recipe.model))),
        ("Parameters", f"{sum(p.numel() for p in predictor.model.parameters()):,}"),
        ("Loss", " + ".join(_named(loss) for loss in recipe.loss)),
        ("Optimizer", f"{recipe.optimizer.name}, peak rate {recipe.optimizer.lr:g}, {recipe.schedule.name} schedule"),
        ("Batch", f"{recipe.data.batch_size} images of {_size(shape)}"),
        ("Augmentation", str(recipe.augmentation.get("preset"))),
        *_training_facts(recipe),
        *_origin_facts(whole),
        ("Epochs", str(recipe.trainer.max_epochs)),
        ("Seed", str(recipe.trainer.seed)),
        ("Precision", str(sessions[-1].get("precision", predictor.precision))),
        ("Training time", _duration(sum(session.get("seconds", 0.0) for session in sessions))),
        ("Sessions", str(len(sessions))),
    ]


def data_facts(reported: ReportedRun, split: str, images: int, classes: int) -> list[Fact]:
    """Where the images are from, and how many there are."""
    session = reported.run.read_environment().get("sessions", [{}])[-1]
    return [
        ("Path", str(reported.data or ", ".join(reported.recipe.data.paths))),
        ("Evaluated split", f"{split}, {images} images"),
        ("Training images", str(session.get("train_images", "unknown"))),
        ("Classes", str(classes)),
    ]


def _training_facts(recipe: Recipe) -> list[Fact]:
    """What training did beyond the ordinary: a fact for each of it that the recipe asks for."""
    facts: list[Fact] = []
    if recipe.data.sampling != "uniform":
        facts.append(("Sampling", recipe.data.sampling.replace("_", " ")))
    for key, name in (("cutmix", "CutMix"), ("copy_paste", "Copy-paste"), ("mosaic", "Mosaic"), ("mixup", "MixUp")):
        if share := recipe.augmentation.get(key, 0):
            facts.append((name, f"{100 * share:g} % of the images"))
    if (adversary := recipe.adversarial) is not None:
        after = f", after {adversary.after_epochs} epochs" if adversary.after_epochs else ""
        facts.append(("Adversary", f"{adversary.input}, weight {adversary.weight:g}{after}"))
    return facts


def _origin_facts(whole: Recipe) -> list[Fact]:
    """In how many stages the weights came about, and what the first one began with, where the recipe says so."""
    facts: list[Fact] = [("Stages", str(len(whole.stages)))] if whole.stages else []
    if weights := stage_recipes(whole)[0].start.weights:
        facts.append(("Starting weights", weights))
    if proposals := stage_recipes(whole)[-1].start.proposals:
        facts.append(("Proposals", proposals))
    return facts


def environment(session: Mapping[str, Any]) -> list[Fact]:
    """Versions, hardware and time of a session."""
    libraries = session.get("libraries", {})
    named = ("time", "processor", "cores", "gpu", "platform", "python", "command", "revision")
    facts = [(name, str(session[name])) for name in named if session.get(name) is not None]
    return [*facts, ("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items() if version))]


def chosen(model: dict[str, Any]) -> dict[str, Any]:
    """The model with its encoder and what else is not as by default: the recipe says the rest."""
    defaults = msgspec.json.decode(msgspec.json.encode(model_options(model["name"])))  # lists, as in a recipe
    return {key: value for key, value in model.items() if key in ("name", "encoder") or value != defaults.get(key)}


def _named(part: dict[str, Any]) -> str:
    """A model or a loss with its options, and the weight where that is not one."""
    weight = part.get("weight", 1)
    options = ", ".join(f"{key}={value}" for key, value in part.items() if key not in ("name", "weight"))
    return ("" if weight == 1 else f"{weight:g} x ") + part["name"] + (f" ({options})" if options else "")


def left_out(count: int) -> str:
    """That files were left out, in a sentence."""
    if count == 1:
        return "1 file could not be read and was left out."
    return f"{count} files could not be read and were left out."


def _size(crop: Any) -> str:
    return f"{crop[0]} x {crop[1]} pixels" if crop else "full size"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def data_name(own: DataRecipe, data: str | Path | None) -> str:
    """The folder's name, or the run's own data's."""
    return own.name if data is None else Path(data).resolve().name

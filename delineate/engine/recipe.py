"""A recipe is one validated YAML file: everything that decides what a training run does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import yaml
from msgspec import Struct

from delineate.data import augmentation, object_augmentation
from delineate.engine.recipe_sections import (
    AdversarialRecipe,
    DataRecipe,
    DecodingRecipe,
    OptimizerRecipe,
    ScheduleRecipe,
    StartRecipe,
    TrainerRecipe,
)
from delineate.errors import DelineateError, RecipeError
from delineate.files import write_text
from delineate.models.catalogue import MODELS, model_options
from delineate.registry import nearest_name, unknown_name


class Recipe(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Everything that decides what a training run does; a run folder keeps it whole, every default written out.

    Args:
        model: ``name`` and the options of its factory (``encoder``, ``pretrained``, ``output_stride`` ...).
        data: see :class:`DataRecipe`.
        augmentation: a preset's name under ``preset`` and any of its values to change.
        loss: a list of ``{name, weight, options...}``, summed; the model's own when left out. Cross-entropy's
            ``class_weights`` may be "median_frequency" or "enet", which are counted on the training split, or a list of
            numbers.
        optimizer, schedule, trainer: see their classes.
        start: weights to start from, and parts to freeze; see :class:`StartRecipe`.
        decoding: which of a detector's boxes are its answer; see :class:`DecodingRecipe`. None for the model's own way.
        adversarial: train against an adversary; see :class:`AdversarialRecipe`. None trains without.
        stages: recipes trained one after another, each from the weights of the one before: a list of values to change
            in this recipe, such as ``{model: {name: fcn16s}, optimizer: {lr: 1.0e-4}}``; ``{}`` changes nothing.
    """

    model: dict[str, Any] = msgspec.field(default_factory=lambda: {"name": "unet", "encoder": "resnet18"})
    data: DataRecipe = DataRecipe()
    augmentation: dict[str, Any] = msgspec.field(default_factory=lambda: {"preset": "medium"})
    loss: list[dict[str, Any]] = msgspec.field(default_factory=list)
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    trainer: TrainerRecipe = TrainerRecipe()
    start: StartRecipe = StartRecipe()
    decoding: DecodingRecipe | None = None
    adversarial: AdversarialRecipe | None = None
    stages: list[dict[str, Any]] = msgspec.field(default_factory=list)

    @property
    def task(self) -> str:
        """The task family of its model."""
        return MODELS[self.model["name"]].task

    @property
    def chosen_decoding(self) -> dict[str, Any]:
        """What it says of decoding; the rest is the model's own."""
        return {} if self.decoding is None else self.decoding.chosen

    def to_dict(self) -> dict[str, Any]:
        """Plain values, every default written out."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values

    def to_yaml(self) -> str:
        """The recipe as YAML that :func:`read_recipe` reads back to an equal recipe."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=110)

    def write(self, path: str | Path) -> None:
        """Write the YAML, whole or not at all."""
        write_text(path, self.to_yaml())


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The plain values of a YAML recipe, not yet checked.

    Raises:
        RecipeError: when the file is missing, is not YAML, or is not a mapping.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"recipe must be a readable file; got '{path}' ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise RecipeError(f"recipe must be YAML; got '{path}', which does not parse{place}: {what}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(f"recipe must be a mapping of sections; got a {type(values).__name__} in '{path}'.")
    return values


def build_recipe(values: Mapping[str, Any], settings: Iterable[str] = ()) -> Recipe:
    """The checked recipe of plain values with ``key.path=value`` settings laid over them.

    Raises:
        RecipeError: for an unknown key (with the nearest), a wrong type or a value out of range, naming the key.

    Example:
        >>> build_recipe({"model": {"name": "enet"}}, ["trainer.max_epochs=3", "data.batch_size=2"]).trainer.max_epochs
        3
    """
    given = msgspec.to_builtins(dict(values))
    _refuse_unknown_keys(given, Recipe, "")
    merged = Recipe().to_dict()
    for section, value in given.items():
        merged[section] = {**merged[section], **(value or {})} if section in _SECTIONS else value
    settings = list(settings)
    for setting in sorted(settings, key=lambda setting: not setting.startswith("model")):  # the model decides the loss
        if isinstance(merged["model"], str):
            merged["model"] = {"name": merged["model"]}
        if not setting.startswith("model") and "loss" not in given:
            merged["loss"] = merged["loss"] or _own_loss(merged["model"])
        _apply(merged, setting)
    _refuse_unknown_keys(merged, Recipe, "")
    if isinstance(merged["model"], str):
        merged["model"] = {"name": merged["model"]}
    if "loss" not in given:
        merged["loss"] = merged["loss"] or _own_loss(merged["model"])
    try:
        recipe = msgspec.convert(merged, Recipe, strict=False)
    except msgspec.ValidationError as error:
        raise RecipeError(_sentence(str(error), merged)) from None
    return _checked(recipe)


def _checked(recipe: Recipe) -> Recipe:
    """What types alone cannot say; the augmentation's preset is written out value by value."""
    name = recipe.model.get("name")
    if not isinstance(name, str):
        raise RecipeError(f"model.name must be the name of a model; got {name!r}. `delineate models` lists them.")
    try:
        model = {"name": name, **_complete_options(recipe.model)}
        changes = _resolved(MODELS[name].task, recipe.augmentation)
    except DelineateError as error:
        raise RecipeError(str(error)) from None
    if recipe.decoding is not None and MODELS[name].task == "semantic":
        raise RecipeError(f"decoding must be left out for a segmenter; got a section with model '{name}'.")
    if not recipe.loss:
        raise RecipeError("loss must name at least one loss; got an empty list.")
    for place, loss in enumerate(recipe.loss):
        if not isinstance(loss.get("name"), str):
            raise RecipeError(f"loss[{place}].name must be the name of a loss; got {loss.get('name')!r}.")
    own, given = MODELS[name].loss, [loss["name"] for loss in recipe.loss]
    if MODELS[name].task != "semantic" and given != [own]:
        raise RecipeError(f"loss must be '{own}' alone for model '{name}'; got {', '.join(given)}.")
    return msgspec.structs.replace(recipe, model=model, augmentation=changes)


def _resolved(task: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The augmentation with its preset written out: of label maps, or of objects."""
    if task == "semantic":
        return dict(msgspec.to_builtins(augmentation.resolved(dict(values))))
    return object_augmentation.resolved(dict(values)).to_dict()


def _own_loss(model: Any) -> list[dict[str, Any]]:
    """The loss that a model of the catalogue learns from by default; none for what is no model."""
    name = model.get("name") if isinstance(model, Mapping) else model
    return [{"name": MODELS[name].loss}] if isinstance(name, str) and name in MODELS else []


def _complete_options(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model's options with every default written out, but for what the data decides."""
    given = {key: value for key, value in model.items() if key != "name"}
    decided = ("in_channels", "num_classes")
    defaults = {key: value for key, value in model_options(model["name"]).items() if key not in decided}
    for key in given:
        if key in decided:
            raise RecipeError(
                f"model.{key} must be left out, as the data decides it; got {given[key]}. See data.channels."
            )
        if key not in defaults:
            raise unknown_name(f"option of model '{model['name']}'", key, defaults)
    # through JSON, as YAML has lists only: a recipe read back is equal
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({**defaults, **given}))
    return plain


def _apply(values: dict[str, Any], setting: str) -> None:
    """Lay one ``a.b=c`` over nested plain values; ``loss.0.weight=2`` reaches into a list."""
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set must be key=value; got '{setting}'. For example: --set trainer.max_epochs=10")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        value = float(value)  # YAML 1.1 reads 1e-3 as text
    *parents, last = key.strip().split(".")
    place: Any = values
    for parent in parents:
        if isinstance(place, list):
            if not parent.isdigit() or int(parent) >= len(place):
                raise RecipeError(f"{key} must reach an existing entry; got index '{parent}' of {len(place)}.")
            place = place[int(parent)]
        else:
            if place.get(parent) is None:
                place[parent] = {}
            place = place[parent]
        if not isinstance(place, dict | list):
            raise RecipeError(f"{key} must name a value inside a section; got '{parent}', which is a single value.")
    if isinstance(place, list):
        raise RecipeError(f"{key} must name a field; got a whole entry. Write for example loss.0.weight=2")
    if key.strip() == "augmentation.preset":
        place.clear()  # another preset brings its own values
    place[last] = value


_BOUNDS = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}
# the sections whose keys have defaults of their own
_SECTIONS = ("data", "optimizer", "schedule", "trainer", "start")


def _refuse_unknown_keys(values: Any, kind: type[Struct], path: str) -> None:
    if not isinstance(values, dict):
        raise RecipeError(f"{path.rstrip('.') or 'recipe'} must be a section of keys; got {values!r}.")
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in values.items():
        if key not in fields:
            near = nearest_name(str(key), fields)
            hint = f"Did you mean '{path}{near}'?" if near else f"Known: {', '.join(fields)}."
            raise RecipeError(f"recipe key must be a known one; got '{path}{key}'. {hint}")
        section = fields[key]
        if value is not None:  # a section that may be left out: AdversarialRecipe | None
            section = next((part for part in get_args(section) if isinstance(part, type)), section)
        if isinstance(section, type) and issubclass(section, Struct):
            _refuse_unknown_keys({} if value is None else value, section, f"{path}{key}.")


def _choices(place: str) -> list[str]:
    """The texts that a key such as "optimizer.name" may be."""
    kind: Any = Recipe
    for name in place.split("."):
        kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == name)
        kind = next((part for part in get_args(kind) if isinstance(part, type) and issubclass(part, Struct)), kind)
    kind = next((part for part in get_args(kind) if get_origin(part) is Literal), kind)  # one that may be left out
    return [str(choice) for choice in get_args(kind)]


def _sentence(message: str, values: dict[str, Any]) -> str:
    """Msgspec's ``Expected `int`, got `str` - at `$.trainer.seed``` in the house's form, of these values."""
    message = message.replace("`array`", "a list").replace("`object`", "a mapping")
    chosen = re.fullmatch(r"Invalid enum value '?(.*?)'? - at `\$\.(.*?)`", message)
    if chosen:
        value, place = chosen.groups()
        return f"{place} must be {', '.join(_choices(place))}; got {value}."
    match = re.fullmatch(r"(.*?)(?: - at `\$\.?(.*?)`)?", message, flags=re.DOTALL)
    what, where = (match.group(1), match.group(2)) if match else (message, None)
    bound = re.fullmatch(r"Expected `\w+(?: \| null)?` (>=|>|<=|<) (\S+)", what)
    if bound and where:
        got: Any = values
        for part in re.findall(r"\w+", where):
            got = got[int(part)] if isinstance(got, list | tuple) else got[part]
        return f"{where} must be {_BOUNDS[bound[1]]} {float(bound[2]):g}; got {got}."
    found = re.fullmatch(r"Expected (.*?), got (.*)", what, flags=re.DOTALL)
    if found:
        return f"{where or 'recipe'} must be {found.group(1)}; got {found.group(2)}."
    return f"{where or 'recipe'} must be valid; got: {what}."

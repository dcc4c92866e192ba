"""Every model by name, and the functions that find, build and count them."""

from __future__ import annotations

import inspect
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.models.detection_entries import DETECTION_ENTRIES
from delineate.models.entry import ModelEntry
from delineate.models.semantic_entries import SEMANTIC_ENTRIES
from delineate.registry import Registry, nearest_name, unknown_name

if TYPE_CHECKING:
    from torch.nn import Module
else:
    Module = Any  # torch takes seconds to import, and a list of names needs none of it


MODELS: Registry[ModelEntry] = Registry(
    "model", {entry.name: entry for entry in (*SEMANTIC_ENTRIES, *DETECTION_ENTRIES)}
)


def list_models(task: str | None = None, search: str | None = None) -> list[str]:
    """The names :func:`create_model` knows, in alphabetical order.

    Args:
        task: keep the models of this task family only ("semantic", "detection", "instances", "keypoints").
        search: keep the models whose name, paper or summary contains this text, in any case; with ``*`` or ``?`` it
            is a pattern for the whole name.

    Returns:
        The names; empty when nothing matches.

    Raises:
        UnknownNameError: when no model at all has this task.

    Example:
        >>> list_models(search="fcn*s")
        ['fcn16s', 'fcn32s', 'fcn8s']
    """
    tasks = {entry.task for entry in MODELS.values()}
    if task is not None and task not in tasks:
        raise unknown_name("task", task, tasks)
    found = [entry for entry in MODELS.values() if task is None or entry.task == task]
    if search is not None:
        found = [entry for entry in found if _matches(entry, search.casefold())]
    return sorted(entry.name for entry in found)


def _matches(entry: ModelEntry, search: str) -> bool:
    if "*" in search or "?" in search:
        return fnmatchcase(entry.name, search)
    return any(search in text.casefold() for text in (entry.name, entry.paper, entry.summary))


def create_model(name: str, *, num_classes: int, **options: Any) -> Module:
    """A new model with random weights, unless its options ask for pretrained ones.

    Args:
        name: one of :func:`list_models`.
        num_classes: classes to tell apart: of segmenters with the background, of detectors without.
        options: what the model's factory takes (``in_channels``, ``encoder``, ``pretrained``, ...).

    Raises:
        UnknownNameError: on a name that is not in the catalogue; says the nearest one.
        ArgumentError: on an option the model does not have, or a value it cannot take.

    Example:
        >>> model = create_model("unet", num_classes=2, encoder="resnet18", decoder_channels=(64, 32))
        >>> model.num_classes
        2
    """
    entry = MODELS[name]
    require(isinstance(num_classes, int) and num_classes >= 1, "num_classes", "be a whole number above 0", num_classes)
    known = model_options(name)
    for option in options:
        if option not in known:
            near = nearest_name(option, known)
            hint = f"Did you mean '{near}'?" if near else f"It takes: {', '.join(known)}."
            raise ArgumentError(f"options must be ones that '{name}' takes; got '{option}'. {hint}")
    return entry.load()(num_classes, **options)


def model_options(name: str) -> dict[str, Any]:
    """What a model takes besides ``num_classes``: each option with its default, in the factory's order.

    Raises:
        UnknownNameError: on a name that is not in the catalogue; says the nearest one.

    Example:
        >>> model_options("unet")["encoder"]
        'resnet34'
    """
    parameters = inspect.signature(MODELS[name].load()).parameters.values()
    return {option.name: option.default for option in parameters if option.name != "num_classes"}


def parameter_count(name: str, *, num_classes: int = 21, **options: Any) -> int:
    """How many parameters a model has, fixed ones included and batch statistics not; no memory is allocated for them.

    Args:
        name: one of :func:`list_models`.
        num_classes: classes to tell apart, the background included.
        options: as in :func:`create_model`.

    Example:
        >>> parameter_count("fcn32s")
        136152917
    """
    import torch

    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes, **options)
    return sum(parameter.numel() for parameter in model.parameters())

"""The losses by name, and a weighted sum of them from a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from delineate.checks import require
from delineate.losses.border_cross_entropy import BorderCrossEntropy
from delineate.losses.boundary import Boundary
from delineate.losses.cross_entropy import CrossEntropy
from delineate.losses.dice import SoftDice
from delineate.losses.focal import Focal
from delineate.losses.generalised_dice import GeneralisedDice
from delineate.losses.lovasz_softmax import LovaszSoftmax
from delineate.losses.ohem_cross_entropy import OhemCrossEntropy
from delineate.losses.supervision import Number, SemanticLoss
from delineate.losses.tversky import Tversky
from delineate.losses.weighted_sum import WeightedSum
from delineate.registry import Registry, unknown_name

LOSSES: Registry[type[SemanticLoss]] = Registry(
    "loss",
    {
        "cross_entropy": CrossEntropy,
        "soft_dice": SoftDice,
        "focal": Focal,
        "ohem_cross_entropy": OhemCrossEntropy,
        "border_cross_entropy": BorderCrossEntropy,
        "generalised_dice": GeneralisedDice,
        "tversky": Tversky,
        "lovasz_softmax": LovaszSoftmax,
        "boundary": Boundary,
    },
)


def loss_options(name: str) -> dict[str, Any]:
    """The options of a loss and their defaults.

    Raises:
        UnknownNameError: when there is no such loss; names the nearest.

    Example:
        >>> loss_options("focal")
        {'gamma': 2.0, 'alpha': None, 'ignore_index': 255, 'auxiliary_weight': 0.4, 'rest_class': None}
    """
    return {option: value.default for option, value in inspect.signature(LOSSES[name]).parameters.items()}


def create_losses(
    config: Sequence[Mapping[str, Any]], *, ignore_index: int = 255, rest_class: int | None = None
) -> WeightedSum:
    """The weighted sum of the losses that ``config`` lists.

    Args:
        config: one mapping a loss: "name", "weight" (1 when left out) and the options of its class.
        ignore_index: the data's ignored label, for every loss that does not set its own.
        rest_class: the label that stands for all that a partly labelled image's data set does not label, for every loss
            that does not set its own.

    Raises:
        UnknownNameError: on an unknown loss or option; names the nearest.
        ArgumentError: on an empty list, a loss listed twice, a missing name or a bad value.

    Example:
        >>> losses = create_losses([{"name": "cross_entropy"}, {"name": "soft_dice", "weight": 0.5, "power": 2}])
        >>> losses.weights
        {'cross_entropy': 1.0, 'soft_dice': 0.5}
        >>> create_losses([{"name": "focal", "gama": 3}])
        Traceback (most recent call last):
        ...
        delineate.errors.UnknownNameError: option of loss 'focal' must be a known name; got 'gama'. Did you mean ...
    """
    require(
        not isinstance(config, Mapping | str) and all(isinstance(entry, Mapping) for entry in config),
        "losses",
        "be a list of mappings with a name each",
        config,
        "Write for example [{'name': 'cross_entropy'}].",
    )
    losses: dict[str, tuple[SemanticLoss, Number]] = {}
    for entry in config:
        require("name" in entry, "losses", "name each loss", dict(entry), f"Known: {', '.join(LOSSES)}.")
        options = dict(entry)
        name, weight = options.pop("name"), options.pop("weight", 1.0)
        known = loss_options(name)
        for option in options:
            if option not in known:
                raise unknown_name(f"option of loss '{name}'", option, [*known, "weight"])
        require(name not in losses, "losses", "list each loss once", f"{name} twice")
        losses[name] = (LOSSES[name](**{"ignore_index": ignore_index, "rest_class": rest_class, **options}), weight)
    return WeightedSum(losses)

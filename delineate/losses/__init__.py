"""Outputs and targets in, named scalars out.

Each loss has a module of its own, with a function of logits and labels and a class that holds its options. The classes
are names of this package too, loaded when they are first named; a function is found in its module
(``from delineate.losses.focal import focal``).
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "LOSSES": "catalogue",
    "BorderCrossEntropy": "border_cross_entropy",
    "Boundary": "boundary",
    "CrossEntropy": "cross_entropy",
    "Focal": "focal",
    "GeneralisedDice": "generalised_dice",
    "LovaszSoftmax": "lovasz_softmax",
    "MultiTaskSum": "multi_task",
    "OhemCrossEntropy": "ohem_cross_entropy",
    "SemanticLoss": "supervision",
    "SoftDice": "dice",
    "Tversky": "tversky",
    "WeightedSum": "weighted_sum",
    "create_losses": "catalogue",
    "loss_options": "catalogue",
    "marginal_logits": "partial_labels",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'delineate.losses' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"delineate.losses.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

"""Outputs and targets in, named scalars out.

Each loss has a module of its own, with a function of logits and labels and a class that holds its options. The classes
are names of this package too, loaded when they are first named; a function is found in its module
(``from delineate.losses.focal import focal``).
"""

from __future__ import annotations

from delineate.lazy import lazy_names

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
__getattr__, __dir__ = lazy_names(__name__, _EXPORTS)

"""What can be said of a model before it is trained: its size, its cost, what it sees. Nothing is computed for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from delineate.explain.multiply_adds import multiply_adds
from delineate.explain.receptive_field import ReceptiveField, receptive_field
from delineate.models.catalogue import create_model


@dataclass(frozen=True)
class ModelFacts:
    """Figures of one model.

    Args:
        parameters: fixed ones included, batch statistics not.
        multiply_adds: of one image of the size asked for; None when none was.
        field: stride and receptive field.
    """

    parameters: int
    multiply_adds: int | None
    field: ReceptiveField


def model_facts(name: str, *, num_classes: int = 21, size: tuple[int, int] | None = None, **options: Any) -> ModelFacts:
    """The figures of a model of the catalogue, from shapes alone: on the meta device, without memory for its weights.

    Args:
        name: one of :func:`~delineate.models.catalogue.list_models`.
        num_classes: classes to tell apart, the background included.
        size: (height, width) at which multiply-adds are counted, which takes about as long as the rest; None: not.
        options: as in :func:`~delineate.models.catalogue.create_model`.

    Example:
        >>> facts = model_facts("unet_original", num_classes=2)
        >>> facts.parameters, facts.field.size
        (31030658, (140, 140))
    """
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes, **options)
    return ModelFacts(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=None if size is None else multiply_adds(model, size),
        field=receptive_field(model),
    )

"""What can be said of a model before it is trained: its size, its cost, what it sees. Nothing is computed for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from delineate.explain.multiply_adds import multiply_adds
from delineate.explain.receptive_field import ReceptiveField, receptive_field
from delineate.models.catalogue import create_model
from delineate.models.faster_rcnn import FasterRCNN
from delineate.ops.padding import pad_to_multiple
from delineate.structures.outputs import AnchorOutputs


@dataclass(frozen=True)
class ModelFacts:
    """Figures of one model.

    Args:
        parameters: fixed ones included, batch statistics not.
        multiply_adds: of one image of the size asked for; None when none was. Of a two-stage detector up to its
            proposals: how many regions follow is not known.
        field: stride and receptive field, of a two-stage detector that of its proposals.
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
    dense = dense_part(model)
    height, width = getattr(model, "input_size", (512, 512))
    return ModelFacts(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=None if size is None else multiply_adds(dense, size),
        field=receptive_field(dense, size=(int(height), int(width))),
    )


def dense_part(model: nn.Module) -> nn.Module:
    """The model itself, or of a two-stage detector what comes before its regions."""
    return _Proposing(model) if isinstance(model, FasterRCNN) else model


class _Proposing(nn.Module):
    """The part of a two-stage detector that sees the whole image."""

    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        self.encoder, self.neck, self.proposals = model.encoder, model.neck, model.proposals
        self.in_channels = model.in_channels
        self.multiple = model.multiple

    def forward(self, images: Tensor) -> AnchorOutputs:
        """What is said of every anchor."""
        padded = pad_to_multiple(images, self.multiple, mode="constant")
        levels = self.neck(self.encoder(padded))
        outputs: AnchorOutputs = self.proposals(levels, size=(padded.shape[-2], padded.shape[-1]))
        return outputs

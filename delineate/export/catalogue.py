"""The formats a model can be exported to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from delineate.engine.weights import ModelCard
from delineate.export.detectors import export_detector
from delineate.export.onnx import export_onnx
from delineate.registry import Registry


def _onnx(model: nn.Module, path: Path, card: ModelCard) -> Path:
    if card.task == "semantic":
        return export_onnx(
            model,
            path,
            in_channels=card.preprocessing.channels,
            preprocessing=card.preprocessing,
            taxonomy=card.taxonomy,
        )
    size = card.fit.get("size")
    if card.fit.get("fit") == "shortest":
        # a canvas that holds every picture lying; deep graphs of any size do not come to an end
        size = (max(card.fit["shortest"]), card.fit["longest"])
    from delineate.engine.objects import decoding_of  # loads what training needs, so only for detectors

    facts = {"task": card.task, "fit": card.fit, "keypoint_names": card.keypoint_names}
    return export_detector(
        model,
        path,
        in_channels=card.preprocessing.channels,
        size=None if size is None else (int(size[0]), int(size[1])),
        preprocessing=card.preprocessing,
        options=decoding_of(model, card.decoding),
        taxonomy=card.taxonomy,
        facts={name: fact for name, fact in facts.items() if fact},
    )


EXPORTERS: Registry[Callable[[nn.Module, Path, ModelCard], Path]] = Registry("format", {"onnx": _onnx})

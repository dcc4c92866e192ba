"""The formats a model can be exported to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from delineate.engine.weights import ModelCard
from delineate.export.onnx import export_onnx
from delineate.registry import Registry


def _onnx(model: nn.Module, path: Path, card: ModelCard) -> Path:
    return export_onnx(
        model, path, in_channels=card.preprocessing.channels, preprocessing=card.preprocessing, taxonomy=card.taxonomy
    )


EXPORTERS: Registry[Callable[[nn.Module, Path, ModelCard], Path]] = Registry("format", {"onnx": _onnx})

"""delineate: from images and annotations to trained, measured and explained models of what is where.

Public names are loaded when they are first used, so ``import delineate`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delineate.data.digits import DigitScenes as DigitScenes
    from delineate.data.doctor import check_dataset as check_dataset
    from delineate.data.object_statistics import object_statistics as object_statistics
    from delineate.data.objects.conversion import convert_objects as convert_objects
    from delineate.data.objects.doctor import check_objects as check_objects
    from delineate.data.opening import open_dataset as open_dataset
    from delineate.data.statistics import dataset_statistics as dataset_statistics
    from delineate.engine.predictor import Predictor as Predictor
    from delineate.engine.predictors import evaluate as evaluate
    from delineate.engine.predictors import load as load
    from delineate.engine.recipe import Recipe as Recipe
    from delineate.engine.recipe import build_recipe as build_recipe
    from delineate.engine.recipe import read_recipe as read_recipe
    from delineate.engine.run import Run as Run
    from delineate.engine.run import open_run as open_run
    from delineate.engine.scoring import score as score
    from delineate.engine.training import train as train
    from delineate.errors import DelineateError as DelineateError
    from delineate.export.detectors import export_detector as export_detector
    from delineate.export.onnx import export_onnx as export_onnx
    from delineate.models.catalogue import create_model as create_model
    from delineate.models.catalogue import list_models as list_models
    from delineate.models.convolutionize import convolutionize as convolutionize
    from delineate.models.pretrained import load_matching as load_matching
    from delineate.report.runs import report_run as report_run
    from delineate.structures.detections import Detections as Detections
    from delineate.structures.semantic_map import SemanticMap as SemanticMap
    from delineate.structures.taxonomy import Taxonomy as Taxonomy

# every public name and the module it lives in; the only place where exports are written down
_EXPORTS = {
    "DelineateError": "delineate.errors",
    "Detections": "delineate.structures.detections",
    "DigitScenes": "delineate.data.digits",
    "Predictor": "delineate.engine.predictor",
    "Recipe": "delineate.engine.recipe",
    "Run": "delineate.engine.run",
    "SemanticMap": "delineate.structures.semantic_map",
    "Taxonomy": "delineate.structures.taxonomy",
    "build_recipe": "delineate.engine.recipe",
    "check_dataset": "delineate.data.doctor",
    "check_objects": "delineate.data.objects.doctor",
    "convert_objects": "delineate.data.objects.conversion",
    "convolutionize": "delineate.models.convolutionize",
    "create_model": "delineate.models.catalogue",
    "dataset_statistics": "delineate.data.statistics",
    "evaluate": "delineate.engine.predictors",
    "export_detector": "delineate.export.detectors",
    "export_onnx": "delineate.export.onnx",
    "list_models": "delineate.models.catalogue",
    "load": "delineate.engine.predictors",
    "load_matching": "delineate.models.pretrained",
    "object_statistics": "delineate.data.object_statistics",
    "open_dataset": "delineate.data.opening",
    "open_run": "delineate.engine.run",
    "read_recipe": "delineate.engine.recipe",
    "report_run": "delineate.report.runs",
    "score": "delineate.engine.scoring",
    "train": "delineate.engine.training",
}
# rooms that are reached by name, such as delineate.metrics.SemanticScores
_ROOMS = (
    "data",
    "engine",
    "explain",
    "export",
    "losses",
    "metrics",
    "models",
    "ops",
    "postprocess",
    "report",
    "structures",
)

__all__ = sorted([*_EXPORTS, *_ROOMS])


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(_EXPORTS[name]), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"delineate.{name}")
    else:
        raise AttributeError(f"module 'delineate' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

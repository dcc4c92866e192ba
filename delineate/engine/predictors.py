"""From weights on disk to something that predicts, and from that to scores: one entry for all tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from delineate.engine.evaluation import Evaluation
from delineate.engine.object_evaluation import measure_objects
from delineate.engine.object_predictor import ObjectPredictor
from delineate.engine.predictor import Predictor
from delineate.engine.run import Run
from delineate.engine.semantic_evaluation import measure_labels
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.weights import load_weights
from delineate.registry import Registry

PREDICTORS: Registry[type[Predictor]] = Registry(
    "task",
    {
        "semantic": SemanticPredictor,
        "detection": ObjectPredictor,
        "instances": ObjectPredictor,
        "keypoints": ObjectPredictor,
    },
)
MEASURES: Registry[Callable[..., Evaluation]] = Registry(
    "task",
    {
        "semantic": measure_labels,
        "detection": measure_objects,
        "instances": measure_objects,
        "keypoints": measure_objects,
    },
)


def load(path: str | Path, *, precision: str = "auto", device: str | torch.device | None = None) -> Any:
    """The predictor of a run folder or of a ``model.safetensors``; nothing is unpickled.

    Returns:
        A :class:`~delineate.engine.semantic_predictor.SemanticPredictor` or an
        :class:`~delineate.engine.object_predictor.ObjectPredictor`, as the model's task is.

    Raises:
        RunError: when the weights are missing, damaged or belong to another architecture.
    """
    model, card = load_weights(path)
    return PREDICTORS[card.task](model, card, precision=precision, device=device)


def loaded(predictor: Predictor | Run | str | Path) -> Predictor:
    """The predictor itself, or the one of these weights."""
    if isinstance(predictor, Predictor):
        return predictor
    found: Predictor = load(predictor.path if isinstance(predictor, Run) else predictor)
    return found


def measure(predictor: Predictor | Run | str | Path, data: Any, **options: Any) -> Evaluation:
    """Score a predictor on every image of a data set, with what explains the scores.

    Args:
        predictor: a loaded one, or the run or weights to load.
        data: an opened data set, or the folder of one.
        options: of :func:`~delineate.engine.semantic_evaluation.measure_labels` or
            :func:`~delineate.engine.object_evaluation.measure_objects`, as the task is.

    Raises:
        DataError: when the data set cannot be read or has other classes than the predictor.
        ArgumentError: when an option has another form.
    """
    ready = loaded(predictor)
    return MEASURES[ready.card.task](ready, data, **options)


def evaluate(predictor: Predictor | Run | str | Path, data: Any, **options: Any) -> dict[str, Any]:
    """Scores of a predictor on a data set as nested plain numbers; :func:`measure` says the options and keeps more.

    Returns:
        See :func:`delineate.metrics.semantic.semantic_scores`, or :func:`delineate.metrics.detection.box_scores`;
        what is undefined is NaN.
    """
    return measure(predictor, data, **options).scores

"""From true and predicted objects, and how they match, to the figures of the field, and what explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from delineate.engine.explanation import explained_scores
from delineate.metrics.detection import AveragePrecision, average_precision, precision_curves, summarise
from delineate.ops.matching import Matches, Overlaps
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the figures of an object task were computed from, for a report.

    Args:
        truth: images, classes and true objects.
        predictions: predicted objects.
        result: precision and recall, and what became of each detection.
        overlaps: how two objects were compared.
    """

    truth: Annotations
    predictions: Objects
    result: AveragePrecision
    overlaps: Overlaps


def object_figures(
    truth: Annotations, predictions: Objects, overlaps: Overlaps, matches: Matches, *, max_detections: Sequence[int]
) -> tuple[dict[str, Any], Evidence]:
    """COCO's figures with their curves, and what they were computed from.

    Args:
        truth: images, classes and true objects.
        predictions: with scores; masks may have been dropped once they were compared.
        overlaps: how two objects were compared.
        matches: of the two.
        max_detections: limits per image and class for which recall is computed.
    """
    result = average_precision(matches, max_detections=max_detections)
    scores = summarise(result, truth.classes, truth.num_images)
    scores["curves"] = precision_curves(result, truth.classes)
    return scores, Evidence(truth, predictions, result, overlaps)


def explained_figures(
    scores: dict[str, Any], evidence: Evidence, *, area_range: tuple[float | int, float | int]
) -> dict[str, Any]:
    """Why precision is lost, and what scores are worth, to be laid over ``scores``.

    Args:
        scores: of :func:`object_figures`; the best threshold of each class is added to its figures.
        evidence: of the same.
        area_range: the first of the matches.
    """
    result = evidence.result
    told = explained_scores(
        evidence.truth,
        evidence.predictions,
        evidence.overlaps,
        max_detections=result.max_detections[-1],
        matches=result.matches,
        area_range=area_range,
    )
    for name, best in told.pop("best_f1").items():
        scores["per_class"][name]["best_f1"] = best
    return told

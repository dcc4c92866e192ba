"""Average precision of points: whether the maximum of a class's score map lies on an object of that class."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from delineate.checks import require
from delineate.kernels.matching import FALSE, IGNORED, TRUE
from delineate.metrics.ranking import ranked_scores
from delineate.metrics.voc import BoxColumns, corners
from delineate.structures.annotations import Annotations

POINT_TOLERANCE = 18.0  # pixels, the paper's allowance for the coarseness of its score maps


def point_localisation(
    points: Float64[np.ndarray, "I K 2"],
    scores: Float64[np.ndarray, "I K"],
    truth: Annotations,
    *,
    tolerance: float | int = POINT_TOLERANCE,
) -> dict[str, Any]:
    """Average precision over images where the point given for a class must lie on an object of it.

    Source: Oquab et al., "Is object localization for free? Weakly-supervised learning with convolutional neural
    networks", CVPR 2015, section 5.
    Differs: the paper has no word on difficult objects. Here an image whose objects of a class are all difficult does
    not count for that class; in another one a point on a difficult object is right.

    Args:
        points: x, y of each class in each image, the maximum of its score map
            (:func:`~delineate.metrics.localisation_metric.peak_points`).
        scores: the confidence that the image holds the class.
        truth: difficult objects are ``ignored``; a crowd is taken for one.
        tolerance: pixels by which boxes are enlarged on each side.

    Returns:
        ``map`` and ``map_11_point``, means over classes (see :mod:`delineate.metrics.ranking`); ``per_class``: for each
        name ``ap``, ``ap_11_point``, ``images`` that hold it, ``true_positives``, ``false_positives``, ``recall``.
        Fractions of 1; a class that no image holds is NaN and left out of means.

    Raises:
        ArgumentError: on other numbers of images or classes than in ``truth``, or a negative tolerance.

    Example:
        >>> from delineate.structures.objects import Objects
        >>> truth = Annotations.of((1, 2), ("cat",), Objects.of([0], [0], [[30, 30, 20, 20]]))
        >>> points = np.array([[[20.0, 40.0]], [[5.0, 5.0]]])
        >>> point_localisation(points, np.array([[0.7], [0.9]]), truth)["map"]
        0.5
    """
    require(tolerance >= 0, "tolerance", "be at least 0 pixels", tolerance)
    shape = (truth.num_images, truth.num_classes)
    require(scores.shape == shape, "scores", f"be {shape}, the images and classes of truth", scores.shape)
    require(points.shape == (*shape, 2), "points", f"be {(*shape, 2)}", points.shape)
    require(bool(np.isfinite(scores).all()), "scores", "be finite", "NaN or infinity")
    objects = truth.objects
    difficult = objects.ignored | objects.crowd
    columns = BoxColumns(objects.images, objects.labels, corners(objects.boxes), None, difficult)
    outcomes, positives = point_outcomes(points, columns, tolerance)
    labels = np.tile(np.arange(shape[1]), shape[0])
    return without_levels(ranked_scores(labels, scores.ravel(), outcomes, positives, truth.classes, (tolerance,)))


def point_outcomes(
    points: Float64[np.ndarray, "I K 2"], truth: BoxColumns, tolerance: float | int
) -> tuple[UInt8[np.ndarray, "IK 1"], Int64[np.ndarray, " K"]]:
    """What became of each point, image by image, and how many images hold each class."""
    assert truth.difficult is not None
    cells = truth.images, truth.labels
    own = points[cells]
    inside = (own >= truth.corners[:, :2] - tolerance) & (own <= truth.corners[:, 2:] + tolerance)
    hit, held, hard = np.zeros((3, *points.shape[:2]), bool)
    np.logical_or.at(hit, cells, inside.all(axis=1))
    np.logical_or.at(held, cells, ~truth.difficult)
    np.logical_or.at(hard, cells, truth.difficult)
    outcomes = np.where(held, np.where(hit, TRUE, FALSE), np.where(hard, IGNORED, FALSE))
    return outcomes.astype(np.uint8).reshape(-1, 1), held.sum(axis=0)


def without_levels(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of one tolerance without a level for it."""
    per_class = {}
    for name, figures in found["per_class"].items():
        (only,) = figures["per_threshold"].values()
        per_class[name] = {**only, "images": figures["truths"]}
    return {"map": found["map"], "map_11_point": found["map_11_point"], "per_class": per_class}

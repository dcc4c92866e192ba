"""Errors, calibration and best thresholds of one overlap and of all areas, whatever was asked for."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from delineate.engine import explanation
from delineate.engine.explanation import explained_scores
from delineate.metrics.calibration import calibration_scores
from delineate.ops.matching import box_overlaps, match_objects
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def scene(scores=(0.9, 0.6)) -> tuple[Annotations, Objects]:
    """A small cat found exactly, a large one at an IoU of 0.6, and nothing of the dogs."""
    objects = Objects.of([0, 0, 0], [0, 0, 1], [[0, 0, 10, 10], [20, 0, 100, 100], [0, 50, 5, 5]])
    found = Objects.of([0, 0], [0, 0], [[0, 0, 10, 10], [20, 0, 100, 60]], scores=scores)
    return Annotations.of((1,), ("cat", "dog"), objects), found


def told(truth, found, **options):
    return explained_scores(truth, found, box_overlaps, max_detections=100, **options)


def test_by_hand():
    figures = told(*scene())
    assert {name: figures[name]["iou_threshold"] for name in ("errors", "calibration")} == {
        "errors": 0.5,
        "calibration": 0.5,
    }
    assert figures["errors"]["counts"]["true_positives"] == 2
    assert figures["errors"]["confusion"] == {
        "classes": ["cat", "dog", "background"],
        "matrix": [[2, 0, 0], [0, 0, 1], [0, 0, 0]],
    }
    assert figures["calibration"]["expected_calibration_error"] == pytest.approx((0.1 + 0.4) / 2)
    cat = {"iou_threshold": 0.5, "threshold": 0.6, "f1": 1, "precision": 1, "recall": 1}
    assert figures["best_f1"]["cat"] == cat
    assert math.isnan(figures["best_f1"]["dog"]["threshold"])


@pytest.mark.parametrize(
    ("thresholds", "area_range", "again"),
    [
        ([0.5, 0.75], (0.0, 1e10), 0),
        ([0.75, 0.5], (0.0, 1e10), 0),
        ([0.75], (0.0, 1e10), 1),
        ([0.5], (0.0, 1024.0), 1),
        ([0.5], (50.0, 1e10), 1),  # the dog is smaller
    ],
)
def test_other_thresholds_and_areas_change_nothing(monkeypatch, thresholds, area_range, again):
    truth, found = scene()
    wanted = json.dumps(told(truth, found))
    calls = []

    def counted(*arguments, **options):
        calls.append(options)
        return match_objects(*arguments, **options)

    matches = match_objects(truth, found, iou_thresholds=thresholds, area_ranges={"first": area_range})
    monkeypatch.setattr(explanation, "match_objects", counted)
    assert json.dumps(told(truth, found, matches=matches, area_range=area_range)) == wanted
    assert len(calls) == again


def test_scores_that_are_no_probabilities_have_no_calibration():
    figures = told(*scene(scores=(3.5, -2.0)))
    calibration = figures["calibration"]
    assert math.isnan(calibration["expected_calibration_error"])
    assert {one["count"] for one in calibration["bins"]} == {0}
    assert calibration["note"] == "scores must lie in 0 .. 1 to be calibrated; got 3.5"
    assert figures["best_f1"]["cat"]["f1"] == 1
    assert figures["best_f1"]["cat"]["threshold"] == -2
    assert figures["errors"]["ap"] == pytest.approx(0.5)
    assert "note" not in told(*scene(scores=(1.0, 0.0)))["calibration"]


def test_without_detections_all_is_defined_or_nan():
    truth, found = scene()
    figures = told(truth, found.select(np.zeros(0, np.int64)))
    empty = calibration_scores(np.zeros(0), np.zeros(0, np.uint8))
    assert json.dumps(figures["calibration"]) == json.dumps({"iou_threshold": 0.5, **empty})
    assert figures["errors"]["counts"]["missed"] == 3

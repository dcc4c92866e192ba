from __future__ import annotations

import math

import numpy as np

from delineate.engine.scoring import Score
from delineate.metrics.detection import box_scores
from delineate.metrics.error_analysis import detection_errors
from delineate.metrics.panoptic import PanopticCounts, panoptic_scores
from delineate.metrics.saliency import image_saliency, saliency_scores
from delineate.metrics.semantic import semantic_scores
from delineate.metrics.voc import voc_scores
from delineate.report.readings import named, readings, shortened
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

BOXES = [[0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 100, 100]]
TRUTH = Annotations.of((1, 2), ("cat", "dog", "emu"), Objects.of([0, 0, 1], [0, 1, 1], BOXES))
NOTHING = Objects.of([], [], [], scores=[])


def told(task: str, scores: dict) -> str:
    return " ".join(readings(Score(task, scores, "t", "p")))


def test_a_perfect_result_needs_no_advice_but_the_weakest_class():
    found = Objects.of([0, 0, 1], [0, 1, 1], BOXES, scores=[0.9, 0.9, 0.9])
    scores = box_scores(TRUTH, found)
    scores["errors"] = detection_errors(TRUTH, found)
    assert told("boxes", scores) == "The weakest class is cat (AP 1.000)."


def test_the_costliest_error_is_named_with_its_price():
    found = Objects.of([0, 0, 1], [0, 1, 0], BOXES, scores=[0.9, 0.8, 0.7])
    scores = box_scores(TRUTH, found)
    scores["errors"] = detection_errors(TRUTH, found)
    price = scores["errors"]["delta_ap"]["classification"]
    text = told("boxes", scores)
    assert "Most is lost to errors of the kind classification (on a true object, as another class): 1 detection" in text
    assert f"Repairing them would add {price:.3f} to AP50." in text
    scores["errors"] = detection_errors(TRUTH, found.select(np.array([0])))
    assert "Most is lost to missed objects (true objects that nothing pointed at): 2 true objects." in told(
        "boxes", scores
    )


def test_loose_places_sizes_and_poor_classes():
    found = Objects.of([0, 0], [0, 1], [[0, 0, 10, 6], BOXES[1]], scores=[0.9, 0.9])
    text = told("boxes", box_scores(TRUTH, found))
    assert "AP falls from" in text
    assert "large objects do worst (AP 0.000) and medium ones best (1.000)" in text
    text = told("boxes", box_scores(TRUTH, Objects.of([0], [0], [BOXES[0]], scores=[0.5])))
    assert "1 of 2 classes has AP below 0.1: dog." in text
    assert "Never detected, though present: dog." in text


def test_nothing_to_find_and_nothing_found():
    empty = Annotations.of((1,), ("cat",), Objects.of([], [], []))
    for task, measure in (("boxes", box_scores), ("voc", voc_scores)):
        assert told(task, measure(empty, NOTHING)) == "There is no true object that counts, so no figure is defined."
        assert told(task, measure(TRUTH, NOTHING)) == "There are no detections: every figure is 0."


def test_calibration_says_in_which_direction():
    scores = box_scores(TRUTH, Objects.of([0, 0, 1], [0, 1, 1], BOXES, scores=[0.9, 0.9, 0.9]))
    one = {"count": 10, "mean_score": 0.9, "precision": 0.4}
    scores["calibration"] = {"expected_calibration_error": 0.5, "bins": [one, {**one, "count": 0}]}
    assert "Scores promise more than they hold (mean score 0.900, precision 0.400)" in told("boxes", scores)
    other = {"count": 10, "mean_score": 0.1, "precision": 0.6}
    scores["calibration"] = {"expected_calibration_error": 0.5, "bins": [one, other]}
    assert "off by 0.500 in the mean, in both directions" in told("boxes", scores)
    scores["calibration"] = {"expected_calibration_error": math.nan, "bins": []}
    assert "Scores" not in told("boxes", scores)


def test_loose_outlines_show_in_boundary_ap():
    scores = box_scores(TRUTH, Objects.of([0, 0, 1], [0, 1, 1], BOXES, scores=[0.9, 0.9, 0.9]))
    scores["boundary"] = {"ap": 0.5}
    assert "Boundary AP is 0.500, AP 1.000" in told("masks", scores)


def test_panoptic_names_the_weaker_factor():
    counts = PanopticCounts(np.array([1.8, 0.9]), np.array([2, 1]), np.array([4, 0]), np.array([4, 0]))
    text = told("panoptic", panoptic_scores(counts, class_names=["cell", "sky"], things=[True, False], images=1))
    assert "RQ (0.667) is the weaker factor" in text
    assert "Things (PQ 0.300) do worse than stuff (0.900)." in text
    counts = PanopticCounts(np.array([1.2]), np.array([2]), np.array([0]), np.array([0]))
    text = told("panoptic", panoptic_scores(counts, class_names=["cell"], things=[True], images=1))
    assert text == "SQ (0.600) is the weaker factor: segments are found, but their outlines are loose."


def test_semantic_names_what_is_never_predicted_and_what_no_figure_counts():
    scores = semantic_scores(np.array([[900, 0], [100, 0]]), class_names=("sky", "bird"))
    text = told("semantic", {**scores, "invalid_predictions": 1200})
    assert "1 of 2 classes has IoU below 0.1: bird." in text
    assert "Never predicted, though present: bird." in text
    assert "frequent classes do better than rare ones" in text
    assert "1,200 labelled pixels were predicted as no known class; they count as missed." in text


def test_saliency_names_the_best_level():
    target = np.zeros((8, 8), bool)
    target[2:6, 2:6] = True
    scores = saliency_scores([image_saliency(target * 0.5 + 0.1, target)])
    assert told("saliency", scores).startswith("F is largest (1.000) when maps are cut at 1.00.")
    assert told("saliency", saliency_scores([])) == ""


def test_localisation_tells_class_from_box():
    assert told("localisation", {"top1_error": 0.5, "known_error": 0.25, "images": 4}) == (
        "Much is lost to the class, not to the box: top-1 error 0.500, GT-known error 0.250."
    )
    assert told("localisation", {"top1_error": 0.5, "known_error": 0.5, "images": 4}) == ""


def test_an_unknown_task_is_met_with_silence():
    assert told("new", {"a": 1.0}) == ""


def test_names_are_listed_and_cut():
    assert named([]) == ""
    assert named(["a"]) == "a"
    assert named([f"c{k}" for k in range(9)]) == "c0, c1, c2, c3 and 5 more"
    assert len(shortened("x" * 5000)) == 60

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from delineate.engine.scoring import TASKS, Score
from delineate.metrics.detection import box_scores, keypoint_scores
from delineate.metrics.error_analysis import detection_errors
from delineate.metrics.localisation import max_box_accuracy, topk_localisation_error
from delineate.metrics.panoptic import PanopticCounts, panoptic_scores
from delineate.metrics.pointing import point_localisation
from delineate.metrics.saliency import saliency_scores
from delineate.metrics.semantic import semantic_scores
from delineate.metrics.voc import voc_scores
from delineate.report.figures import class_rows, error_rows, figure_rows, spanned
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

TRUTH = Annotations.of(
    (1, 2),
    ("cat", "dog", "emu"),
    Objects.of([0, 0, 1], [0, 1, 1], [[0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 100, 100]]),
)
FOUND = Objects.of([0, 0, 1], [0, 1, 0], [[0, 0, 10, 10], [20, 20, 40, 30], [0, 0, 90, 100]], scores=[0.9, 0.8, 0.7])


def scored(task: str, scores: dict, **options: object) -> Score:
    return Score(task, scores, "truth.json", "found.json", options)


def names(score: Score) -> list[str]:
    return [name for name, _, _ in figure_rows(score)]


def test_boxes_have_the_names_of_the_field_and_say_what_was_used():
    scores = box_scores(TRUTH, FOUND)
    rows = figure_rows(scored("boxes", scores))
    assert [name for name, _, _ in rows] == [
        *("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"),
        *("AR 1", "AR 10", "AR 100", "AR small", "AR medium", "AR large", "images", "truths", "detections"),
    ]
    values = {name: value for name, value, _ in rows}
    assert values["AP"] == scores["ap"]
    assert values["AP75"] == scores["ap75"]
    assert values["AR 10"] == scores["ar10"]
    assert values["AP small"] == scores["ap_small"]
    assert (values["images"], values["truths"], values["detections"]) == (2, 3, 3)
    meanings = {name: meaning for name, _, meaning in rows}
    assert meanings["AP"] == (
        "average precision at IoU 0.50:0.05:0.95, mean over classes; up to 100 detections an image and class"
    )
    assert meanings["AP medium"] == "from 32 x 32 to 96 x 96 pixels"
    assert meanings["AR 1"].startswith("recall with up to 1 detection an image and class")


def test_thresholds_limits_and_ranges_that_were_chosen_are_named():
    options = {
        "iou_thresholds": [0.3, 0.504],
        "max_detections": [7],
        "area_ranges": {"every": (0.0, 1e10), "tiny": (0.0, 50.0)},
    }
    rows = figure_rows(scored("boxes", box_scores(TRUTH, FOUND, **options), **options, class_agnostic=True))
    assert [name for name, _, _ in rows] == ["AP", "AP tiny", "AR 7", "AR tiny", "images", "truths", "detections"]
    assert (
        rows[0][2] == "average precision at IoU 0.30, 0.50, all classes as one; up to 7 detections an image and class"
    )
    assert rows[1][2] == "true objects up to 50 pixels"
    columns, _ = class_rows(scored("boxes", box_scores(TRUTH, FOUND, **options), **options))
    assert columns == ["class", "AP", "AP tiny", "AR 7", "truths", "detections"]


def test_keypoints_are_compared_by_similarity_and_have_no_small_ones():
    points = np.array([[[1.0, 1.0, 2.0]] * 17])
    truth = Annotations.of((1,), ("person",), Objects.of([0], [0], [[0, 0, 50, 50]], keypoints=points))
    found = Objects.of([0], [0], [[0, 0, 50, 50]], keypoints=points, scores=[0.5])
    rows = figure_rows(scored("keypoints", keypoint_scores(truth, found)))
    assert "AP small" not in {name for name, _, _ in rows}
    assert rows[0][2].startswith("average precision at OKS 0.50:0.05:0.95")
    assert "AR 20" in {name for name, _, _ in rows}


def test_boundary_and_calibration_follow_when_measured():
    scores = box_scores(TRUTH, FOUND)
    scores["boundary"] = box_scores(TRUTH, FOUND)
    scores["calibration"] = calibration = {"iou_threshold": 0.5, "expected_calibration_error": 0.25, "bins": []}
    found = names(scored("masks", scores))
    assert [name for name in found if name.startswith("Boundary")] == [
        f"Boundary AP{part}" for part in ("", "50", "75", " small", " medium", " large")
    ]
    assert "ECE" in found
    scores["iou_thresholds"] = [0.75]  # calibration keeps its own
    for extra, meaning in (({}, "precision at IoU 0.50; lower is better"), ({"note": "no probabilities"}, "no probab")):
        scores["calibration"] = {**calibration, **extra}
        (row,) = [row for row in figure_rows(scored("masks", scores)) if row[0] == "ECE"]
        assert meaning in row[2]


def test_classes_have_a_row_each_with_the_best_threshold_where_present():
    scores = box_scores(TRUTH, FOUND)
    columns, rows = class_rows(scored("boxes", scores))
    assert columns == [
        *("class", "AP", "AP50", "AP75", "AP small", "AP medium", "AP large", "AR 100", "truths", "detections"),
    ]
    assert [row[0] for row in rows] == ["cat", "dog", "emu"]
    assert rows[1][1] == scores["per_class"]["dog"]["ap"]
    assert math.isnan(rows[2][1])
    assert rows[2][-2:] == [0, 0]
    scores["per_class"]["cat"]["best_f1"] = {"f1": 0.75, "threshold": 0.5}
    columns, rows = class_rows(scored("boxes", scores))
    place = columns.index("best F1")
    assert columns[place + 1] == "at score"
    assert rows[0][place : place + 2] == [0.75, 0.5]
    assert all(math.isnan(value) for value in rows[1][place : place + 2])


def test_errors_are_listed_with_what_they_cost():
    scores = box_scores(TRUTH, FOUND)
    assert error_rows(scored("boxes", scores)) == []
    scores["errors"] = detection_errors(TRUTH, FOUND)
    rows = error_rows(scored("boxes", scores))
    kinds = {kind: (count, loss) for kind, count, loss, _ in rows}
    assert list(kinds) == ["classification", "localisation", "both", "duplicate", "background", "missed"]
    assert kinds["classification"] == (1, scores["errors"]["delta_ap"]["classification"])
    assert kinds["classification"][1] > 0
    assert all(meaning for *_, meaning in rows)


def test_voc_names_both_definitions_and_each_threshold():
    found = names(scored("voc", voc_scores(TRUTH, FOUND)))
    assert found == ["mAP", "mAP 11-point", "truths", "detections"]
    several = figure_rows(scored("voc", voc_scores(TRUTH, FOUND, iou_thresholds=(0.5, 0.7))))
    assert [name for name, _, _ in several[2:6]] == [
        *("mAP at 0.5", "mAP 11-point at 0.5", "mAP at 0.7", "mAP 11-point at 0.7"),
    ]
    assert "0.5, 0.7" in several[0][2]
    columns, rows = class_rows(scored("voc", voc_scores(TRUTH, FOUND)))
    assert columns == ["class", "AP", "AP 11-point", "truths", "detections"]
    assert len(rows) == 3


def test_panoptic_gives_all_things_and_stuff():
    counts = PanopticCounts(np.array([1.5, 0.0]), np.array([2, 0]), np.array([1, 0]), np.array([1, 0]))
    score = scored("panoptic", panoptic_scores(counts, class_names=["cell", "sky"], things=[True, False], images=4))
    rows = {name: (value, meaning) for name, value, meaning in figure_rows(score)}
    assert rows["PQ"][0] == 0.5
    assert rows["SQ things"] == (0.75, "over 1 class")
    assert math.isnan(rows["RQ stuff"][0])
    assert rows["images"][0] == 4
    assert class_rows(score)[0] == ["class", "PQ", "SQ", "RQ", "TP", "FP", "FN"]
    assert class_rows(score)[1][0][4:] == [2, 1, 1]


def test_semantic_leaves_out_what_was_not_measured():
    scores = {**semantic_scores(np.array([[3, 1], [2, 4]]), class_names=("sky", "bird")), "images": 2}
    rows = figure_rows(scored("semantic", scores))
    assert [name for name, _, _ in rows] == [
        *("mean IoU", "pixel accuracy", "mean accuracy", "frequency-weighted IoU", "mean Dice"),
        *("invalid predictions", "images"),
    ]
    assert class_rows(scored("semantic", scores))[0][1:] == [
        *("IoU", "Dice", "precision", "recall", "pixels", "predicted"),
    ]
    assert "boundary F1" in names(scored("semantic", {**scores, "boundary_f1": 0.5}))


def test_saliency_has_no_classes_and_says_what_is_better_low():
    score = scored("saliency", saliency_scores([]))
    rows = figure_rows(score)
    assert [name for name, _, _ in rows[:4]] == ["MAE", "S-measure", "weighted F", "max F"]
    assert rows[0][2].endswith("lower is better")
    assert all(math.isnan(value) for _, value, _ in rows[:-1])
    assert class_rows(score) == ([], [])


def test_localisation_by_boxes_and_by_maps():
    truth = Annotations.of((1,), ("cat",), Objects.of([0], [0], [[0, 0, 4, 4]]))
    boxes = topk_localisation_error(np.array([[0]]), np.array([[[0.0, 0.0, 4.0, 4.0]]]), truth, ks=(1, 5))
    assert figure_rows(scored("localisation", boxes))[0][:2] == ("top-1 error", 0.0)
    assert names(scored("localisation", boxes)) == ["top-1 error", "top-5 error", "images"]
    maps = max_box_accuracy([np.pad(np.ones((4, 4)), (0, 4))], truth)
    points = np.array([[[30.0, 0.0]]])
    maps["point_localisation"] = point_localisation(points, np.array([[0.5]]), truth, tolerance=3)
    score = scored("localisation", maps, tolerance=3)
    rows = {name: (value, meaning) for name, value, meaning in figure_rows(score)}
    assert rows["MaxBoxAcc"][0] == 1.0
    assert rows["box accuracy 0.7 any"][0] == 1.0
    assert rows["point mAP"][0] == 0.0
    assert rows["point mAP"][1].endswith("within 3 pixels")
    assert class_rows(score) == (
        ["class", "AP", "AP 11-point", "recall", "images", "TP", "FP"],
        [["cat", 0.0, 0.0, 0.0, 1, 0, 1]],
    )


def test_a_task_without_names_shows_its_numbers():
    score = SimpleNamespace(task="new", scores={"hit_rate": 0.5, "ok": True, "per_class": {"a": {"hit_rate": 1.0}}})
    assert figure_rows(score) == [("hit rate", 0.5, "")]
    assert class_rows(score) == (["class", "hit rate"], [["a", 1.0]])


@pytest.mark.parametrize("task", [task for task in TASKS if task in ("boxes", "masks", "keypoints")])
def test_headlines_of_the_task_are_among_the_figures(task: str):
    scores = box_scores(TRUTH, FOUND)
    shown = {value for _, value, _ in figure_rows(scored(task, scores)) if not math.isnan(value)}
    assert {scores[key] for key in TASKS[task].headline if not math.isnan(scores[key])} <= shown


@pytest.mark.parametrize(
    ("thresholds", "text"), [([0.5], "0.50"), ([0.5, 0.75], "0.50, 0.75"), ([0.1, 0.3, 0.5], "0.10:0.20:0.50")]
)
def test_thresholds_in_short(thresholds: list[float], text: str):
    assert spanned(thresholds) == text


def test_printing_figures_needs_nothing_heavy():
    heavy = "{'numpy', 'torch', 'numba', 'matplotlib', 'jinja2'} & set(sys.modules)"
    code = f"import sys, delineate.report.figures; print({heavy} or 'light')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "light"

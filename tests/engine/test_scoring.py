"""Files in, figures out: every task of ``score`` on small files, and what it refuses."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.data.objects import text_rows
from delineate.data.objects.opening import open_predictions, open_truth
from delineate.data.objects.shards import write_shard
from delineate.engine.scoring import TASKS, measure_files, score
from delineate.errors import ArgumentError, DataError, UnknownNameError
from delineate.report.figures import figure_rows
from delineate.report.scores import render_score, write_score_report
from tests.coco_scenes import reference, scene, written

SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Two images; a cell in the first, a cell and a speck in the second."""
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 10, 10], "area": 100, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [10, 10, 10, 10], "area": 100, "iscrowd": 0},
        {"id": 3, "image_id": 9, "category_id": 5, "bbox": [40, 40, 4, 4], "area": 16, "iscrowd": 0},
    ]
    for annotation in annotations:
        left, top, width, height = annotation["bbox"]
        right, bottom = left + width, top + height
        annotation["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
    images = [{"id": i, "file_name": f"{i}.png", "height": 50, "width": 60} for i in (9, 7)]
    categories = [{"id": 3, "name": "cell"}, {"id": 5, "name": "speck"}]
    return write(tmp_path / "truth.json", {"images": images, "annotations": annotations, "categories": categories})


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """The first cell exactly, the second moved to an IoU of 1/3, the speck under the name of a cell."""
    return write(
        tmp_path / "found.json",
        [
            {"image_id": 7, "category_id": 3, "bbox": [10, 10, 10, 10], "score": 0.9},
            {"image_id": 9, "category_id": 3, "bbox": [15, 10, 10, 10], "score": 0.8},
            {"image_id": 9, "category_id": 3, "bbox": [40, 40, 4, 4], "score": 0.7},
        ],
    )


def test_boxes_by_hand(truth, found):
    scores = score("boxes", truth, found)
    # cell: one of two found, at recall 0.5 with precision 1: 51 of 101 recalls; speck: none
    assert scores["per_class"]["cell"]["ap"] == pytest.approx(51 / 101)
    assert scores["per_class"]["speck"]["ap"] == 0
    assert scores["ap"] == pytest.approx(51 / 202)
    assert (scores["ar100"], scores["images"], scores["truths"], scores["detections"]) == (0.25, 2, 3, 3)
    assert math.isnan(scores["ap_large"])
    curves = scores["curves"]
    assert curves["recalls"][50] == 0.5
    assert curves["per_class"]["cell"] == pytest.approx([1.0] * 51 + [0.0] * 50)
    assert curves["precision"]["0.5"] == pytest.approx([0.5] * 51 + [0.0] * 50)  # the mean of cell and speck
    assert list(curves["precision"])[-1] == "0.95"


def test_options_reach_the_figures(truth, found):
    low = score("boxes", truth, found, iou_thresholds=[0.3])
    assert low["per_class"]["cell"]["ap"] == pytest.approx(1)
    assert math.isnan(low["ap50"])
    assert low["iou_thresholds"] == [0.3]
    agnostic = score("boxes", truth, found, class_agnostic=True)
    assert agnostic["per_class"].keys() == {"object"}
    assert agnostic["ar100"] == pytest.approx(2 / 3)
    ranges = score("boxes", truth, found, area_ranges={"all": (0, 1e10), "tiny": (0, 50)}, max_detections=[1])
    assert ranges["ap_tiny"] == 0
    assert set(ranges) >= {"ar1", "ar_tiny"}
    assert "ar100" not in ranges


def test_errors_say_why_precision_is_lost(truth, found):
    scores = score("boxes", truth, found, errors=True)
    counts = scores["errors"]["counts"]
    assert (counts["true_positives"], counts["localisation"], counts["classification"]) == (1, 1, 1)
    assert (counts["missed"], counts["background"]) == (0, 0)
    assert scores["errors"]["confusion"]["classes"] == ["cell", "speck", "background"]
    assert scores["errors"]["confusion"]["matrix"] == [[1, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert scores["per_class"]["cell"]["best_f1"]["threshold"] == 0.9
    assert scores["calibration"]["bins"]


def test_masks_and_their_boundaries(truth, found, tmp_path):
    results = json.loads(found.read_text())
    for result in results:
        left, top, width, height = result.pop("bbox")
        right, bottom = left + width, top + height
        result["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
    path = write(tmp_path / "masks.json", results)
    plain, both = score("masks", truth, path), score("masks", truth, path, boundary=True)
    assert plain["ap"] == pytest.approx(51 / 202)
    assert both["boundary"]["ap"] == pytest.approx(51 / 202)
    assert both["ap"] == plain["ap"]


@pytest.mark.parametrize("order", ["grouped", "mixed"])
def test_masks_that_come_in_parts_score_the_same(truth, tmp_path, monkeypatch, order):
    """A few lines a block; images that come back later are read all at once."""
    monkeypatch.setattr(text_rows, "_BLOCK", 300)
    generator = np.random.default_rng(0)
    records = []
    for image in (9, 7):
        for _ in range(12):
            left, top = generator.integers(5, 40, 2).tolist()
            polygon = [left, top, left + 10, top, left + 10, top + 10, left, top + 10]
            score_of = round(float(generator.random()), 1)
            category = int(generator.choice([3, 5]))
            records.append({"image_id": image, "category_id": category, "segmentation": [polygon], "score": score_of})
    if order == "mixed":
        generator.shuffle(records)
    lines = tmp_path / "found.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    whole = measure_files("masks", truth, write(tmp_path / "found.json", records), iou_thresholds=[0.1, 0.5])
    parts = measure_files("masks", truth, lines, iou_thresholds=[0.1, 0.5])
    assert json.dumps(parts.scores) == json.dumps(whole.scores)
    assert whole.scores["ap"] > 0
    assert (parts.evidence.predictions.masks is None) == (order == "grouped")
    agnostic = [measure_files("masks", truth, path, class_agnostic=True) for path in (lines, tmp_path / "found.json")]
    assert json.dumps(agnostic[0].scores) == json.dumps(agnostic[1].scores)
    assert (agnostic[0].evidence.predictions.masks is None) == (order == "grouped")
    limited = measure_files("masks", truth, lines, iou_thresholds=[0.1, 0.5], max_detections=[3])
    for result in (parts, limited):
        matches, found = result.evidence.result.matches, result.evidence.predictions
        assert np.array_equal(matches.scores, found.scores[matches.detections])
        assert np.array_equal(matches.images, found.images[matches.detections])
    kept = measure_files("masks", truth, lines, iou_thresholds=[0.1, 0.5], keep_masks=True)
    for name in ("detections", "labels", "images", "scores", "ranks", "states", "matched"):
        assert np.array_equal(getattr(parts.evidence.result.matches, name), getattr(kept.evidence.result.matches, name))
    annotations = open_truth(truth, columns="masks")
    for i, image in enumerate((0, 1)):
        found = open_predictions(lines, annotations, columns="masks")
        write_shard(tmp_path / f"shards/{i}.npz", found.select(found.images == image), annotations)
    sharded = measure_files("masks", truth, tmp_path / "shards", iou_thresholds=[0.1, 0.5])
    assert sharded.scores["ap"] == pytest.approx(whole.scores["ap"])
    assert sharded.evidence.predictions.masks is None


def test_keypoints_with_sigmas_of_their_own(tmp_path):
    points = [10, 10, 2, 20, 20, 2]
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 40, 40], "area": 1600.0, "iscrowd": 0}
    truth = write(
        tmp_path / "truth.json",
        {
            "images": [{"id": 1, "height": 50, "width": 50}],
            "categories": [{"id": 1, "name": "person", "keypoints": ["head", "foot"]}],
            "annotations": [{**person, "keypoints": points, "num_keypoints": 2}],
        },
    )
    moved = [14, 10, 1, 20, 20, 1]
    found = write(tmp_path / "found.json", [{"image_id": 1, "category_id": 1, "keypoints": moved, "score": 0.9}])
    # OKS by hand: exp(-16 / (2 * 1600 * (2 * 0.05)^2)) = exp(-0.5); the other point is exact
    similarity = (math.exp(-16 / (2 * 1600 * 0.01)) + 1) / 2
    scores = score("keypoints", truth, found, sigmas=[0.05, 0.05])
    assert scores["ap"] == pytest.approx(np.mean([similarity >= t for t in scores["iou_thresholds"]]))
    with pytest.raises(ArgumentError, match=r"truths must have 17 keypoints|predictions must have 17 keypoints"):
        score("keypoints", truth, found)


def test_voc_by_hand(truth, found):
    scores = score("voc", truth, found)
    assert scores["map"] == pytest.approx(0.25)
    assert scores["per_class"]["cell"]["ap"] == pytest.approx(0.5)


def test_progress_ends_where_it_said(truth, found):
    steps = []
    score("boxes", truth, found, errors=True, progress=lambda done, total: steps.append((done, total)))
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1]
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_what_was_measured_is_written(truth, found, tmp_path):
    result = measure_files("boxes", truth, found, class_agnostic=True)
    assert result.evidence is not None
    assert result.evidence.truth.classes == ("object",)
    result.write(tmp_path / "scores.json")
    back = json.loads((tmp_path / "scores.json").read_text())
    assert back["ap"] == result.scores["ap"]
    assert back["ap_large"] is None
    assert (back["task"], back["options"]) == ("boxes", {"class_agnostic": True})


def test_options_of_any_type_are_written(truth, found, tmp_path):
    """Paths, arrays and infinite areas; and an option that is none of the reader's business is not told."""
    thresholds = np.array([0.5, 0.75])
    result = measure_files(
        "boxes", truth, found, iou_thresholds=thresholds, area_ranges={"all": (0.0, math.inf), "any": (0.0, math.inf)}
    )
    result.write(tmp_path / "scores.json")
    back = json.loads((tmp_path / "scores.json").read_text())["options"]
    ranges = {"all": [0.0, "inf"], "any": [0.0, "inf"]}
    assert back == {"iou_thresholds": [0.5, 0.75], "area_ranges": ranges}
    assert ("AP any", result.scores["ap_any"], "true objects of any size") in figure_rows(result)
    assert measure_files("masks", truth, masks_of(found), keep_masks=True).options == {}
    (tmp_path / "true").mkdir()
    np.save(tmp_path / "true/a.npy", np.array([[0, 1]]))
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    maps = measure_files("semantic", tmp_path / "true", tmp_path / "true", classes=tmp_path / "classes.txt")
    maps.write(tmp_path / "maps.json")
    options = json.loads((tmp_path / "maps.json").read_text())["options"]
    assert options == {"classes": str(tmp_path / "classes.txt")}


def masks_of(found: Path) -> Path:
    """The same results with their boxes as masks."""
    results = json.loads(found.read_text())
    for result in results:
        left, top, width, height = result.pop("bbox")
        right, bottom = left + width, top + height
        result["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
    return write(found.parent / "found_masks.json", results)


@pytest.mark.parametrize("seed", range(12))
def test_classes_taken_as_one_equal_pycocotools(tmp_path, seed):
    """It lists objects by category first, which decides between equal scores and equal overlaps."""
    annotations, results = scene(seed)
    for result in results:
        result["score"] = round(result["score"], 1)
    paths = written(tmp_path, annotations, results)
    found = measure_files("boxes", *paths, class_agnostic=True).evidence.result
    if not annotations["annotations"] or not results:
        pytest.skip("pycocotools cannot read a file without objects")
    expected = reference(annotations, results, summary=False, useCats=0).eval["precision"]
    precision = np.nan_to_num(found.precision, nan=-1).transpose(1, 3, 2, 0)
    assert np.array_equal(precision, expected[..., -1])


def test_errors_are_told_of_one_overlap_and_all_areas(truth, found):
    """Asked for other thresholds and areas, the errors, the calibration and the best thresholds stay as they are."""
    usual = score("boxes", truth, found, errors=True)
    areas = {"small": (0, 50), "all": (0, 1e10)}
    other = score("boxes", truth, found, errors=True, iou_thresholds=[0.3], area_ranges=areas)
    assert json.dumps(other["errors"]) == json.dumps(usual["errors"])
    assert json.dumps(other["calibration"]) == json.dumps(usual["calibration"])
    for name, values in usual["per_class"].items():
        assert json.dumps(other["per_class"][name]["best_f1"]) == json.dumps(values["best_f1"])
        assert values["best_f1"]["iou_threshold"] == 0.5
    assert usual["errors"]["iou_threshold"] == usual["calibration"]["iou_threshold"] == 0.5


def test_scores_of_any_range_are_explained(truth, found):
    results = json.loads(found.read_text())
    usual = score("boxes", truth, found)
    for result in results:
        result["score"] = 10 * result["score"] - 5
    result = measure_files("boxes", truth, write(found, results), errors=True)
    assert result.scores["ap"] == usual["ap"]
    assert math.isnan(result.scores["calibration"]["expected_calibration_error"])
    (row,) = [row for row in figure_rows(result) if row[0] == "ECE"]
    assert row[2] == "scores must lie in 0 .. 1 to be calibrated; got 4"
    assert "ECE" in render_score(result)


def test_instance_maps_fit_classes_taken_as_one(truth, tmp_path):
    (tmp_path / "maps").mkdir()
    for image in (7, 9):
        ids = np.zeros((50, 60), np.uint8)
        ids[10:20, 10:20] = 1
        np.save(tmp_path / f"maps/{image}.npy", ids)
    for task in ("boxes", "masks"):
        scores = score(task, truth, tmp_path / "maps", class_agnostic=True)
        assert scores["ar100"] == pytest.approx(2 / 3)
    with pytest.raises(
        DataError, match=r"truth must have one class for the maps in .*maps; got 2\. .* with --class-agnostic\."
    ):
        score("boxes", truth, tmp_path / "maps")


@pytest.mark.parametrize(
    ("task", "option", "message"),
    [
        ("boxes", {"area_ranges": {}}, "area_ranges must name at least one range"),
        ("boxes", {"max_detections": ()}, "max_detections must be whole numbers of at least 1"),
        ("masks", {"iou_thresholds": [50.0]}, "iou_thresholds must be at least one number from 0 to 1"),
        ("keypoints", {"area_ranges": {"all": (0, 9), "iou50": (0, 9)}}, "area_ranges must have names other than"),
        ("voc", {"iou_thresholds": [50.0]}, "iou_thresholds must be different numbers above 0 and at most 1"),
        ("localisation", {"tolerance": -1}, "tolerance must be at least 0 pixels; got -1"),
    ],
)
def test_options_are_looked_at_before_files(tmp_path, task, option, message):
    with pytest.raises(ArgumentError, match=message):
        score(task, tmp_path / "gone.json", tmp_path / "gone.json", **option)


def test_what_is_refused(truth, found, tmp_path):
    with pytest.raises(UnknownNameError, match=r"task must be a known name; got 'box'\. Did you mean 'boxes'"):
        score("box", truth, found)
    with pytest.raises(ArgumentError, match="option must be one of the task boxes; got 'sigmas', which only"):
        score("boxes", truth, found, sigmas=[0.1])
    with pytest.raises(UnknownNameError, match="Did you mean 'iou_thresholds'"):
        score("boxes", truth, found, iou_treshold=[0.5])
    with pytest.raises(DataError, match="predictions must be a file or a folder; got nothing"):
        score("boxes", truth, tmp_path / "gone.json")
    with pytest.raises(UnknownNameError, match="truth format"):
        score("boxes", truth, found, truth_format="coca")
    with pytest.raises(DataError, match="masks must be in a format that has them"):
        score("masks", truth, found, prediction_format="voc")
    write(found, [{"image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 0.5}])
    with pytest.raises(DataError, match=r"image_id must be the id of a listed image; got 8 in .*found.json, \$\[0\]"):
        score("boxes", truth, found)


def test_masks_that_were_dropped_still_make_a_report(truth, found, tmp_path):
    """By the boxes of the masks, and the page says so."""
    lines = tmp_path / "found.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in json.loads(masks_of(found).read_text())))
    (tmp_path / "images").mkdir()
    for image in (7, 9):
        Image.new("RGB", (60, 50)).save(tmp_path / f"images/{image}.png")
    dropped = measure_files("masks", truth, lines)
    assert dropped.evidence.predictions.masks is None
    write_score_report(tmp_path / "report.html", dropped, images=tmp_path / "images")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "mistakes are told and drawn by their boxes" in page
    assert "data:image" in page
    kept = render_score(measure_files("masks", truth, lines, keep_masks=True), images=tmp_path / "images")
    assert "by their boxes" not in kept


@pytest.mark.parametrize("task", TASKS)
def test_a_task_says_what_it_is(task):
    assert TASKS[task].summary
    assert TASKS[task].headline


def test_no_task_needs_torch():
    """Loading PyTorch takes longer than scoring half a million boxes."""
    import subprocess

    code = "import sys, delineate; delineate.score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.data
def test_the_published_figures_of_coco(real_data):
    folder = real_data / "refvec"
    expected = json.loads((folder / "EXPECTED.json").read_text())["coco_bbox_ap"]["expected"]
    scores = score("boxes", folder / "coco_eval/sampled_gts_bbox_area.json", folder / "coco_eval/cocoapi_results.json")
    names = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "APsmall": "ap_small", "APmedium": "ap_medium"}
    names |= {"APlarge": "ap_large", "AR1": "ar1", "AR10": "ar10", "AR100": "ar100", "ARsmall": "ar_small"}
    for name, key in (names | {"ARmedium": "ar_medium", "ARlarge": "ar_large"}).items():
        assert scores[key] == pytest.approx(expected[name], abs=1e-6), name


@pytest.mark.data
def test_the_published_figures_of_voc(real_data):
    folder = real_data / "refvec/pascal_ap_toy"
    for threshold, every, eleven in ((0.5, 0.895833, 0.886364), (0.75, 0.509722, 0.492424)):
        scores = score(
            "voc",
            folder / "gts_vocpascal_format",
            folder / "dets_classname_abs_xyx2y2",
            prediction_format="text-xyxy",
            iou_thresholds=[threshold],
        )
        assert scores["map"] == pytest.approx(every, abs=1e-6)
        assert scores["map_11_point"] == pytest.approx(eleven, abs=1e-6)

import contextlib
import io
import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import binary_erosion

from delineate.data.objects.coco_json import read_predictions, read_truth
from delineate.errors import ArgumentError
from delineate.metrics.detection import (
    KEYPOINT_AREA_RANGES,
    KEYPOINT_MAX_DETECTIONS,
    average_precision,
    boundary_scores,
    box_scores,
    detection_scores,
    keypoint_scores,
    mask_scores,
)
from delineate.ops.matching import (
    COCO_AREA_RANGES,
    COCO_MAX_DETECTIONS,
    box_overlaps,
    keypoint_overlaps,
    mask_overlaps,
    match_objects,
)
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from tests.coco_scenes import KINDS, crowded_scene, read, reference, scene

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools

SCORES = {"boxes": box_scores, "masks": mask_scores, "keypoints": keypoint_scores}
OVERLAPS = {"boxes": box_overlaps, "masks": mask_overlaps, "keypoints": keypoint_overlaps()}
RANGES = {"boxes": COCO_AREA_RANGES, "masks": COCO_AREA_RANGES, "keypoints": KEYPOINT_AREA_RANGES}
LIMITS = {"boxes": COCO_MAX_DETECTIONS, "masks": COCO_MAX_DETECTIONS, "keypoints": KEYPOINT_MAX_DETECTIONS}
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
STATS += ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")
KEYPOINT_STATS = ("ap", "ap50", "ap75", "ap_medium", "ap_large")
KEYPOINT_STATS += ("ar20", "ar_iou50", "ar_iou75", "ar_medium", "ar_large")


def defined(values):
    """pycocotools' -1 as NaN."""
    values = np.array(values, np.float64)
    values[values == -1] = np.nan
    return values


def mean(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan


def expected_figures(evaluator):
    """Every figure from pycocotools' tensors, overall under None and of each class under its place."""
    precision, recall = defined(evaluator.eval["precision"])[..., -1], defined(evaluator.eval["recall"])
    thresholds, classes = evaluator.params.iouThrs, len(evaluator.params.catIds)
    figures = {}
    for place in (None, *range(classes)):
        own = slice(None) if place is None else slice(place, place + 1)
        values = {"ap": mean(precision[:, :, own, 0])}
        for percent in (50, 75):
            near = np.isclose(thresholds, percent / 100)
            values[f"ap{percent}"] = mean(precision[near][:, :, own, 0])
            values[f"ar_iou{percent}"] = mean(recall[near][:, own, 0, -1])
        for m, limit in enumerate(evaluator.params.maxDets):
            values[f"ar{limit}"] = mean(recall[:, own, 0, m])
        for a, name in enumerate(evaluator.params.areaRngLbl):
            if a:
                values[f"ap_{name}"] = mean(precision[:, :, own, a])
                values[f"ar_{name}"] = mean(recall[:, own, a, -1])
        figures[place] = values
    return figures


def check(evaluator, truth, predictions, kind, **options):
    """Equal tensors, for every limit of detections; equal figures of the whole and of each class."""
    limits = tuple(evaluator.params.maxDets)
    matching = {name: options[name] for name in ("iou_thresholds", "area_ranges") if name in options}
    matching.setdefault("area_ranges", RANGES[kind])
    recalls = {name: options[name] for name in ("recall_thresholds",) if name in options}
    matches = match_objects(truth, predictions, OVERLAPS[kind], max_detections=limits[-1], **matching)
    for m in range(len(limits)):
        result = average_precision(matches, max_detections=limits[: m + 1], **recalls)
        precision, scores = (defined(evaluator.eval[name])[..., m] for name in ("precision", "scores"))
        np.testing.assert_array_equal(result.precision, precision.transpose(3, 0, 2, 1))
        np.testing.assert_array_equal(result.scores[..., 1:], scores.transpose(3, 0, 2, 1)[..., 1:])
        np.testing.assert_array_equal(
            result.recall, defined(evaluator.eval["recall"]).transpose(2, 0, 1, 3)[..., : m + 1]
        )
    scores = SCORES[kind](truth, predictions, **options)
    expected = expected_figures(evaluator)
    for k, name in enumerate(truth.classes):
        figures = {key: value for key, value in scores["per_class"][name].items() if key in expected[k]}
        assert figures == pytest.approx(expected[k], abs=1e-9, nan_ok=True)
    figures = {key: value for key, value in scores.items() if key in expected[None]}
    assert figures == pytest.approx(expected[None], abs=1e-9, nan_ok=True)
    if len(evaluator.stats):
        stats = KEYPOINT_STATS if kind == "keypoints" else STATS
        assert [scores[name] for name in stats] == pytest.approx(defined(evaluator.stats), abs=1e-9, nan_ok=True)
    return scores


def check_scene(folder, truth, results, kind, **options):
    """Through files, and with pycocotools' parameters set as ours."""
    names = {"iou_thresholds": "iouThrs", "max_detections": "maxDets", "recall_thresholds": "recThrs"}
    parameters = {names[name]: np.array(value) for name, value in options.items() if name in names}
    if "maxDets" in parameters:
        parameters["maxDets"] = parameters["maxDets"].tolist()
    if "area_ranges" in options:
        parameters["areaRng"] = [list(limits) for limits in options["area_ranges"].values()]
        parameters["areaRngLbl"] = list(options["area_ranges"])
    evaluator = reference(truth, results, kind, summary=not options, **parameters)
    return check(evaluator, *read(folder, truth, results, kind), kind, **options)


def scenes(kind, seeds):
    """Those with a detection: pycocotools reads no empty list."""
    made = ((seed, *scene(seed, kind)) for seed in seeds)
    return [(seed, truth, results) for seed, truth, results in made if results]


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_equals_pycocotools(kind, tmp_path):
    seen = []
    for seed, truth, results in scenes(kind, range(24)):
        scores = check_scene(tmp_path, truth, results, kind)
        seen.append(scores["ap"])
        assert scores["detections"] <= len(results), seed
    interesting = [value for value in seen if 0 < value < 1]
    assert len(interesting) > 12
    assert any(math.isnan(value) for value in seen)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_many_scenes_equals_pycocotools(kind, tmp_path):
    for _, truth, results in scenes(kind, range(1000, 1400)):
        check_scene(tmp_path, truth, results, kind)
    for seed in range(20):
        check_scene(tmp_path, *crowded_scene(seed, kind, 300), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_more_detections_than_are_looked_at(kind, tmp_path):
    truth, results = crowded_scene(1, kind)
    check_scene(tmp_path, truth, results, kind)
    for limits in ((2, 5, 300), (7,)):
        check_scene(tmp_path, truth, results, kind, max_detections=limits)


@pytest.mark.parametrize(
    "options",
    [
        {"iou_thresholds": (0.5,)},
        {"iou_thresholds": (1.0,)},
        {"iou_thresholds": (0.0, 0.75)},
        {"iou_thresholds": tuple(np.linspace(0.05, 1.0, 20).tolist())},
        {"area_ranges": {"all": (0, 1e10), "tiny": (0, 1024), "one": (9216, 9216)}},
        {"area_ranges": {"middle": (1000.0, 9000.0)}},
        {"recall_thresholds": (0.0, 0.1, 0.5, 1.0)},
        {"max_detections": (1, 3)},
    ],
    ids=["one threshold", "of 1", "of 0", "twenty", "own ranges", "one range", "recalls", "limits"],
)
def test_other_options_equal_pycocotools(options, tmp_path):
    for kind in ("boxes", "masks"):
        for _, truth, results in scenes(kind, range(200, 206)):
            check_scene(tmp_path, truth, results, kind, **options)


def test_taken_as_one_class_equals_pycocotools_without_categories(tmp_path):
    for _, truth, results in scenes("boxes", range(300, 310)):
        for records in (truth["annotations"], results):
            records.sort(key=lambda record: record["category_id"])  # the order in which it strings the classes together
        evaluator = reference(truth, results, useCats=0)
        annotations, predictions = read(tmp_path, truth, results)
        scores = box_scores(annotations.class_agnostic(), predictions.class_agnostic())
        assert [scores[name] for name in STATS] == pytest.approx(defined(evaluator.stats), abs=1e-9, nan_ok=True)
        assert list(scores["per_class"]) == ["object"]


@pytest.mark.parametrize("kind", KINDS)
def test_faster_coco_eval_has_the_same_figures(kind, tmp_path):
    faster = pytest.importorskip("faster_coco_eval")
    for _, truth, results in scenes(kind, range(400, 406)):
        scores = SCORES[kind](*read(tmp_path, truth, results, kind))
        if kind == "masks":
            results = [compressed(result, truth) for result in results]
        with contextlib.redirect_stdout(io.StringIO()):
            annotations = faster.COCO(truth)
            evaluator = faster.COCOeval_faster(annotations, annotations.loadRes(results), KINDS[kind])
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        stats = KEYPOINT_STATS if kind == "keypoints" else STATS
        found = defined(evaluator.stats)[: len(stats)]
        assert [scores[name] for name in stats] == pytest.approx(found, abs=1e-9, nan_ok=True)


def compressed(result, truth):
    size = next((image["height"], image["width"]) for image in truth["images"] if image["id"] == result["image_id"])
    mask = result["segmentation"]
    if isinstance(mask, list) or isinstance(mask["counts"], list):
        mask = coco_mask.frPyObjects(mask, *size)
        mask = coco_mask.merge(mask) if isinstance(mask, list) else mask
        mask["counts"] = mask["counts"].decode()
    return {**result, "segmentation": mask}


class BoundaryEvaluation(COCOeval):
    """pycocotools with another overlap, from pixels: the smaller of the IoU of masks and of boundaries."""

    def computeIoU(self, imgId, catId):
        truths, found = self._gts[imgId, catId], self._dts[imgId, catId]
        found = [found[i] for i in np.argsort([-d["score"] for d in found], kind="mergesort")][
            : self.params.maxDets[-1]
        ]
        if not truths or not found:
            return []
        ious = np.zeros((len(found), len(truths)))
        masks = [[coco_mask.decode(entry["segmentation"]).astype(bool) for entry in side] for side in (found, truths)]
        edges = [[mask & ~eroded(mask) for mask in side] for side in masks]
        for i, j in np.ndindex(ious.shape):
            crowd = truths[j]["iscrowd"]
            ious[i, j] = min(overlap(side[0][i], side[1][j], crowd) for side in (masks, edges))
        return ious


def eroded(mask, ratio=0.02):
    steps = max(1, round(ratio * math.hypot(*mask.shape)))
    return binary_erosion(mask, np.ones((3, 3)), iterations=steps, border_value=0)


def overlap(found, true, crowd):
    both = int((found & true).sum())
    whole = int(found.sum()) if crowd else int((found | true).sum())
    return both / whole if both else 0.0


def test_boundary_figures_equal_a_reading_from_pixels(tmp_path):
    lower = 0
    for _, truth, results in scenes("masks", range(500, 512)):
        evaluator = reference(truth, results, "masks", BoundaryEvaluation)
        annotations, predictions = read(tmp_path, truth, results, "masks")
        scores = boundary_scores(annotations, predictions)
        assert [scores[name] for name in STATS] == pytest.approx(defined(evaluator.stats), abs=1e-9, nan_ok=True)
        expected = expected_figures(evaluator)
        for k, name in enumerate(annotations.classes):
            own = scores["per_class"][name]
            assert {key: own[key] for key in expected[k]} == pytest.approx(expected[k], abs=1e-9, nan_ok=True)
        lower += scores["ap"] < mask_scores(annotations, predictions)["ap"]
    assert lower > 4


def test_a_wide_boundary_is_the_whole_mask(tmp_path):
    _, truth, results = scenes("masks", [505])[0]
    annotations, predictions = read(tmp_path, truth, results, "masks")
    whole, narrow = mask_scores(annotations, predictions), boundary_scores(annotations, predictions)
    assert boundary_scores(annotations, predictions, ratio=0.9) == whole
    assert narrow["ap"] < whole["ap"]


# by hand


def objects(boxes, labels=None, images=None, **columns):
    count = len(boxes)
    return Objects.of(images or [0] * count, labels or [0] * count, boxes, **columns)


def annotated(true, images=(1, 2), classes=("cell", "nucleus")):
    return Annotations.of(images, classes, true)


def test_boxes_by_hand():
    """Class 0: right, wrong, right of three; class 1 has no truth; one of the right ones has an IoU of 0.8."""
    truth = annotated(objects([[0, 0, 10, 10], [20, 0, 50, 50], [0, 20, 10, 10]], images=[0, 0, 1]))
    found = objects(
        [[0, 0, 10, 10], [60, 60, 9, 9], [20, 0, 50, 40], [5, 5, 5, 5]],
        labels=[0, 0, 0, 1],
        images=[0, 0, 0, 1],
        scores=[0.9, 0.8, 0.7, 0.6],
    )
    scores = box_scores(truth, found)
    # recalls 0 .. 0.33 at precision 1 (34 of 101), .. 0.66 at 2/3 (33 of 101)
    at_50 = (34 + 33 * 2 / 3) / 101
    assert scores["ap50"] == scores["ap75"] == pytest.approx(at_50, abs=1e-12)
    assert scores["ap"] == pytest.approx((7 * at_50 + 3 * 34 / 101) / 10, abs=1e-12)  # 0.5 .. 0.8 and 0.85 .. 0.95
    assert scores["ar1"] == pytest.approx(1 / 3)
    assert scores["ar10"] == scores["ar100"] == pytest.approx((7 * 2 / 3 + 3 * 1 / 3) / 10)
    assert scores["ap_small"] == pytest.approx(51 / 101)  # of two: one found, first of all that are small
    assert scores["ap_medium"] == pytest.approx(0.7)
    assert math.isnan(scores["ap_large"])
    assert math.isnan(scores["ar_large"])
    assert math.isnan(scores["per_class"]["nucleus"]["ap"])
    assert scores["per_class"]["nucleus"]["detections"] == 1
    assert scores["per_class"]["cell"]["ap"] == scores["ap"]
    assert [scores[name] for name in ("images", "truths", "detections")] == [2, 3, 4]
    assert scores["max_detections"] == [1, 10, 100]


def test_an_overlap_of_just_the_threshold_counts(tmp_path):
    truth = {
        "images": [{"id": 5, "height": 20, "width": 20}],
        "categories": [{"id": 2, "name": "cell"}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 2, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}],
    }
    results = [{"image_id": 5, "category_id": 2, "bbox": [0, 0, 10, 5], "score": 0.5}]
    scores = check_scene(tmp_path, truth, results, "boxes")
    assert [scores["ap50"], scores["ap75"], scores["ap"]] == pytest.approx([1.0, 0.0, 0.1])


def test_the_truth_with_id_zero_can_be_found(tmp_path):
    """The one known difference: pycocotools takes 0 for "nothing matched"."""
    truth = {
        "images": [{"id": 0, "height": 20, "width": 20}],
        "categories": [{"id": 0, "name": "cell"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}],
    }
    results = [{"image_id": 0, "category_id": 0, "bbox": [0, 0, 10, 10], "score": 0.5}]
    assert reference(truth, results).stats[0] == 0
    assert box_scores(*read(tmp_path, truth, results))["ap"] == pytest.approx(1)
    truth["annotations"][0]["id"] = 1
    assert reference(truth, results).stats[0] == pytest.approx(1)
    assert box_scores(*read(tmp_path, truth, results))["ap"] == pytest.approx(1)


def test_among_equal_scores_the_order_is_that_of_images_and_of_the_file(tmp_path):
    image = {"height": 20, "width": 20}
    truth = {
        "images": [{"id": 9, **image}, {"id": 4, **image}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"id": 1, "image_id": 4, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}],
    }
    right = {"image_id": 4, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}
    wrong, elsewhere = {**right, "bbox": [10, 10, 5, 5]}, {**right, "image_id": 9}
    for results, expected in (([wrong, right], 0.5), ([right, wrong], 1.0), ([elsewhere, right], 1.0)):
        assert check_scene(tmp_path, truth, results, "boxes")["ap"] == pytest.approx(expected)


def test_huge_negative_and_empty_boxes_equal_pycocotools(tmp_path):
    boxes = [
        [-50, -50, 20, 20],
        [1e7, 1e7, 2e4, 2e4],
        [0, 0, 0, 10],
        [3.3, 3.3, 0.1, 0.1],
        [5, 5, -4, 9],
        [1e14, 0, 1e14, 1],
    ]
    truth = {
        "images": [{"id": 1, "height": 20, "width": 20}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": abs(box[2] * box[3]), "iscrowd": i % 2}
            for i, box in enumerate([*boxes, *boxes], 1)
        ],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.5} for box in boxes]
    check_scene(tmp_path, truth, results, "boxes")
    check_scene(tmp_path, truth, results, "boxes", iou_thresholds=(0.0, 0.5, 1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_found_is_zero_and_nothing_true_undefined(kind, tmp_path):
    truth, results = next((t, r) for _, t, r in scenes(kind, range(50)) if len(t["annotations"]) > 8)
    for entry in truth["annotations"]:
        entry.update(iscrowd=0, area=2000.0, num_keypoints=3)
    present = {entry["category_id"] for entry in truth["annotations"]}
    names = set(SCORES[kind](*read(tmp_path, truth, results, kind)))
    nothing_found = SCORES[kind](*read(tmp_path, truth, [], kind))
    assert set(nothing_found) == names
    limit = LIMITS[kind][-1]
    assert [nothing_found[name] for name in ("ap", "ap50", "ap_medium", f"ar{limit}", "ar_medium")] == [0] * 5
    assert math.isnan(nothing_found["ap_large"])
    for category in truth["categories"]:
        figures = nothing_found["per_class"][category["name"]]
        assert figures["ap"] == 0 if category["id"] in present else math.isnan(figures["ap"])
        assert figures["detections"] == 0
    for empty in ({**truth, "annotations": []}, {**truth, "images": [], "annotations": []}):
        some = results if empty["images"] else []
        for scores in (
            SCORES[kind](*read(tmp_path, empty, some, kind)),
            SCORES[kind](*read(tmp_path, empty, [], kind)),
        ):
            assert all(math.isnan(scores[name]) for name in ("ap", "ap50", "ap_medium", f"ar{limit}"))
            assert scores["truths"] == 0


def test_only_crowds_are_undefined(tmp_path):
    truth, results = next((t, r) for _, t, r in scenes("boxes", range(50)) if len(t["annotations"]) > 8)
    for entry in truth["annotations"]:
        entry["iscrowd"] = 1
    scores = check_scene(tmp_path, truth, results, "boxes")
    assert all(math.isnan(scores[name]) for name in STATS)


# what must hold of any scene


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_itself_scores_one(kind, tmp_path):
    truth, _ = next((t, r) for _, t, r in scenes(kind, range(50)) if len(t["annotations"]) > 8)
    if kind == "keypoints":
        for entry in truth["annotations"]:
            entry["keypoints"][2], entry["num_keypoints"] = 2, 1
            entry["area"] = max(entry["area"], 1.0)
    for entry in truth["annotations"]:
        entry["iscrowd"] = 0
        entry["bbox"] = [abs(value) + 1 for value in entry["bbox"]]
    if kind == "masks":
        areas = read(tmp_path, truth, [], kind)[0].objects.masks.areas()
        truth["annotations"] = [entry for entry, area in zip(truth["annotations"], areas, strict=True) if area]
    results = [{**entry, "score": 0.5} for entry in truth["annotations"]]
    scores = SCORES[kind](*read(tmp_path, truth, results, kind))
    figures = [scores[name] for name in ("ap", "ap50", "ap75", f"ar{LIMITS[kind][-1]}")]
    assert figures == pytest.approx([1] * 4, abs=1e-12)


def renamed(records, key, names):
    return [{**record, key: names[record[key]]} for record in records]


def test_other_names_and_another_order_change_nothing(tmp_path):
    generator = np.random.default_rng(0)
    for _, truth, results in scenes("boxes", range(600, 606)):
        for place, result in enumerate(generator.permutation(len(results))):
            results[result]["score"] = (place + 1) / (len(results) + 1)
        before = box_scores(*read(tmp_path, truth, results))
        images = {entry["id"]: int(i) for i, entry in enumerate(generator.permutation(truth["images"]))}
        classes = {entry["id"]: int(i) for i, entry in enumerate(generator.permutation(truth["categories"]))}
        turned = {
            "images": renamed(truth["images"], "id", images)[::-1],
            "categories": renamed(truth["categories"], "id", classes)[::-1],
            "annotations": renamed(renamed(truth["annotations"], "image_id", images), "category_id", classes),
        }
        results = renamed(renamed(results, "image_id", images), "category_id", classes)
        after = box_scores(*read(tmp_path, turned, [results[i] for i in generator.permutation(len(results))]))
        assert {name: after[name] for name in STATS} == pytest.approx(
            {name: before[name] for name in STATS}, rel=1e-12, nan_ok=True
        )
        for name, figures in before["per_class"].items():
            assert after["per_class"][name] == pytest.approx(figures, rel=1e-12, nan_ok=True)


def test_a_false_detection_never_raises_a_figure(tmp_path):
    lowered = 0
    for seed, truth, results in scenes("boxes", range(700, 712)):
        empty = {"id": 999, "height": 100, "width": 100}
        truth["images"].append(empty)
        before = box_scores(*read(tmp_path, truth, results))
        score = [0.0, 0.5, 1.0][seed % 3]
        false = [
            {"image_id": 999, "category_id": category["id"], "bbox": [0, 0, side, side], "score": score}
            for category in truth["categories"]
            for side in (20, 50, 100)
        ]
        after = box_scores(*read(tmp_path, truth, false + results))
        for name in STATS:
            assert math.isnan(before[name]) == math.isnan(after[name])
            assert not after[name] > before[name]
            lowered += after[name] < before[name]
    assert lowered > 5


# real files


def test_published_figures(real_data):
    """The figures that the COCO API has for its own sample."""
    folder = real_data / "refvec"
    case = json.loads((folder / "EXPECTED.json").read_text())["coco_bbox_ap"]
    truth = read_truth(folder / case["gt"])
    scores = box_scores(truth, read_predictions(folder / case["dt"], truth))
    for name, value in case["expected"].items():
        own = name.lower().replace("small", "_small").replace("medium", "_medium").replace("large", "_large")
        assert scores[own] == pytest.approx(value, abs=case["tol"])
    content = [json.loads((folder / case[side]).read_text()) for side in ("gt", "dt")]
    evaluator = reference(*content)
    check(evaluator, truth, read_predictions(folder / case["dt"], truth), "boxes")


@pytest.mark.parametrize("kind", KINDS)
def test_moved_copies_of_real_annotations_equal_pycocotools(kind, real_data, tmp_path):
    name = "coco_pose_mini/annotations/person_keypoints_train2017.json"
    if kind != "keypoints":
        name = "coco_tiny/annotations/instances_train2017.json"
    truth = json.loads((real_data / name).read_text())
    generator = np.random.default_rng(0)
    results = []
    for entry in truth["annotations"]:
        for _ in range(3):
            moved = dict(entry, score=round(float(generator.random()), 2))
            step = generator.normal(0, 0.06, 2) * entry["bbox"][2:]
            if kind == "boxes":
                moved["bbox"] = [*(np.array(entry["bbox"][:2]) + step).tolist(), *entry["bbox"][2:]]
            elif kind == "masks" and not entry["iscrowd"]:
                moved["segmentation"] = [
                    (np.array(part).reshape(-1, 2) + step).reshape(-1).tolist() for part in entry["segmentation"]
                ]
            elif kind == "keypoints":
                points = np.array(entry["keypoints"], np.float64).reshape(-1, 3)
                points[:, :2] += generator.normal(0, generator.choice([1, 5, 20]), (len(points), 2))
                moved["keypoints"] = points.reshape(-1).tolist()
            if generator.random() < 0.1 and kind != "keypoints":
                moved["category_id"] = int(generator.choice(truth["categories"])["id"])
            keys = ("image_id", "category_id", "score", {"boxes": "bbox", "masks": "segmentation"}.get(kind, kind))
            results.append({key: moved[key] for key in keys})
    scores = check_scene(tmp_path, truth, results, kind)
    assert 0.1 < scores["ap"] < 0.95


# options


def test_wrong_options():
    truth, found = annotated(objects([[0, 0, 10, 10]])), objects([[0, 0, 10, 10]], scores=[0.5])
    with pytest.raises(ArgumentError, match=r"max_detections must be at least 1; got 0\."):
        box_scores(truth, found, max_detections=())
    with pytest.raises(ArgumentError, match=r"max_detections must be at least 1; got 0\."):
        box_scores(truth, found, max_detections=(0,))
    with pytest.raises(ArgumentError, match=r"recall_thresholds must ascend; got \(0\.5, 0\.1\)\."):
        box_scores(truth, found, recall_thresholds=(0.5, 0.1))
    with pytest.raises(ArgumentError, match=r"predictions must have masks; got none\."):
        mask_scores(truth, found)
    with pytest.raises(ArgumentError, match=r"predictions must have masks; got none\."):
        boundary_scores(truth, found)
    with pytest.raises(ArgumentError, match=r"predictions must have 17 keypoints, one a sigma; got None\."):
        keypoint_scores(truth, found)


def test_a_threshold_that_was_not_asked_for_is_undefined():
    truth, found = annotated(objects([[0, 0, 10, 10]])), objects([[0, 0, 10, 10]], scores=[0.5])
    scores = detection_scores(truth, found, iou_thresholds=(0.6, 0.75))
    assert math.isnan(scores["ap50"])
    assert [scores["ap75"], scores["ap"]] == pytest.approx([1, 1])
    assert scores["iou_thresholds"] == [0.6, 0.75]
    assert box_scores(truth, found, max_detections=(5, 3, 3))["max_detections"] == [3, 5]

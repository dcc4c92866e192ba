"""The figures of a score under the names the field writes, in the order in which people read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delineate.engine.scoring import Score

Figure = tuple[str, float | int, str]
ErrorRow = tuple[str, int, float, str]

ERROR_KINDS = {
    "classification": "on a true object, as another class",
    "localisation": "the right class, but badly placed",
    "both": "badly placed, and as another class",
    "duplicate": "on an object that a more confident detection found",
    "background": "on nothing",
    "missed": "true objects that nothing pointed at",
}
_OBJECT_TASKS = ("boxes", "masks", "keypoints")
_SALIENCY = {
    "mae": ("MAE", "mean distance of map and mask over the pixels; lower is better"),
    "s_measure": ("S-measure", "likeness of structure, by regions and object"),
    "weighted_f": ("weighted F", "F-measure in which nearby mistakes weigh less"),
    "max_f": ("max F", "F-measure at the best of 256 thresholds; beta squared 0.3"),
    "mean_f": ("mean F", "F-measure over 256 thresholds"),
    "adaptive_f": ("adaptive F", "F-measure at twice the mean of each map"),
    "max_e": ("max E", "enhanced alignment at the best of 256 thresholds"),
    "mean_e": ("mean E", "enhanced alignment over 256 thresholds"),
    "adaptive_e": ("adaptive E", "enhanced alignment at twice the mean of each map"),
}
_SEMANTIC = {
    "miou": ("mean IoU", "intersection over union, mean over the classes that occur"),
    "pixel_accuracy": ("pixel accuracy", "share of the labelled pixels that got their class"),
    "mean_accuracy": ("mean accuracy", "recall, mean over the classes that occur"),
    "fwiou": ("frequency-weighted IoU", "IoU, each class weighted by its share of the pixels"),
    "mean_dice": ("mean Dice", "Dice (F1 of the pixels), mean over the classes that occur"),
    "boundary_f1": ("boundary F1", "F1 of the outlines, within 0.75 % of the diagonal"),
}
_PANOPTIC = {
    "pq": ("PQ", "panoptic quality: SQ x RQ within a class"),
    "sq": ("SQ", "segmentation quality: mean IoU of the matched segments"),
    "rq": ("RQ", "recognition quality: F1 of the segments, matched above IoU 0.5"),
}
_VOC = {
    "map": ("mAP", "area under precision over recall (VOC since 2010)"),
    "map_11_point": ("mAP 11-point", "mean precision at the recalls 0, 0.1 .. 1 (VOC 2007)"),
}

_LOCALISATION = {
    "top1_error": ("top-1 error", "images whose first guess misses class or box; IoU 0.5, lower is better"),
    "top5_error": ("top-5 error", "images whose first five guesses all miss class or box; lower is better"),
    "known_error": ("GT-known error", "images where the box of the true class misses; IoU 0.5, lower is better"),
    "max_box_accuracy": ("MaxBoxAcc", "images where the largest component meets a true box at IoU 0.5"),
    "max_box_accuracy_v2": ("MaxBoxAccV2", "images where any component meets a true box, mean over IoU 0.3, 0.5, 0.7"),
}
_POINTS = {
    "map": ("point mAP", "peaks of maps on objects; area under precision over recall"),
    "map_11_point": ("point mAP 11-point", "mean precision at the recalls 0, 0.1 .. 1"),
}


def figure_rows(score: Score) -> list[Figure]:
    """(name, value, meaning) of each figure of the whole, the most important first.

    The names are those of the field's tables; the meaning says which thresholds and limits were really used. Figures
    of a threshold that was not asked for are left out, undefined ones are NaN.

    Example:
        >>> from types import SimpleNamespace
        >>> score = SimpleNamespace(task="panoptic", scores={"all": {"pq": 0.5, "sq": 0.75, "rq": 0.66}, "images": 3})
        >>> figure_rows(score)[0]
        ('PQ', 0.5, 'panoptic quality: SQ x RQ within a class; mean over the classes that occur')
    """
    return _FIGURES.get(score.task, _plain_figures)(score)


def class_rows(score: Score) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the table of classes, in the order of the classes; ([], []) where a task has none."""
    holder = score.scores.get("point_localisation", score.scores)
    per_class: Mapping[str, Mapping[str, Any]] = holder.get("per_class") or {}
    if not per_class:
        return [], []
    columns = _class_columns(score, list(per_class.values()))
    rows = [[name, *(_looked_up(values, key) for key in columns)] for name, values in per_class.items()]
    return ["class", *columns.values()], rows


def error_rows(score: Score) -> list[ErrorRow]:
    """(kind, count, average precision lost, meaning) of each kind of error; empty where it was not asked for."""
    errors = score.scores.get("errors")
    if not errors:
        return []
    return [
        (kind, int(errors["counts"][kind]), float(errors["delta_ap"][kind]), meaning)
        for kind, meaning in ERROR_KINDS.items()
    ]


def spanned(thresholds: Sequence[float]) -> str:
    """Thresholds in the field's short form.

    Example:
        >>> spanned([0.5, 0.55, 0.6]), spanned([0.5]), spanned([0.5, 0.75, 0.9])
        ('0.50:0.05:0.60', '0.50', '0.50, 0.75, 0.90')
    """
    steps = [b - a for a, b in pairwise(thresholds)]
    if len(steps) > 1 and max(steps) - min(steps) < 1e-9:
        return f"{thresholds[0]:.2f}:{steps[0]:.2f}:{thresholds[-1]:.2f}"
    return ", ".join(f"{threshold:.2f}" for threshold in thresholds)


def area_ranges(score: Score) -> dict[str, tuple[float, float]]:
    """The area ranges an object score used, the first one (all) included."""
    from delineate.metrics.detection import KEYPOINT_AREA_RANGES  # loaded already, by whatever made the score
    from delineate.ops.matching import COCO_AREA_RANGES

    standard = KEYPOINT_AREA_RANGES if score.task == "keypoints" else COCO_AREA_RANGES
    return dict(score.options.get("area_ranges") or standard)


def _object_figures(score: Score) -> list[Figure]:
    scores = score.scores
    overlap = "OKS" if score.task == "keypoints" else "IoU"
    rows = _precision_figures(score, scores, overlap, "")
    if "boundary" in scores:
        rows += _precision_figures(score, scores["boundary"], "IoU of masks and outlines", "Boundary ")
    calibration = scores.get("calibration")
    if calibration:
        level = calibration["iou_threshold"]
        meaning = f"mean distance of score and precision at {overlap} {level:.2f}; lower is better"
        meaning = calibration.get("note", meaning)
        rows.append(("ECE", calibration["expected_calibration_error"], meaning))
    return rows + _counts(
        scores, {"images": "annotated", "truths": "objects that count", "detections": "within the limit"}
    )


def _precision_figures(score: Score, scores: Mapping[str, Any], overlap: str, prefix: str) -> list[Figure]:
    thresholds = list(scores["iou_thresholds"])
    limit = scores["max_detections"][-1]
    whole = "all classes as one" if score.options.get("class_agnostic") else "mean over classes"
    averaged = f"{overlap} {spanned(thresholds)}, {whole}"
    rows: list[Figure] = [
        (f"{prefix}AP", scores["ap"], f"average precision at {averaged}; up to {limit} detections an image and class")
    ]
    for threshold in (0.5, 0.75):
        if _holds(thresholds, threshold):
            name = f"{round(100 * threshold)}"
            rows.append((f"{prefix}AP{name}", scores[f"ap{name}"], f"at {overlap} {threshold:.2f} alone"))
    ranges = list(area_ranges(score).items())[1:]
    areas = {name: _area_text(low, high) for name, (low, high) in ranges}
    rows += [(f"{prefix}AP {name}", scores[f"ap_{name}"], text) for name, text in areas.items()]
    if prefix:
        return rows
    for most in scores["max_detections"]:
        one = "1 detection" if most == 1 else f"{most} detections"
        rows.append((f"AR {most}", scores[f"ar{most}"], f"recall with up to {one} an image and class, at {averaged}"))
    if score.task == "keypoints":  # COCO's ten figures have these two, its twelve do not
        for threshold in (0.5, 0.75):
            if _holds(thresholds, threshold):
                name = f"{round(100 * threshold)}"
                rows.append((f"AR{name}", scores[f"ar_iou{name}"], f"recall at {overlap} {threshold:.2f} alone"))
    return rows + [(f"AR {name}", scores[f"ar_{name}"], text) for name, text in areas.items()]


def _holds(thresholds: Sequence[float], wanted: float) -> bool:
    return any(abs(threshold - wanted) < 1e-9 for threshold in thresholds)


def _area_text(low: float, high: float) -> str:
    """A range of areas as sides of squares, which is how the field thinks of them."""
    if low <= 0 and math.isinf(high):
        return "true objects of any size"
    if low <= 0:
        return f"true objects up to {_square(high)} pixels"
    return f"from {_square(low)} pixels" if high >= 1e9 else f"from {_square(low)} to {_square(high)} pixels"


def _square(area: float) -> str:
    if not 0 <= area < math.inf:
        return f"{area:g}"
    side = math.isqrt(round(area))
    return f"{side} x {side}" if side * side == area else f"{area:g}"


def _voc_figures(score: Score) -> list[Figure]:
    scores = score.scores
    thresholds: Mapping[str, Any] = scores.get("per_threshold", {})
    at = f"; at IoU {', '.join(thresholds)}" if thresholds else ""
    rows = [(name, scores[key], meaning + at) for key, (name, meaning) in _VOC.items() if key in scores]
    if len(thresholds) > 1:
        rows += [
            (f"{name} at {threshold}", values[key], f"at IoU {threshold} alone")
            for threshold, values in thresholds.items()
            for key, (name, _) in _VOC.items()
            if key in values
        ]
    return rows + _counts(
        scores, {"images": "annotated", "truths": "objects that count", "detections": "of all classes"}
    )


def _panoptic_figures(score: Score) -> list[Figure]:
    scores = score.scores
    whole = "mean over the classes that occur"
    rows = [(name, scores["all"][key], f"{meaning}; {whole}") for key, (name, meaning) in _PANOPTIC.items()]
    for group in ("things", "stuff"):
        values = scores.get(group, {})
        count = values.get("classes", 0)
        rows += [
            (f"{name} {group}", values[key], f"over {count} {'class' if count == 1 else 'classes'}")
            for key, (name, _) in _PANOPTIC.items()
            if key in values
        ]
    return rows + _counts(scores, {"images": "annotated"})


def _semantic_figures(score: Score) -> list[Figure]:
    scores = score.scores
    rows = [(name, scores[key], meaning) for key, (name, meaning) in _SEMANTIC.items() if key in scores]
    invalid = "labelled pixels predicted as no known class; they count as missed"
    return rows + _counts(scores, {"invalid_predictions": invalid, "images": "compared"})


def _saliency_figures(score: Score) -> list[Figure]:
    scores = score.scores
    rows = [(name, scores[key], meaning) for key, (name, meaning) in _SALIENCY.items() if key in scores]
    return rows + _counts(scores, {"images": "compared; every figure is their mean"})


def _localisation_figures(score: Score) -> list[Figure]:
    scores = score.scores
    rows = [(name, scores[key], meaning) for key, (name, meaning) in _LOCALISATION.items() if key in scores]
    for level, values in scores.get("per_threshold", {}).items():
        for part in ("largest", "any"):
            meaning = f"box of the {part} component at IoU {level}" if part == "largest" else f"of any one, IoU {level}"
            cut = values[f"{part}_threshold"]
            rows.append((f"box accuracy {level} {part}", values[part], f"{meaning}; maps cut at {cut:.2f}"))
    points = score.scores.get("point_localisation", {})
    tolerance = score.options.get("tolerance", 18)
    rows += [
        (name, points[key], f"{meaning}; within {tolerance:g} pixels")
        for key, (name, meaning) in _POINTS.items()
        if key in points
    ]
    return rows + _counts(scores, {"images": "with true boxes", "maps": "of a class that its image holds"})


def _plain_figures(score: Score) -> list[Figure]:
    """Every number of the top level, for a task that has no names here yet."""
    return [
        (key.replace("_", " "), value, "")
        for key, value in score.scores.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _counts(scores: Mapping[str, Any], meanings: Mapping[str, str]) -> list[Figure]:
    return [
        (key.replace("_", " "), int(scores[key]), meaning)
        for key, meaning in meanings.items()
        if scores.get(key) is not None
    ]


_FIGURES: Mapping[str, Callable[[Score], list[Figure]]] = {
    **dict.fromkeys(_OBJECT_TASKS, _object_figures),
    "voc": _voc_figures,
    "panoptic": _panoptic_figures,
    "semantic": _semantic_figures,
    "saliency": _saliency_figures,
    "localisation": _localisation_figures,
}


def _class_columns(score: Score, classes: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], str]:
    """The path of each figure in the values of a class, and its heading; those that some class has."""
    columns: dict[tuple[str, ...], str]
    if score.task in _OBJECT_TASKS:
        scores = score.scores
        areas = list(area_ranges(score))[1:]
        limit = scores["max_detections"][-1]
        columns = {
            ("ap",): "AP",
            **{(f"ap{t}",): f"AP{t}" for t in (50, 75) if _holds(scores["iou_thresholds"], t / 100)},
            **{(f"ap_{name}",): f"AP {name}" for name in areas},
            (f"ar{limit}",): f"AR {limit}",
            ("best_f1", "f1"): "best F1",
            ("best_f1", "threshold"): "at score",
            ("truths",): "truths",
            ("detections",): "detections",
        }
    else:
        columns = _CLASS_COLUMNS.get(score.task, {})
        columns = columns or {(key,): key.replace("_", " ") for key, value in classes[0].items() if _is_number(value)}
    return {path: name for path, name in columns.items() if any(_has(values, path) for values in classes)}


_CLASS_COLUMNS: Mapping[str, dict[tuple[str, ...], str]] = {
    "voc": {("ap",): "AP", ("ap_11_point",): "AP 11-point", ("truths",): "truths", ("detections",): "detections"},
    "localisation": {
        ("ap",): "AP",
        ("ap_11_point",): "AP 11-point",
        ("recall",): "recall",
        ("images",): "images",
        ("true_positives",): "TP",
        ("false_positives",): "FP",
    },
    "panoptic": {("pq",): "PQ", ("sq",): "SQ", ("rq",): "RQ", ("tp",): "TP", ("fp",): "FP", ("fn",): "FN"},
    "semantic": {
        ("iou",): "IoU",
        ("dice",): "Dice",
        ("precision",): "precision",
        ("recall",): "recall",
        ("boundary_f1",): "boundary F1",
        ("pixels",): "pixels",
        ("predicted",): "predicted",
    },
}


def _has(values: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def _looked_up(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = values
    for key in path:
        value = value.get(key, math.nan) if isinstance(value, Mapping) else math.nan
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

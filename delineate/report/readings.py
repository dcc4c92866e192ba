"""What a score says, in sentences: where to look first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from delineate.engine.scoring import Score
from delineate.report.figures import area_ranges, error_rows

_LOOSE = 0.25  # AP50 minus AP75 from which places are called loose
_APART = 0.1  # difference of two figures that is worth a sentence
_POOR = 0.1  # figure of a class below which it is called poor
_NAMED = 4  # classes named in one sentence
_CALIBRATED = 0.1  # calibration error below which scores are taken at their word


def readings(score: Score) -> list[str]:
    """Sentences on the figures, the most important first; none where nothing stands out."""
    return _READINGS.get(score.task, _nothing)(score)


def named(names: Sequence[str], most: int = _NAMED) -> str:
    """Names in a row, and how many more there are.

    Example:
        >>> named(["a", "b", "c"]), named(["a", "b", "c"], 2)
        ('a, b and c', 'a, b and 1 more')
    """
    shown, more = [shortened(name) for name in names[:most]], len(names) - most
    if more > 0:
        return f"{', '.join(shown)} and {more:,} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def shortened(name: str, most: int = 60) -> str:
    """A name, cut where it would fill the page.

    Example:
        >>> shortened("traffic light", 8)
        'traffic…'
    """
    return name if len(name) <= most else name[: most - 1] + "…"


def _nothing(score: Score) -> list[str]:
    return []


def _of_objects(score: Score) -> list[str]:
    scores = score.scores
    if not scores["truths"]:
        return ["There is no true object that counts, so no figure is defined."]
    if not scores["detections"]:
        return ["There are no detections: every figure is 0."]
    told = []
    overlap = "OKS" if score.task == "keypoints" else "IoU"
    costly = max(error_rows(score), key=lambda row: _or_zero(row[2]), default=None)
    if costly and _or_zero(costly[2]) > 0:
        kind, count, loss, meaning = costly
        what = "true objects" if kind == "missed" else "detections"
        label = "missed objects" if kind == "missed" else f"errors of the kind {kind}"
        told.append(
            f"Most is lost to {label} ({meaning}): {count:,} {what}. Repairing them would add {loss:.3f} to AP50."
        )
    if scores["ap50"] - scores["ap75"] > _LOOSE:
        told.append(
            f"AP falls from {scores['ap50']:.3f} at {overlap} 0.5 to {scores['ap75']:.3f} at 0.75: "
            "objects are found, but placed loosely."
        )
    told += _of_sizes(score)
    told += _of_classes(scores["per_class"], "ap", "AP", counted="truths")
    unseen = [name for name, values in scores["per_class"].items() if values["truths"] and not values["detections"]]
    if unseen:
        told.append(f"Never detected, though present: {named(unseen)}.")
    told += _of_calibration(scores.get("calibration"))
    boundary = scores.get("boundary")
    if boundary and scores["ap"] - boundary["ap"] > _APART:
        told.append(f"Boundary AP is {boundary['ap']:.3f}, AP {scores['ap']:.3f}: outlines are less exact than areas.")
    return told


def _of_sizes(score: Score) -> list[str]:
    names = list(area_ranges(score))[1:]
    known = [(score.scores[f"ap_{name}"], name) for name in names if math.isfinite(score.scores[f"ap_{name}"])]
    if len(known) < 2:
        return []
    (worst, least), (best, most) = min(known), max(known)
    if best - worst <= _APART:
        return []
    return [f"Of the sizes, {least} objects do worst (AP {worst:.3f}) and {most} ones best ({best:.3f})."]


def _of_classes(per_class: Mapping[str, Mapping[str, Any]], key: str, name: str, *, counted: str = "") -> list[str]:
    """The poor classes, those with most objects first; without counts the poorest first."""
    known = {one: values for one, values in per_class.items() if math.isfinite(values[key])}
    if len(known) < 2:
        return []
    poor = [one for one, values in known.items() if values[key] < _POOR]
    if not poor:
        worst = min(known, key=lambda one: known[one][key])
        return [f"The weakest class is {shortened(worst)} ({name} {known[worst][key]:.3f})."]
    poor.sort(key=lambda one: -known[one][counted] if counted else known[one][key])
    have = "has" if len(poor) == 1 else "have"
    return [f"{len(poor):,} of {len(known):,} classes {have} {name} below {_POOR:g}: {named(poor)}."]


def _of_calibration(calibration: Mapping[str, Any] | None) -> list[str]:
    error = calibration["expected_calibration_error"] if calibration else math.nan
    if calibration is None or not error > _CALIBRATED:
        return []
    bins = [one for one in calibration["bins"] if one["count"]]
    count = sum(one["count"] for one in bins)
    promised, kept = (sum(one["count"] * one[key] for one in bins) / count for key in ("mean_score", "precision"))
    trust = "do not trust them as probabilities"
    if abs(promised - kept) < error / 2:
        return [f"Scores are off by {error:.3f} in the mean, in both directions: {trust}."]
    word = "more" if promised > kept else "less"
    return [f"Scores promise {word} than they hold (mean score {promised:.3f}, precision {kept:.3f}): {trust}."]


def _of_voc(score: Score) -> list[str]:
    scores = score.scores
    if not scores["truths"]:
        return ["There is no true object that counts, so no figure is defined."]
    if not scores["detections"]:
        return ["There are no detections: every figure is 0."]
    return _of_classes(scores["per_class"], "ap", "AP", counted="truths")


def _of_panoptic(score: Score) -> list[str]:
    scores = score.scores
    told = []
    sq, rq = scores["all"]["sq"], scores["all"]["rq"]
    if sq - rq > _APART:
        told.append(f"RQ ({rq:.3f}) is the weaker factor: segments are missed or made up more than drawn badly.")
    elif rq - sq > _APART:
        told.append(f"SQ ({sq:.3f}) is the weaker factor: segments are found, but their outlines are loose.")
    things, stuff = scores["things"]["pq"], scores["stuff"]["pq"]
    if abs(things - stuff) > _APART:
        word = "worse" if things < stuff else "better"
        told.append(f"Things (PQ {things:.3f}) do {word} than stuff ({stuff:.3f}).")
    return told + _of_classes(scores["per_class"], "pq", "PQ")


def _of_semantic(score: Score) -> list[str]:
    scores = score.scores
    told = _of_classes(scores["per_class"], "iou", "IoU", counted="pixels")
    if scores["pixel_accuracy"] - scores["mean_accuracy"] > _APART:
        told.append("Pixel accuracy is well above mean accuracy: frequent classes do better than rare ones.")
    never = [name for name, one in scores["per_class"].items() if one["pixels"] and not one["predicted"]]
    if never:
        told.append(f"Never predicted, though present: {named(never)}.")
    if scores.get("invalid_predictions"):
        count = scores["invalid_predictions"]
        told.append(f"{count:,} labelled pixels were predicted as no known class; they count as missed.")
    return told


def _of_saliency(score: Score) -> list[str]:
    scores = score.scores
    if not scores["images"] or not math.isfinite(scores["max_f"]):
        return []
    curve = scores["f_curve"]
    level = scores["thresholds"][curve.index(max(curve))] / 255
    told = [f"F is largest ({scores['max_f']:.3f}) when maps are cut at {level:.2f}."]
    if scores["max_f"] - scores["mean_f"] > _APART:
        told.append("Mean F is well below max F: the choice of the threshold matters, and maps are not crisp.")
    return told


def _of_localisation(score: Score) -> list[str]:
    scores = score.scores
    if scores.get("top1_error", math.nan) - scores.get("known_error", math.nan) > _APART:
        gap = f"top-1 error {scores['top1_error']:.3f}, GT-known error {scores['known_error']:.3f}"
        return [f"Much is lost to the class, not to the box: {gap}."]
    points = scores.get("point_localisation")
    return _of_classes(points["per_class"], "ap", "point AP", counted="images") if points else []


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


_READINGS: Mapping[str, Callable[[Score], list[str]]] = {
    **dict.fromkeys(("boxes", "masks", "keypoints"), _of_objects),
    "voc": _of_voc,
    "panoptic": _of_panoptic,
    "semantic": _of_semantic,
    "saliency": _of_saliency,
    "localisation": _of_localisation,
}

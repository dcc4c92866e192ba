"""The report of a score: one HTML file that shows the figures of a pair of files, and where the mistakes are.

Like the report of a run (:mod:`delineate.report.page`) it needs nothing but itself, and its content security policy
forbids the browser to fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from delineate.engine.object_scoring import Evidence
from delineate.engine.scoring import TASKS, Score
from delineate.files import write_text
from delineate.ops.matching import box_overlaps
from delineate.report.charts import (
    Curve,
    class_points,
    packed,
    reliability_bars,
    threshold_curves,
    unit_panel,
)
from delineate.report.figures import area_ranges, class_rows, error_rows, figure_rows, spanned
from delineate.report.mistakes import PictureFiles, Pictures, explained, mistake_groups, taken_classes
from delineate.report.page import MOST_NUMBERED_CLASSES
from delineate.report.plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Panel,
    confused_pairs,
    confusion_picture,
    confusion_rows,
)
from delineate.report.readings import readings, shortened

FEW_CLASSES = 25
"""Above this number the table of classes scrolls and can be searched."""

UNIT_PANEL = unit_panel("", {})
"""The ticks of a frame from 0 to 1."""

_TITLES = {"voc": "Pascal VOC"}
_TILES = {
    "panoptic": ("PQ", "SQ", "RQ", "PQ things", "PQ stuff"),
    "saliency": ("S-measure", "max F", "weighted F", "max E", "MAE"),
}
_MOST_TILES = 6
_FEWEST_POINTS = 8  # classes from which a drawing of them says more than their table
_LOWER = "lower is better"


def write_score_report(path: str | Path, score: Score, *, images: Path | None = None) -> None:
    """Write the page of a score, whole or not at all.

    Args:
        path: the file to write; its folder is made when missing.
        score: of any task.
        images: the folder of the pictures, upon which mistakes of boxes, masks and keypoints are drawn; found by the
            names in the truth. What is missing there is counted on the page.

    Raises:
        DataError: when ``images`` is no folder.
    """
    write_text(path, render_score(score, images=images))


@dataclass(frozen=True)
class RunPart:
    """What the page says of the run whose predictions were scored.

    Args:
        title: heading of the page.
        facts: (name, value) of how the model came about.
        curves: drawings of the learning curves.
        groups: images with their truth and what was found: "key", "title", "shots".
        data_facts: of the data, (name, value).
        environment: versions and hardware, (name, value).
        warnings: sentences shown above everything else.
        threshold: the score from which detections are shown as mistakes; 0 for all of them.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    curves: Sequence[Panel] = ()
    groups: Sequence[Mapping[str, Any]] = ()
    data_facts: Sequence[tuple[str, str]] = ()
    environment: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    threshold: float = 0.0


def render_score(score: Score, *, images: Path | Pictures | None = None, run: RunPart | None = None) -> str:
    """The page as HTML text. Whatever ``score`` holds is escaped; nothing in it can become markup or script.

    Args:
        score: of any task.
        images: the folder of the pictures, or the pictures themselves, upon which mistakes are drawn.
        run: where the predictions are from, if they are a run's.
    """
    templates = Environment(
        loader=PackageLoader("delineate.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"shown": shown, "thousands": thousands, "percent": percent, "short": shortened}
    styles, scripts = (
        Markup("\n".join(templates.get_template(name).render() for name in names))
        for names in (("style.css", "score.css"), ("page.js", "score.js"))
    )
    figures = figure_rows(score)
    content: dict[str, Any] = {
        "title": f"{_TITLES.get(score.task, score.task.capitalize())}: {Path(score.predictions).name}",
        "facts": _facts(score, figures),
        "tiles": _tiles(score.task, figures),
        "readings": readings(score),
        "figures": figures,
        "classes": _class_table(score),
        "points": _points(score),
        "errors": _error_bars(score),
        "pairs": [],
        "sizes": [],
        "panels": [],
        "class_curves": None,
        "reliability": None,
        "groups": [],
        "notes": [],
        "matrix": None,
        "run": run,
    }
    if run is not None:
        content |= {"title": run.title, "facts": [*run.facts, *_facts(score, figures)[2:]]}
    if score.evidence is not None:
        content |= _of_objects(score, score.evidence, images, 0.0 if run is None else run.threshold)
    elif images is not None:
        content["notes"] = [
            f"Pictures of mistakes are drawn for boxes, masks and keypoints only, not for {score.task}."
        ]
    if score.task == "semantic":
        content |= _of_semantic(score)
    elif score.task == "saliency":
        content["panels"] = _saliency_panels(score)
    elif score.task == "panoptic":
        content["sizes"] = _panoptic_groups(score)
    return templates.get_template("score.html").render(
        **content,
        style=styles,
        script=scripts,
        script_hash=base64.b64encode(hashlib.sha256(scripts.encode()).digest()).decode("ascii"),
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        ticks={"x": UNIT_PANEL.x_ticks, "y": UNIT_PANEL.y_ticks},
        pictured=any(one.picture for group in content["groups"] for one in group.mistakes),
        overlap="OKS" if score.task == "keypoints" else "IoU",
        task=score.task,
    )


def shown(value: Any) -> str:
    """A figure as the page shows it.

    Example:
        >>> shown(0.12345), shown(12345), shown(float("nan")), shown("cat")
        ('0.123', '12\u202f345', 'n/a', 'cat')
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "n/a"}[value]
    if isinstance(value, int):
        return thousands(value)
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else "n/a"
    return str(value)


def thousands(value: int) -> str:
    """A count with narrow spaces between its thousands."""
    return f"{value:,}".replace(",", "\u202f")


def percent(value: float) -> str:
    """A share in per cent, "< 0.1 %" for what would round to nothing."""
    return f"{100 * value:.1f} %" if value == 0 or value >= 0.0005 else "< 0.1 %"


def _facts(score: Score, figures: Sequence[tuple[str, Any, str]]) -> list[tuple[str, str]]:
    counts = [(name.capitalize(), shown(value)) for name, value, _ in figures if isinstance(value, int)]
    chosen = "; ".join(f"{name.replace('_', ' ')}: {_option(value)}" for name, value in score.options.items())
    summary = TASKS[score.task].summary if score.task in TASKS else ""
    heads = [
        ("Ground truth", score.ground_truth),
        ("Predictions", score.predictions),
        ("Measured", f"{score.task}: {summary}" if summary else score.task),
    ]
    return [*heads, *counts, *([("Options", chosen)] if chosen else [])]


def _option(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_option(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_option(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else shown(value) if isinstance(value, bool) else str(value)


def _tiles(task: str, figures: Sequence[tuple[str, Any, str]]) -> list[dict[str, Any]]:
    """The figures shown large; a meter only where more is better."""
    chosen = [row for row in figures if isinstance(row[1], float)]
    if task in _TILES:
        by_name = {row[0]: row for row in chosen}
        chosen = [by_name[name] for name in _TILES[task] if name in by_name]
    return [
        {
            "name": name,
            "value": value,
            "meaning": meaning,
            "width": None if _LOWER in meaning or not math.isfinite(value) else _width(value),
        }
        for name, value, meaning in chosen[:_MOST_TILES]
    ]


def _width(value: float, largest: float = 1.0) -> float:
    """Per cent of a bar."""
    return round(100 * min(max(value / largest, 0.0), 1.0), 1) if math.isfinite(value) and largest > 0 else 0.0


def _class_table(score: Score) -> dict[str, Any] | None:
    """The table of classes, the best first and undefined ones last."""
    columns, rows = class_rows(score)
    if len(columns) < 2:
        return None
    rows = sorted(rows, key=lambda row: -row[1] if math.isfinite(row[1]) else math.inf)
    undefined = any(isinstance(value, float) and math.isnan(value) for row in rows for value in row)
    return {"columns": columns, "rows": rows, "many": len(rows) > FEW_CLASSES, "undefined": undefined}


def _points(score: Score) -> dict[str, Any] | None:
    """Classes as points, where there are enough of them: the figure over the number of true objects."""
    columns, rows = class_rows(score)
    counts = {"truths": "true objects", "pixels": "true pixels", "images": "images"}
    counted = next((name for name in counts if name in columns), None)
    if counted is None:
        return None
    place = columns.index(counted)
    drawn = class_points([(shortened(row[0]), row[place], row[1]) for row in rows])
    if len(drawn.points) < _FEWEST_POINTS:
        return None
    return {"title": f"{columns[1]} over the number of {counts[counted]} of each class", "drawn": drawn}


def _error_bars(score: Score) -> dict[str, Any] | None:
    rows = error_rows(score)
    if not rows:
        return None
    largest = max((loss for _, _, loss, _ in rows if math.isfinite(loss)), default=0.0)
    errors = score.scores["errors"]
    return {
        "rows": [(kind, count, loss, _width(loss, largest), meaning) for kind, count, loss, meaning in rows],
        "ap": errors["ap"],
        "false_positives": errors["delta_ap"]["false_positives"],
        "false_negatives": errors["delta_ap"]["false_negatives"],
    }


def _of_objects(score: Score, evidence: Evidence, images: Path | Pictures | None, threshold: float) -> dict[str, Any]:
    drawn, notes = score.task, []
    pictures = PictureFiles(images, evidence.truth) if isinstance(images, Path) else images
    if drawn == "masks" and (evidence.predictions.masks is None or evidence.truth.objects.masks is None):
        evidence, drawn = replace(evidence, overlaps=box_overlaps), "boxes"
        notes = ["Masks were dropped as they were measured, so mistakes are told and drawn by their boxes."]
    errors = explained(evidence)
    groups, missing = mistake_groups(drawn, evidence, errors, pictures, threshold=threshold)
    calibration = score.scores.get("calibration")
    panels, class_curves = _detection_curves(score, evidence)
    return {
        "pairs": taken_classes(evidence, errors),
        "sizes": _size_rows(score, evidence),
        "panels": panels,
        "class_curves": class_curves,
        "reliability": None if calibration is None else reliability_bars(calibration["bins"]) or None,
        "groups": groups,
        "notes": [*notes, *missing],
    }


def _size_rows(score: Score, evidence: Evidence) -> list[dict[str, Any]]:
    positives = evidence.result.matches.positives.sum(axis=0)
    return [
        {
            "name": name,
            "bars": [("AP", score.scores[f"ap_{name}"]), ("AR", score.scores[f"ar_{name}"])],
            "count": ("true objects", int(positives[place])),
        }
        for place, name in enumerate(area_ranges(score))
        if place and f"ap_{name}" in score.scores
    ]


def _panoptic_groups(score: Score) -> list[dict[str, Any]]:
    groups = [(name, score.scores[name]) for name in ("things", "stuff") if name in score.scores]
    return [
        {
            "name": name,
            "bars": [(key.upper(), values[key]) for key in ("pq", "sq", "rq")],
            "count": ("classes", values["classes"]),
        }
        for name, values in groups
    ]


def _detection_curves(score: Score, evidence: Evidence) -> tuple[list[Panel], dict[str, Any] | None]:
    """Drawings of all classes together, and the same of each class, packed."""
    result, scores = evidence.result, score.scores
    matches, overlap = result.matches, "OKS" if score.task == "keypoints" else "IoU"
    recalls = result.recall_thresholds
    places = [t for t, value in enumerate(matches.thresholds) if min(abs(value - 0.5), abs(value - 0.75)) < 1e-9] or [0]
    drawn = {f"{overlap} {matches.thresholds[t]:.2f}": result.precision[0, t] for t in places}
    if len(matches.thresholds) > 1:
        drawn[spanned(matches.thresholds)] = result.precision[0].mean(axis=0)
    known = np.flatnonzero(matches.positives[:, 0] > 0)
    if not len(known):
        return [], None
    means = {name: lines[known].mean(axis=0) for name, lines in drawn.items()}
    kept = threshold_curves(matches)
    names = ("precision", "recall", "F1")
    level, f1 = kept.best
    best = (level, f1, f"best F1 {f1:.3f} at score {level:.2f}")
    at = f"{overlap} {matches.thresholds[0]:.2f}"
    x_range = (float(kept.levels[0]), float(kept.levels[-1]))

    def panels(precision: Mapping[str, Curve], curves: Mapping[str, Curve], **options: Any) -> list[Panel]:
        values = options.pop("values", {})
        return [
            unit_panel("Precision over recall", precision, values=values),
            unit_panel(f"Over the score from which detections are kept, {at}", curves, x_range=x_range, **options),
        ]

    pooled = {name: (kept.levels, line) for name, line in zip(names, kept.pooled, strict=True)}
    areas = {name: shown(float(line.mean())) for name, line in means.items()}
    whole = panels({name: (recalls, line) for name, line in means.items()}, pooled, values=areas, marks={"F1": best})
    order = known[np.argsort(-matches.positives[known, 0], kind="stable")]
    classes = []
    for k in order:
        name = evidence.truth.classes[k]
        figures = scores["per_class"][name]
        lines = packed(np.stack([part[k] for part in drawn.values()])), packed(kept.per_class[k])
        facts = f"AP {shown(figures['ap'])} · {thousands(figures['truths'])} true objects"
        classes.append((name, facts + f" · {thousands(figures['detections'])} detections", " ".join(lines)))
    nothing: dict[str, Curve] = dict.fromkeys(drawn, ((), ()))
    empty = panels(nothing, dict.fromkeys(names, ((), ())))
    return whole, {"options": classes, "panels": empty, "best": best[2] if math.isfinite(f1) else ""}


def _of_semantic(score: Score) -> dict[str, Any]:
    confusion = score.scores["confusion"]
    names = list(score.scores["per_class"])
    few = len(names) <= MOST_NUMBERED_CLASSES
    return {
        "matrix": {
            "names": names,
            "rows": confusion_rows(confusion) if few else None,
            "picture": None if few else confusion_picture(confusion),
            "pairs": [(names[i], names[j], share, count) for i, j, share, count in confused_pairs(confusion)],
        }
    }


def _saliency_panels(score: Score) -> list[Panel]:
    scores = score.scores
    levels = [threshold / 255 for threshold in scores["thresholds"]]
    curves = {"F-measure": scores["f_curve"], "E-measure": scores["e_curve"]}
    marks = {}
    for name, curve in curves.items():
        if all(map(math.isfinite, curve)):
            level, value = levels[curve.index(max(curve))], max(curve)
            marks[name] = (level, value, f"largest {name}: {value:.3f} at {level:.2f}")
    return [
        unit_panel("Precision over recall", {"mean of the images": (scores["recall"], scores["precision"])}),
        unit_panel(
            "Over the level at which maps are cut",
            {name: (levels, curve) for name, curve in curves.items()},
            values={"F-measure": shown(scores["max_f"]), "E-measure": shown(scores["max_e"])},
            marks=marks,
        ),
    ]

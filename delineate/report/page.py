"""The report: one HTML file that shows how good a segmenter is, where it fails, and what it was made of.

The file needs nothing but itself: styles, script and pictures are inside, and its content security policy forbids the
browser to fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from delineate.checks import require
from delineate.files import write_text
from delineate.report.pictures import (
    data_uri,
    error_map,
    label_overlay,
    shrunk,
    shrunk_labels,
    visible_image,
)
from delineate.report.plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    confused_pairs,
    confusion_picture,
    confusion_rows,
    curve_panels,
)
from delineate.structures.taxonomy import Colour

Fact = tuple[str, str]

MOST_NUMBERED_CLASSES = 20
"""Up to here the confusion matrix is a table of numbers, above it a picture."""

_MOST_LISTED = 50
_HEADLINES = (
    ("miou", "Mean IoU", "Intersection over union, averaged over the classes that occur."),
    ("pixel_accuracy", "Pixel accuracy", "Share of the labelled pixels that got their class."),
    ("mean_accuracy", "Mean accuracy", "Recall, averaged over the classes that occur."),
    ("fwiou", "Frequency-weighted IoU", "IoU, each class weighted by its share of the pixels."),
    ("mean_dice", "Mean Dice", "Dice (F1 of the pixels), averaged over the classes that occur."),
    ("boundary_f1", "Boundary F1", "F1 of the class outlines, within a few pixels of tolerance."),
)
_COLUMNS = (
    ("dice", "Dice", "Twice the shared pixels over the pixels of both."),
    ("precision", "Precision", "Of the pixels given this class, the share that has it."),
    ("recall", "Recall", "Of the pixels that have this class, the share that got it."),
    ("boundary_f1", "Boundary F1", "F1 of the outlines of this class."),
)
_GROUPS = (
    ("best", "Best images"),
    ("worst", "Worst images"),
    ("random", "Images drawn at random"),
)


@dataclass(frozen=True)
class Example:
    """One image with its truth and its prediction.

    Args:
        group: the list it is shown in.
        name: what the image is called, usually its file stem.
        image: RGB ``(H, W, 3)``, or ``(H, W)``, or any number of channels.
        target: true labels ``(H, W)``.
        prediction: predicted labels ``(H, W)``.
        miou: mean IoU of this image alone; may be NaN.
        pixel_accuracy: of this image alone; may be NaN.
    """

    group: Literal["best", "worst", "random"]
    name: str
    image: NDArray[np.uint8]
    target: NDArray[Any]
    prediction: NDArray[Any]
    miou: float
    pixel_accuracy: float

    def __post_init__(self) -> None:
        require(self.group in dict(_GROUPS), "group", "be 'best', 'worst' or 'random'", repr(self.group))
        for argument in ("target", "prediction"):
            size, wanted = getattr(self, argument).shape, self.image.shape[:2]
            require(size == wanted, argument, f"have the size of the image {wanted}", size, f"See '{self.name}'.")


@dataclass(frozen=True)
class ReportContent:
    """All that a report shows, as plain values.

    Args:
        title: heading of the page.
        facts: of the run, (name, value): model, parameters, data, seed, time, machine.
        scores: what ``metrics.semantic_scores`` returns: "pixel_accuracy", "mean_accuracy", "miou", "fwiou",
            "mean_dice", perhaps "boundary_f1", "per_class" (name to "iou", "dice", "precision", "recall", "pixels",
            "predicted", perhaps "boundary_f1") and "confusion" (rows are true classes). None and NaN are undefined.
        class_names: in label order.
        colours: RGB of each class.
        ignore_index: target label that does not count.
        background: label that overlays leave untinted, if there is one.
        curves: name to (epoch or step, value) pairs; "train/loss" and "val/loss" share a drawing.
        curve_unit: what the first numbers of those pairs count.
        examples: in the order in which each group shows them.
        data_facts: of the data, (name, value).
        environment: versions and hardware, (name, value).
        warnings: sentences shown above everything else.
        skipped: files that were left out.
    """

    title: str
    facts: Sequence[Fact]
    scores: Mapping[str, Any]
    class_names: Sequence[str]
    colours: Sequence[Colour]
    ignore_index: int = 255
    background: int | None = None
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    curve_unit: str = "epoch"
    examples: Sequence[Example] = ()
    data_facts: Sequence[Fact] = ()
    environment: Sequence[Fact] = ()
    warnings: Sequence[str] = ()
    skipped: Sequence[str] = ()

    def __post_init__(self) -> None:
        count = len(self.class_names)
        require(count > 0, "class_names", "name at least one class", "none")
        require(len(self.colours) == count, "colours", f"be {count} RGB triples, one a class", len(self.colours))
        for key in ("per_class", "confusion"):
            require(key in self.scores, "scores", f"have the key '{key}'", ", ".join(map(str, self.scores)))
        missing = [name for name in self.class_names if name not in self.scores["per_class"]]
        require(not missing, "scores", "have every class in 'per_class'", f"none for {', '.join(missing)}")
        shape = np.shape(self.scores["confusion"])
        require(shape == (count, count), "scores", f"have a confusion matrix of shape {(count, count)}", shape)


def write_report(path: str | Path, content: ReportContent) -> Path:
    """The path of the page, after writing it there whole or not at all.

    Args:
        path: the file to write, ``report.html`` by custom; its folder is made when missing.
        content: what to show.

    Returns:
        ``path``, as a Path.
    """
    write_text(path, render_report(content))
    return Path(path)


def render_report(content: ReportContent) -> str:
    """The page as HTML text. Whatever ``content`` says is escaped; nothing in it can become markup or script."""
    templates = Environment(
        loader=PackageLoader("delineate.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"score": _score, "thousands": _thousands, "share": _share}
    classes = _class_rows(content)
    style, script = (Markup(templates.get_template(name).render()) for name in ("style.css", "page.js"))
    return templates.get_template("report.html").render(
        content=content,
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        headlines=[(name, content.scores[key], meaning) for key, name, meaning in _HEADLINES if key in content.scores],
        classes=classes,
        columns=[column for column in _COLUMNS if _any_class_has(content, column[0])],
        matrix=_matrix(content),
        pairs=confused_pairs(content.scores["confusion"]),
        panels=curve_panels(content.curves),
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        groups=[
            (key, title, [_shots(example, content) for example in content.examples if example.group == key])
            for key, title in _GROUPS
            if any(example.group == key for example in content.examples)
        ],
        legend=_legend(content),
        skipped=list(content.skipped[:_MOST_LISTED]),
        undefined=any(_undefined(score) for row in classes for score in row["values"].values()),
    )


def _undefined(value: object) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def _score(value: Any) -> str:
    return "n/a" if _undefined(value) else f"{value:.3f}"


def _thousands(value: Any) -> str:
    return f"{int(value):,}".replace(",", "\u202f")


def _share(value: float) -> str:
    percent = value * 100
    return f"{percent:.1f} %" if percent >= 0.05 or percent == 0 else "< 0.1 %"


def _any_class_has(content: ReportContent, key: str) -> bool:
    return any(key in content.scores["per_class"][name] for name in content.class_names)


def _class_rows(content: ReportContent) -> list[dict[str, Any]]:
    per_class = [content.scores["per_class"][name] for name in content.class_names]
    total = sum(int(values["pixels"]) for values in per_class) or 1
    return [
        {
            "name": name,
            "colour": _css(colour),
            "values": values,
            "pixels": int(values["pixels"]),
            "share": int(values["pixels"]) / total,
            "iou": None if _undefined(values["iou"]) else float(values["iou"]),
        }
        for name, colour, values in zip(content.class_names, content.colours, per_class, strict=True)
    ]


def _matrix(content: ReportContent) -> dict[str, Any]:
    confusion = content.scores["confusion"]
    if len(content.class_names) <= MOST_NUMBERED_CLASSES:
        return {"rows": confusion_rows(confusion), "picture": None}
    return {"rows": None, "picture": confusion_picture(confusion)}


def _shots(example: Example, content: ReportContent) -> dict[str, Any]:
    """The four pictures of one example, shrunk first so that overlays stay crisp."""
    image = shrunk(visible_image(example.image))
    target, prediction = shrunk_labels(example.target), shrunk_labels(example.prediction)
    pictures = {
        "image": image,
        "ground truth": label_overlay(image, target, content.colours, background=content.background),
        "prediction": label_overlay(image, prediction, content.colours, background=content.background),
        "errors": error_map(image, target, prediction, ignore_index=content.ignore_index),
    }
    return {
        "name": example.name,
        "miou": example.miou,
        "pixel_accuracy": example.pixel_accuracy,
        "height": image.shape[0],
        "width": image.shape[1],
        "small": max(image.shape[:2]) < 200,
        "pictures": [(kind, data_uri(picture)) for kind, picture in pictures.items()],
    }


def _legend(content: ReportContent) -> list[tuple[str, str]]:
    """Names and colours of the classes that the examples show; the untinted background is not one of them."""
    seen: set[int] = set()
    for example in content.examples:
        seen |= {int(label) for labels in (example.target, example.prediction) for label in np.unique(labels)}
    return [
        (name, _css(content.colours[label]))
        for label, name in enumerate(content.class_names)
        if label in seen and label != content.background
    ]


def _css(colour: Colour) -> str:
    return "rgb({} {} {})".format(*(int(part) for part in colour))

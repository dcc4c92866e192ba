"""The report of a detector's run: the page of its score, with how it came about and the images that explain it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from delineate.data.samples import ObjectSamples
from delineate.engine.object_evaluation import ObjectEvaluation, ObjectImageScore, judged_samples, measure_objects
from delineate.engine.object_predictor import ObjectOptions
from delineate.engine.predictor import displayed
from delineate.files import write_text
from delineate.report.pictures import Picture, data_uri
from delineate.report.plots import curve_panels
from delineate.report.reported import ReportedRun
from delineate.report.run_facts import data_facts, data_name, environment, left_out, run_facts
from delineate.report.scores import RunPart, render_score
from delineate.structures.detections import Detections
from delineate.structures.objects import Objects
from delineate.structures.taxonomy import Taxonomy

EXAMPLES = 4  # images in each of the three groups
LARGEST = 720  # pixels of the longer side of a picture on the page


def report_objects(
    reported: ReportedRun,
    *,
    score_threshold: float | int | None = None,
    iou_threshold: float | int | None = None,
    most: int | None = None,
) -> ObjectEvaluation:
    """Measure objects, write ``metrics.json``, ``predictions.json`` and ``report.html``, and return the scores.

    Args:
        reported: the run, its data and where files go.
        score_threshold: from which detections are scored; when left out the run's own, else 0.01.
        iou_threshold: of two boxes of a class that overlap by more the better one stays; the run's when left out.
        most: detections of an image; the run's when left out.

    Raises:
        DataError: when the data cannot be read or has other classes.
    """
    options: ObjectOptions = {}
    if score_threshold is not None:
        options["score_threshold"] = score_threshold
    if iou_threshold is not None:
        options["iou_threshold"] = iou_threshold
    if most is not None:
        options["most"] = most
    run, recipe = reported.run, reported.recipe
    dataset = judged_samples(reported.predictor, reported.dataset)
    evaluation = measure_objects(reported.predictor, dataset, progress=reported.progress, **options)
    evaluation.write(reported.folder / run.metrics.name)
    sessions = run.read_environment().get("sessions", [{}])
    skipped = list(dict.fromkeys([*sessions[-1].get("skipped", []), *evaluation.skipped]))
    taxonomy = reported.predictor.taxonomy
    facts = run_facts(recipe, reported.whole, reported.predictor, sessions)
    facts.append(("Best threshold", f"{evaluation.threshold:.2f}, of the score, for F1"))
    if chosen := reported.predictor.card.decoding:
        facts.append(("Decoding", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in chosen.items())))
    part = RunPart(
        title=f"{recipe.model['name']} on {data_name(recipe.data, reported.data)}",
        facts=facts,
        curves=curve_panels({name: points for name, points in run.read_curves().items() if points}),
        groups=example_groups(dataset, evaluation, seed=recipe.trainer.seed),
        data_facts=data_facts(reported, evaluation.split, len(evaluation.images), taxonomy.num_classes),
        environment=environment(sessions[-1]),
        warnings=[left_out(len(skipped))] if skipped else [],
        threshold=evaluation.threshold,
    )
    score = evaluation.as_score(recipe.model["name"])
    page = render_score(score, images=SamplePictures(dataset), run=part)
    write_text(reported.folder / run.report.name, page)
    return evaluation


@dataclass(frozen=True)
class SamplePictures:
    """The pictures of an opened data set, as :func:`~delineate.report.mistakes.mistake_groups` asks for them.

    Args:
        samples: whose image ``i`` is item ``i``.
    """

    samples: ObjectSamples

    @property
    def present(self) -> np.ndarray:
        """All of them."""
        return np.ones(len(self.samples), bool)

    def read(self, image: int) -> Picture:
        """The picture of an image."""
        return displayed(self.samples.read(image)[0])

    def notes(self) -> list[str]:
        """Nothing is missing."""
        return []


def example_groups(dataset: ObjectSamples, evaluation: ObjectEvaluation, *, seed: int) -> list[dict[str, Any]]:
    """The best, the worst and some other images: what is true, and what is found above the best threshold."""
    known = [image for image in evaluation.images if not math.isnan(image.f1)]
    ranked = sorted(known, key=lambda image: (image.f1, -image.missed - image.false))
    worst = ranked[: min(EXAMPLES, len(ranked) // 2)]
    best = ranked[::-1][: min(EXAMPLES, len(ranked) - len(worst))]
    rest = [image for image in evaluation.images if image not in worst and image not in best]
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed)).tolist()
    drawn = [rest[place] for place in order[:EXAMPLES]]
    groups = (("best", "Best images", best), ("worst", "Worst images", worst), ("random", "Other images", drawn))
    return [
        {"key": key, "title": title, "shots": [_shot(dataset, evaluation, image) for image in images]}
        for key, title, images in groups
        if images
    ]


def _shot(dataset: ObjectSamples, evaluation: ObjectEvaluation, image: ObjectImageScore) -> dict[str, Any]:
    assert evaluation.evidence is not None
    pixels, true = dataset.read(image.index)
    found = evaluation.evidence.predictions
    assert found.scores is not None
    found = found.select(np.flatnonzero((found.images == image.index) & (found.scores >= evaluation.threshold)))
    picture = displayed(pixels)
    names = evaluation.evidence.truth.classes
    pictures = [("truth", _drawn(picture, true, names)), ("found", _drawn(picture, found, names))]
    height, width = pictures[0][1].shape[:2]
    return {
        "name": image.name,
        "f1": image.f1,
        "counts": f"{image.found} found, {image.missed} missed, {image.false} false",
        "height": height,
        "width": width,
        "small": max(height, width) < 200,
        "pictures": [(kind, data_uri(drawn)) for kind, drawn in pictures],
    }


def _drawn(picture: Picture, objects: Objects, names: Sequence[str]) -> Picture:
    """The picture with its objects, no larger than the page needs."""
    corners = np.concatenate([objects.boxes[:, :2], objects.boxes[:, :2] + objects.boxes[:, 2:]], axis=1)
    scores = np.ones(len(objects)) if objects.scores is None else objects.scores
    size = (picture.shape[0], picture.shape[1])
    shown = Detections.of(corners, scores, objects.labels, Taxonomy(tuple(names)), size=size, image=picture).plot()
    shown.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(shown)

"""A detector against a data set: COCO's figures, why precision is lost, and how each image did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from delineate.data.object_mixture import MixedObjects
from delineate.data.objects.coco_json import Columns
from delineate.data.opening import open_dataset
from delineate.data.samples import ObjectSamples
from delineate.engine.evaluation import Evaluation, check_classes
from delineate.engine.object_predictor import ObjectOptions, ObjectPredictor, learnt_tree
from delineate.engine.object_scoring import Evidence, explained_figures, object_figures
from delineate.engine.objects import SCORE_THRESHOLD, decoding_of, joint_sigmas
from delineate.engine.scoring import Score
from delineate.kernels.matching import IGNORED, TRUE
from delineate.metrics.detection import KEYPOINT_AREA_RANGES, KEYPOINT_MAX_DETECTIONS, box_scores
from delineate.ops.matching import (
    COCO_AREA_RANGES,
    COCO_MAX_DETECTIONS,
    Overlaps,
    box_overlaps,
    keypoint_overlaps,
    mask_overlaps,
    match_objects,
)
from delineate.postprocess.object_tiling import TileObjects
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

IMAGE_IOU = 0.5
"""The overlap at which the objects of single images count as found."""


@dataclass(frozen=True)
class ObjectImageScore:
    """How one image did, of the detections above the threshold that is best for the whole set.

    Args:
        index: in the data set.
        name: its stem.
        f1: of what is found at an IoU of 0.5; NaN where there is nothing and nothing was found.
        found: true objects that are found.
        missed: true objects that are not.
        false: detections of nothing, of another class, or of what another one has found.
    """

    index: int
    name: str
    f1: float
    found: int
    missed: int
    false: int


@dataclass(frozen=True)
class ObjectEvaluation(Evaluation):
    """The scores of a detector on a split.

    Args:
        scores: COCO's figures with "errors", "calibration" and "curves", as ``delineate score --errors`` has them: of
            boxes, or of masks or keypoints with those of the boxes under "boxes".
        images: how each image did, in the data set's order.
        split: what was evaluated.
        data: its path.
        skipped: files of the data set that were left out.
        evidence: true objects, predictions and how they match.
        threshold: the score from which ``images`` count detections: of the best F1.
        kind: what was compared: "boxes", "masks" or "keypoints".
    """

    images: tuple[ObjectImageScore, ...]
    evidence: Evidence | None = None
    threshold: float = 0.0
    kind: str = "boxes"

    def as_score(self, predictions: str) -> Score:
        """The same as ``delineate score`` would hold it, for its pages and tables."""
        return Score(self.kind, self.scores, f"{self.data} / {self.split}", predictions, {}, self.evidence)


def measure_objects(
    predictor: ObjectPredictor,
    data: ObjectSamples | str | Path,
    *,
    split: str = "val",
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[ObjectOptions],
) -> ObjectEvaluation:
    """COCO's figures of a detector on a data set, in the pictures' own pixels: of boxes, masks or keypoints.

    Args:
        predictor: of objects.
        data: an opened data set, or the folder of one.
        split: of a folder.
        progress: called with (images done, images in all).
        options: ``score_threshold``, ``iou_threshold`` and ``most``; when left out what the model card says, else a
            score of 0.01 and the model's own.

    Raises:
        DataError: when the data set cannot be read or has other classes than the predictor.
    """
    path = ""
    if isinstance(data, str | Path):
        path = str(data)
        columns: dict[str, tuple[Columns, ...]] = {"instances": ("boxes", "masks"), "keypoints": ("boxes", "keypoints")}
        samples: ObjectSamples = open_dataset(
            data,
            split=split,
            task="objects",
            channels=predictor.preprocessing.channels,
            columns=columns.get(predictor.card.task, ("boxes",)),
        )
    else:
        samples = data
    samples = judged_samples(predictor, samples)
    scored: dict[str, Any] = {"score_threshold": SCORE_THRESHOLD}
    label_of = None
    if isinstance(samples, MixedObjects):
        scored["labels"] = tuple(samples.words.tolist())
        label_of = np.full(predictor.taxonomy.num_classes, -1, np.int64)
        label_of[samples.words] = np.arange(len(samples.words))
    decoding = decoding_of(predictor.model, scored, predictor.card.decoding, options)
    parts = []
    for index in range(len(samples)):
        pixels, _ = samples.read(index)
        found = predictor.found(pixels, decoding)
        parts.append(_as_objects(found, index, found.labels if label_of is None else label_of[found.labels]))
        if progress is not None:
            progress(index + 1, len(samples))
    truth, predictions = samples.truth(), Objects.concatenate(parts)
    kind, ranges = "boxes", COCO_AREA_RANGES
    limits: tuple[int, ...] = COCO_MAX_DETECTIONS
    overlaps: Overlaps = box_overlaps
    if predictor.card.task == "instances":
        kind, overlaps = "masks", mask_overlaps
    elif predictor.card.task == "keypoints":
        truth = with_labelled_joints(truth)
        kind, overlaps = "keypoints", keypoint_overlaps(joint_sigmas(len(predictor.card.keypoint_names)))
        ranges, limits = KEYPOINT_AREA_RANGES, KEYPOINT_MAX_DETECTIONS
    matches = match_objects(truth, predictions, overlaps, area_ranges=ranges, max_detections=max(limits))
    scores, evidence = object_figures(truth, predictions, overlaps, matches, max_detections=limits)
    scores |= explained_figures(scores, evidence, area_range=ranges["all"])
    if kind != "boxes":
        # all true boxes count, those of persons without a labelled joint too
        boxes = box_scores(samples.truth(), replace(predictions, masks=None, keypoints=None))
        scores["boxes"] = {name: value for name, value in boxes.items() if isinstance(value, float)}
    threshold = best_threshold(evidence)
    return ObjectEvaluation(
        scores=scores,
        images=tuple(image_scores(evidence, threshold, [samples.stem(index) for index in range(len(samples))])),
        split=str(getattr(samples, "split", split) or ""),
        data=path or str(getattr(samples, "name", "")),
        skipped=tuple(samples.skipped),
        evidence=evidence,
        threshold=threshold,
        kind=kind,
    )


def judged_samples(predictor: ObjectPredictor, samples: ObjectSamples) -> ObjectSamples:
    """The samples that can be scored, in classes that can be: of a model of words, those that the data have boxes of.

    Raises:
        DataError: when the data have other classes than the predictor, or none of them has boxes.
    """
    own = getattr(predictor.model, "tree", None)
    if isinstance(samples, MixedObjects) and own is not None:
        return MixedObjects(samples.parts, own).boxed()  # in the model's words: the file of words may have changed
    tree = learnt_tree(predictor.model)
    if tree is None:
        check_classes(predictor, samples)
        return samples
    return MixedObjects([samples], tree).boxed()


def _as_objects(found: TileObjects, image: int, labels: np.ndarray) -> Objects:
    """Predictions of one picture as columns."""
    corners = found.boxes.astype(np.float64)
    joints = None if found.keypoints is None else found.keypoints.astype(np.float64)
    return Objects.of(
        np.full(len(found), image),
        labels,
        np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        scores=found.scores.astype(np.float64),
        masks=found.masks,
        keypoints=joints,
    )


def with_labelled_joints(truth: Annotations) -> Annotations:
    """The truth with objects ignored of which no joint is labelled, as COCO does."""
    objects = truth.objects
    assert objects.keypoints is not None  # asked for when the data were opened
    labelled = (objects.keypoints[:, :, 2] > 0).any(axis=1) if len(objects) else np.zeros(0, bool)
    return replace(truth, objects=replace(objects, ignored=objects.ignored | ~labelled))


def best_threshold(evidence: Evidence) -> float:
    """The score from which all classes together have the best F1 at an IoU of 0.5; 0 without detections."""
    matches = evidence.result.matches
    states = matches.states[0, matches.thresholds.index(IMAGE_IOU)]
    order = np.argsort(-matches.scores, kind="stable")
    true, counted = (states == TRUE)[order], (states != IGNORED)[order]
    positives = int(matches.positives[:, 0].sum())
    if not len(order) or not positives:
        return 0.0
    f1 = 2 * true.cumsum() / np.maximum(counted.cumsum() + positives, 1)
    return float(matches.scores[order][int(f1.argmax())])


def image_scores(evidence: Evidence, threshold: float, names: list[str]) -> list[ObjectImageScore]:
    """How each image did with the detections whose score is at least ``threshold``."""
    matches, truth = evidence.result.matches, evidence.truth
    states = matches.states[0, matches.thresholds.index(IMAGE_IOU)]
    kept = matches.scores >= threshold
    count = truth.num_images
    found = np.bincount(matches.images[kept & (states == TRUE)], minlength=count)
    false = np.bincount(matches.images[kept & (states != TRUE) & (states != IGNORED)], minlength=count)
    wanted = ~(truth.objects.crowd | truth.objects.ignored)
    missed = np.bincount(truth.objects.images[wanted], minlength=count) - found
    scores = []
    for index, name in enumerate(names):
        hits, lost, wrong = int(found[index]), int(missed[index]), int(false[index])
        total = 2 * hits + lost + wrong
        scores.append(ObjectImageScore(index, name, 2 * hits / total if total else float("nan"), hits, lost, wrong))
    return scores

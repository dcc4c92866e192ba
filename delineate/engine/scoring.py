"""Files of truth and of predictions in, the numbers of the field out: what ``delineate score`` does, with no model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from delineate.data.objects.coco_json import Columns
from delineate.data.objects.opening import open_predictions, open_truth, prediction_blocks
from delineate.engine import localisation_scoring, map_scoring
from delineate.engine.object_scoring import Evidence, explained_figures, object_figures
from delineate.engine.scoring_options import check_object_options, finite_options, plain_options
from delineate.errors import ArgumentError
from delineate.files import write_json
from delineate.metrics.detection import (
    KEYPOINT_AREA_RANGES,
    KEYPOINT_MAX_DETECTIONS,
    boundary_scores,
)
from delineate.metrics.voc import checked_thresholds, voc_scores
from delineate.ops.matching import (
    COCO_AREA_RANGES,
    COCO_IOU_THRESHOLDS,
    COCO_MAX_DETECTIONS,
    COCO_SIGMAS,
    Matches,
    Overlaps,
    box_overlaps,
    joined_matches,
    keypoint_overlaps,
    mask_overlaps,
    match_objects,
)
from delineate.registry import Registry, unknown_name
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Score:
    """The figures of a pair of files.

    Args:
        task: one of :data:`TASKS`.
        scores: nested plain numbers; fractions of 1, NaN where undefined.
        ground_truth: path of the truth.
        predictions: path of the predictions.
        options: those that were set, as text, numbers, lists and dictionaries.
        evidence: of the tasks boxes, masks and keypoints.
    """

    task: str
    scores: dict[str, Any]
    ground_truth: str
    predictions: str
    options: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None

    def write(self, path: str | Path) -> None:
        """Write all of it as JSON, whole or not at all; undefined numbers are null."""
        head = {"task": self.task, "ground_truth": self.ground_truth, "predictions": self.predictions}
        write_json(path, {**head, "options": finite_options(self.options), **self.scores})


def score(
    task: str,
    ground_truth: str | Path,
    predictions: str | Path,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The figures of predictions against the truth, both given as files, as nested plain numbers.

    Args:
        task: one of :data:`TASKS`: "boxes", "masks", "keypoints", "voc", "panoptic", "semantic", "saliency" or
            "localisation".
        ground_truth: what is true, in a format of the task.
        predictions: what was predicted, in a format of the task.
        progress: called with (steps done, steps in all).
        options: of the task; an unknown one is an error that names the nearest.

    Returns:
        The figures; undefined ones are NaN.

    Raises:
        DataError: naming file and record, when one of the two cannot be read or does not fit the other.
        UnknownNameError: on an unknown task, format or option.
    """
    return measure_files(task, ground_truth, predictions, progress=progress, **options).scores


def measure_files(
    task: str,
    ground_truth: str | Path,
    predictions: str | Path,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Score:
    """:func:`score`, with what the figures were computed from."""
    chosen = TASKS[task]
    unknown = [name for name in options if name not in chosen.options]
    if unknown:
        others = sorted(name for name, other in TASKS.items() if unknown[0] in other.options)
        if others:
            of = ", ".join(others)
            raise ArgumentError(f"option must be one of the task {task}; got '{unknown[0]}', which only {of} has.")
        raise unknown_name(f"option of the task {task}", unknown[0], chosen.options)
    options = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in options.items()}
    scores, evidence = chosen.measure(Path(ground_truth), Path(predictions), progress or _silent, **options)
    told = plain_options({name: value for name, value in options.items() if name != "keep_masks"})
    return Score(task, scores, str(ground_truth), str(predictions), told, evidence)


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


def _measure_objects(
    columns: Columns,
    overlaps: Overlaps,
    ground_truth: Path,
    predictions: Path,
    progress: Progress,
    *,
    truth_format: str = "auto",
    prediction_format: str = "auto",
    split: str | None = None,
    iou_thresholds: Sequence[float | int] = COCO_IOU_THRESHOLDS,
    area_ranges: Mapping[str, tuple[float | int, float | int]] | None = None,
    max_detections: Sequence[int] | None = None,
    class_agnostic: bool = False,
    errors: bool = False,
    keep_masks: bool = False,
) -> tuple[dict[str, Any], Evidence]:
    """COCO's figures; with ``errors`` also why precision is lost, the calibration and the best thresholds.

    Masks that come in parts are compared part by part and dropped, unless something still needs them (``keep_masks``).
    """
    people = columns == "keypoints"
    limits = (KEYPOINT_MAX_DETECTIONS if people else COCO_MAX_DETECTIONS) if max_detections is None else max_detections
    ranges = (KEYPOINT_AREA_RANGES if people else COCO_AREA_RANGES) if area_ranges is None else area_ranges
    check_object_options(iou_thresholds, ranges, limits)
    steps = 4 + errors
    progress(0, steps)
    listed = open_truth(ground_truth, columns=columns, format=truth_format, split=split)
    truth = listed.class_agnostic() if class_agnostic else listed
    progress(1, steps)
    match = partial(
        match_objects,
        overlaps=overlaps,
        iou_thresholds=iou_thresholds,
        area_ranges=ranges,
        max_detections=max(limits),
    )
    streamed = None
    if columns == "masks" and not (errors or keep_masks):
        blocks = prediction_blocks(predictions, listed, columns=columns, format=prediction_format)
        streamed = blocks and _streamed(truth, blocks, match, class_agnostic)
    if streamed:
        found, matches = streamed
    else:
        found = open_predictions(
            predictions, listed, columns=columns, format=prediction_format, class_agnostic=class_agnostic
        )
        progress(2, steps)
        matches = match(truth, found)
    progress(3, steps)
    scores, evidence = object_figures(truth, found, overlaps, matches, max_detections=limits)
    progress(4, steps)
    if errors:
        scores |= explained_figures(scores, evidence, area_range=next(iter(ranges.values())))
        progress(steps, steps)
    return scores, evidence


def _streamed(
    truth: Annotations,
    blocks: Iterator[Objects],
    match: Callable[[Annotations, Objects], Matches],
    class_agnostic: bool,
) -> tuple[Objects, Matches] | None:
    """Predictions without their masks, and their matches, block by block; None where an image comes back later."""
    done = np.zeros(truth.num_images, bool)
    kept: list[Objects] = []
    parts: list[tuple[Matches, int]] = []
    waiting: Objects | None = None  # of the last image of a block, which may go on in the next
    block = next(blocks, None)
    while block is not None:
        after = next(blocks, None)
        whole = block if waiting is None else Objects.concatenate([waiting, block])
        goes_on = np.zeros(len(whole), bool)
        if after is not None and len(whole):
            goes_on = whole.images == whole.images[-1]
        now = whole.select(~goes_on)
        now = now.class_agnostic() if class_agnostic else now
        if done[now.images].any():
            return None
        done[now.images] = True
        parts.append((match(truth, now), len(now)))
        kept.append(replace(now, masks=None))
        waiting = whole.select(goes_on)
        block = after
    return Objects.concatenate(kept), joined_matches(parts)


def _measure_masks(
    ground_truth: Path,
    predictions: Path,
    progress: Progress,
    *,
    boundary: bool = False,
    keep_masks: bool = False,
    **options: Any,
) -> tuple[dict[str, Any], Evidence]:
    measure = partial(_measure_objects, "masks", mask_overlaps, keep_masks=keep_masks or boundary)
    scores, evidence = measure(ground_truth, predictions, progress, **options)
    if boundary:
        kept = {
            name: options[name] for name in ("iou_thresholds", "area_ranges", "max_detections") if options.get(name)
        }
        scores["boundary"] = boundary_scores(evidence.truth, evidence.predictions, **kept)
    return scores, evidence


def _measure_keypoints(
    ground_truth: Path,
    predictions: Path,
    progress: Progress,
    *,
    sigmas: Sequence[float | int] = COCO_SIGMAS,
    **options: Any,
) -> tuple[dict[str, Any], Evidence]:
    overlaps = keypoint_overlaps(sigmas)
    return _measure_objects("keypoints", overlaps, ground_truth, predictions, progress, **options)


def _measure_voc(
    ground_truth: Path,
    predictions: Path,
    progress: Progress,
    *,
    truth_format: str = "auto",
    prediction_format: str = "auto",
    split: str | None = None,
    iou_thresholds: Sequence[float | int] = (0.5,),
    inclusive_pixels: bool = True,
) -> tuple[dict[str, Any], None]:
    checked_thresholds(iou_thresholds)
    progress(0, 3)
    truth = open_truth(ground_truth, format=truth_format, split=split)
    progress(1, 3)
    found = open_predictions(predictions, truth, format=prediction_format)
    progress(2, 3)
    scores = voc_scores(truth, found, iou_thresholds=iou_thresholds, inclusive_pixels=inclusive_pixels)
    scores["images"] = truth.num_images
    progress(3, 3)
    return scores, None


@dataclass(frozen=True)
class Task:
    """A way to score.

    Args:
        measure: of (ground truth, predictions, progress, options).
        summary: what it computes, for ``--help``.
        headline: the figures shown first, in this order.
        options: names of its options.
    """

    measure: Callable[..., tuple[dict[str, Any], Any]]
    summary: str
    headline: tuple[str, ...]
    options: tuple[str, ...]


def _options(*functions: Callable[..., Any], without: str = "") -> tuple[str, ...]:
    """The keyword-only parameters of all functions."""
    names: dict[str, None] = {}
    for function in functions:
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and name != without:
                names[name] = None
    return tuple(names)


_OBJECTS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
TASKS: Registry[Task] = Registry(
    "task",
    {
        "boxes": Task(
            partial(_measure_objects, "boxes", box_overlaps),
            "COCO's average precision and recall of boxes",
            _OBJECTS,
            _options(_measure_objects, without="keep_masks"),
        ),
        "masks": Task(
            _measure_masks,
            "the same of instance masks, and Boundary AP",
            _OBJECTS,
            _options(_measure_objects, _measure_masks),
        ),
        "keypoints": Task(
            _measure_keypoints,
            "the same of persons' keypoints, by object keypoint similarity",
            ("ap", "ap50", "ap75", "ap_medium", "ap_large"),
            _options(_measure_objects, _measure_keypoints, without="keep_masks"),
        ),
        "voc": Task(
            _measure_voc,
            "Pascal VOC's average precision, 11-point and all-point",
            ("map", "map_11_point"),
            _options(_measure_voc),
        ),
        "panoptic": Task(
            map_scoring.measure_panoptic,
            "panoptic quality: PQ, SQ, RQ",
            ("pq", "sq", "rq"),
            _options(map_scoring.measure_panoptic),
        ),
        "semantic": Task(
            map_scoring.measure_semantic,
            "IoU and accuracy of label maps",
            ("miou", "pixel_accuracy", "mean_accuracy", "fwiou", "mean_dice"),
            _options(map_scoring.measure_semantic),
        ),
        "saliency": Task(
            map_scoring.measure_saliency,
            "MAE, F, weighted F, S and E measures of saliency maps",
            ("mae", "max_f", "mean_f", "adaptive_f", "weighted_f", "s_measure", "max_e", "mean_e", "adaptive_e"),
            _options(map_scoring.measure_saliency),
        ),
        "localisation": Task(
            localisation_scoring.measure_localisation,
            "weak localisation: top-k error of boxes; MaxBoxAcc and point localisation of score maps",
            ("top1_error", "top5_error", "known_error", "max_box_accuracy", "max_box_accuracy_v2"),
            _options(localisation_scoring.measure_localisation),
        ),
    },
)

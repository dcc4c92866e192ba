"""The class gives the figures of the function, whatever the batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from delineate.errors import ArgumentError
from delineate.metrics.error_analysis import detection_errors
from delineate.metrics.error_analysis_metric import DetectionErrorScores
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

CLASSES = ("cell", "debris")


def scene(images: int = 6) -> tuple[list[dict], list[dict]]:
    generator = np.random.default_rng(0)
    predictions, targets = [], []
    for i in range(images):
        corner = generator.integers(0, 40, (3 if i != 2 else 0, 2))
        boxes = np.concatenate([corner, corner + generator.integers(5, 30, corner.shape)], axis=1).astype(float)
        found = np.concatenate([boxes, boxes + generator.integers(0, 9, boxes.shape), boxes + 60])
        targets.append(
            {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(generator.integers(0, 2, len(boxes)))}
        )
        predictions.append(
            {
                "boxes": torch.from_numpy(
                    np.concatenate([found[:, :2], np.maximum(found[:, 2:], found[:, :2] + 1)], axis=1)
                ),
                "labels": torch.from_numpy(generator.integers(0, 2, len(found))),
                "scores": torch.from_numpy(generator.random(len(found)).round(1)),
            }
        )
    return predictions, targets


def objects(batch: list[dict]) -> Objects:
    parts = []
    for i, entry in enumerate(batch):
        xyxy = entry["boxes"].numpy().reshape(-1, 4)
        boxes = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
        scores = entry["scores"].numpy() if "scores" in entry else None
        parts.append(Objects.of(np.full(len(boxes), i), entry["labels"].numpy(), boxes, scores=scores))
    return Objects.concatenate(parts)


@pytest.mark.parametrize("batch", [1, 4, 6])
def test_the_figures_of_the_function_whatever_the_batches(batch):
    predictions, targets = scene()
    metric = DetectionErrorScores(CLASSES)
    for start in range(0, 6, batch):
        metric.update(predictions[start : start + batch], targets[start : start + batch])
    expected = detection_errors(Annotations.of(range(6), CLASSES, objects(targets)), objects(predictions))
    found = metric.compute()
    assert json.dumps(found) == json.dumps(expected)
    assert sum(count > 0 for count in expected["counts"].values()) > 4


def test_nothing_yet_and_other_thresholds():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert np.isnan(DetectionErrorScores(CLASSES).compute()["ap"])
    strict, loose = DetectionErrorScores(CLASSES, foreground_threshold=0.9), DetectionErrorScores(CLASSES)
    for metric in (strict, loose):
        metric.update(*scene())
    assert strict.compute()["counts"]["localisation"] > loose.compute()["counts"]["localisation"]


def test_what_is_refused():
    predictions, targets = scene()
    with pytest.raises(ArgumentError, match="predictions must be of 6 images, as targets; got 1"):
        DetectionErrorScores(CLASSES).update(predictions[:1], targets)
    with pytest.raises(ArgumentError, match="class_names must name at least one class"):
        DetectionErrorScores(())

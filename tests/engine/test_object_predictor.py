"""From a network's input back to the picture: what reaches into the frame, and joints to the picture's own pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from delineate.engine import object_predictor
from delineate.engine.object_predictor import ObjectPredictor
from delineate.engine.weights import ModelCard
from delineate.models.catalogue import create_model
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.scored_boxes import DetectionOptions, ScoredBoxes
from delineate.structures.taxonomy import Taxonomy

SMALL: dict[str, Any] = {"encoder": "test_resnet", "channels": 8, "hidden": 8, "head_channels": 8, "after": 5}
PICTURE = np.zeros((40, 80, 3), np.uint8)  # 32 rows of the input's 64, from 16 to 48


def predictor_of(name: str, task: str, **options: Any) -> ObjectPredictor:
    options = {**SMALL, "num_classes": 1, **options}
    card = ModelCard(
        name,
        options,
        Preprocessing(),
        Taxonomy(("thing",)),
        task=task,
        fit={"fit": "canvas", "size": [64, 64]},
        keypoint_names=("tip",) if task == "keypoints" else (),
    )
    return ObjectPredictor(create_model(name, **options), card, precision="float32", device="cpu")


def finds(monkeypatch: pytest.MonkeyPatch, predictor: ObjectPredictor, box: list[float], maps: Tensor) -> Any:
    """What a predictor makes of one box of the input and one map of it."""
    found = ScoredBoxes(torch.tensor([box]), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    monkeypatch.setattr(object_predictor, "detected_objects", lambda *_: [found])
    monkeypatch.setattr(predictor._fast, "described", lambda *_: maps)
    return predictor.found(PICTURE, DetectionOptions())


def test_a_mask_that_reaches_into_the_frame_is_cut_and_not_squeezed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box half in the frame above the picture, whose upper half alone is of the object: nothing of it is seen."""
    maps = torch.full((1, 1, 28, 28), -9.0)
    maps[:, :, :14] = 9.0
    found = finds(monkeypatch, predictor_of("mask_rcnn", "instances"), [16.0, 0.0, 48.0, 32.0], maps)
    np.testing.assert_allclose(found.boxes, [[20, 0, 60, 20]])
    assert found.masks is not None
    mask = found.masks[0].decode()
    assert mask.shape == (40, 80)
    assert mask[2:].sum() == 0  # up to the width of a place


def test_joints_are_found_to_a_pixel_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box of 8 x 8 input pixels has 10 x 10 of the picture: the tip is in one of these."""
    maps = torch.full((1, 1, 56, 56), -9.0)
    maps[0, 0, 30:34, 38:42] = 9.0
    predictor = predictor_of("keypoint_rcnn", "keypoints", joints=1)
    found = finds(monkeypatch, predictor, [8.0, 24.0, 16.0, 32.0], maps)
    np.testing.assert_allclose(found.boxes, [[10, 10, 20, 20]])
    # the middle of the patch is 32 / 56 and 40 / 56 of the box: 5.71 and 7.14 pixels, in its sixth and eighth
    np.testing.assert_allclose(found.keypoints[0, 0, :2], [17.5, 15.5])
    tile = predictor.found(PICTURE, DetectionOptions(), (0, 40, 40, 80))
    assert (tile.keypoints[0, 0, 0] >= 40).all()

"""Torchvision's dictionaries as columns: every form that is taken, and every one that would mean something else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from delineate.errors import ArgumentError
from delineate.metrics.batch_objects import batch_columns, batch_objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

BOX = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
ONE = {"boxes": BOX, "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
MASK = np.zeros((1, 6, 5), bool)
MASK[0, 1:3, 2:4] = True


def test_boxes_by_hand():
    nothing = {"boxes": torch.zeros(0), "labels": torch.zeros(0), "scores": torch.zeros(0)}
    objects = batch_objects([nothing, ONE], "predictions", 2)
    assert objects.images.tolist() == [1]
    assert objects.labels.tolist() == [1]
    assert objects.boxes.tolist() == [[1, 2, 3, 6]]
    assert objects.areas.tolist() == [18]
    assert objects.scores.tolist() == [0.5]
    assert len(batch_objects([], "predictions", 2)) == 0


def test_both_words_for_what_does_not_count():
    for name in ("ignored", "difficult"):
        objects = batch_objects([{**ONE, name: torch.tensor([True])}], "targets", 2)
        assert objects.ignored.tolist() == [True]
        assert objects.crowd.tolist() == [False]
        assert batch_columns([{**ONE, name: torch.tensor([1])}], "targets", 2).difficult.tolist() == [True]
    crowd = batch_objects([{**ONE, "iscrowd": torch.tensor([1]), "area": torch.tensor([7.0])}], "targets", 2)
    assert (crowd.crowd.tolist(), crowd.areas.tolist(), crowd.scores) == ([True], [7], None)


@pytest.mark.parametrize(
    "masks",
    [
        torch.from_numpy(MASK),
        torch.from_numpy(MASK[:, None].astype(np.uint8)),
        MASK.astype(np.int64),
        [RLE.encode(MASK[0])],
        RLEMasks.from_rles([RLE.encode(MASK[0])]),
    ],
    ids=["bool", "N1HW", "integers", "list", "table"],
)
def test_every_form_of_masks(masks):
    objects = batch_objects([{**ONE, "masks": masks}], "predictions", 2, masks=True)
    assert np.array_equal(objects.masks[0].decode(), MASK[0])
    assert objects.areas.tolist() == [4]
    assert objects.boxes.tolist() == [[2, 1, 2, 2]]


def test_half_precision_scores_of_a_mixed_model():
    for dtype in (torch.bfloat16, torch.float16):
        found = {**ONE, "scores": torch.tensor([0.5], dtype=dtype), "boxes": BOX.to(dtype)}
        assert batch_objects([found], "predictions", 2).scores.tolist() == [0.5]


def test_images_without_persons():
    points = torch.ones(2, 3, 3)
    batch = [
        {"labels": torch.zeros(0), "keypoints": torch.zeros(0), "scores": torch.zeros(0)},
        {"labels": torch.zeros(2), "keypoints": points, "scores": torch.ones(2)},
    ]
    objects = batch_objects(batch, "predictions", 1, keypoints=True)
    assert objects.keypoints.shape == (2, 3, 3)
    assert objects.boxes.tolist() == [[1, 1, 0, 0]] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([2])}, r"predictions\[0\]\['labels'\] must be 0 to 1; got \[2\]"),
        ({"labels": torch.tensor([0.9])}, r"\['labels'\] must be whole numbers; got \[0\.8999"),
        ({"labels": torch.tensor([[1]])}, r"\['labels'\] must be \(N,\)"),
        ({"scores": torch.tensor([np.nan])}, r"predictions\[0\] must hold finite scores; got NaN or infinity"),
        ({"scores": torch.tensor([0.5, 0.5])}, r"\['scores'\] must be \(1,\); got \(2,\)"),
        ({"boxes": torch.zeros(1, 5)}, r"\['boxes'\] must be \(1, 4\) xyxy pixels; got \(1, 5\)"),
        (
            {"boxes": tv_tensors.BoundingBoxes(BOX, format="XYWH", canvas_size=(9, 9))},
            r"\['boxes'\] must be xyxy; got XYWH\. Convert them",
        ),
        ({"masks": torch.full((1, 6, 5), 0.4)}, r"\['masks'\] must be bool.*Pass masks > 0\.5 rather than"),
        ({"masks": torch.full((1, 6, 5), 2)}, r"\['masks'\] must be bool"),
        ({"masks": torch.zeros(2, 6, 5, dtype=torch.bool)}, r"\['masks'\] must be 1, as labels; got 2"),
        ({"masks": torch.zeros(6, 5, dtype=torch.bool)}, r"\['masks'\] must be \(N, H, W\); got \(6, 5\)"),
    ],
)
def test_what_would_mean_something_else(change, message):
    with pytest.raises(ArgumentError, match=message):
        batch_objects([{**ONE, **change}], "predictions", 2, masks="masks" in change)


def test_what_is_missing():
    for name in ("labels", "boxes", "scores"):
        rest = {key: value for key, value in ONE.items() if key != name}
        with pytest.raises(ArgumentError, match=rf"predictions\[0\] must have {name}; got keys"):
            batch_objects([rest], "predictions", 2)
    with pytest.raises(ArgumentError, match="must have masks"):
        batch_objects([ONE], "predictions", 2, masks=True)
    with pytest.raises(ArgumentError, match="must have keypoints"):
        batch_objects([ONE], "predictions", 2, keypoints=True)
    several = [{"labels": torch.zeros(1), "keypoints": torch.ones(1, n, 3), "scores": torch.ones(1)} for n in (2, 3)]
    with pytest.raises(ArgumentError, match=r"predictions must have one number of keypoints; got \[2, 3\]"):
        batch_objects(several, "predictions", 1, keypoints=True)

"""The true boxes of an image: objects and crowds apart."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors

from delineate.errors import ArgumentError
from delineate.ops.true_boxes import true_boxes


def test_crowds_stand_apart_and_rows_lead_back() -> None:
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[0.0, 0, 9, 9], [1, 1, 2, 2]]), format="XYXY", canvas_size=(9, 9))
    found = true_boxes({"boxes": boxes, "labels": torch.tensor([1, 0]), "iscrowd": torch.tensor([True, False])})
    assert type(found.boxes) is torch.Tensor
    assert found.boxes.tolist() == [[1, 1, 2, 2]]
    assert found.labels.tolist() == [0]
    assert found.crowds.tolist() == [[0, 0, 9, 9]]
    assert found.rows.tolist() == [1]


def test_an_image_without_objects() -> None:
    found = true_boxes({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}, num_classes=1)
    assert [len(column) for column in found] == [0, 0, 0, 0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="labels must be 2, one a box; got 1"):
        true_boxes({"boxes": torch.zeros(2, 4), "labels": torch.tensor([0])})
    with pytest.raises(ArgumentError, match="labels must be object classes 0 to 1; got -1"):
        true_boxes({"boxes": torch.zeros(1, 4), "labels": torch.tensor([-1])}, num_classes=2)

"""The loss of YOLO, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from delineate.errors import ArgumentError
from delineate.losses.yolo import YOLOLoss
from delineate.structures.outputs import GridOutputs

EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def grid(values: Tensor, objectness: Tensor, logits: Tensor, priors: Tensor | None = None) -> GridOutputs:
    """A 2 x 2 grid over 64 x 64 pixels."""
    return GridOutputs(logits, objectness, values, (2, 2), (64, 64), priors)


def target(*boxes: list[float], labels: list[int]) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)}


class TestYOLO:
    def test_every_term_by_hand(self) -> None:
        values = torch.zeros(1, 4, 2, 4)
        # cell 3 spans 32..64; its second box is 16 pixels wide and high, at the cell's centre: 40..56
        values[0, 3, 1] = torch.tensor([0.5, 0.5, 0.5, 0.5])
        objectness = torch.full((1, 4, 2), 0.1)
        objectness[0, 3, 1] = 0.7
        logits = torch.zeros(1, 4, 1, 2)
        logits[0, 3, 0] = torch.tensor([0.2, 0.9])
        # the object is 40..56 across, 40..64 down: centre (48, 52), sides 16 and 24
        found = YOLOLoss()(grid(values, objectness, logits), [target([40.0, 40, 56, 64], labels=[1])])
        assert float(found["classes"]) == pytest.approx(0.2**2 + 0.1**2)
        assert float(found["objects"]) == pytest.approx((0.7 - 16 / 24) ** 2, abs=1e-6)
        assert float(found["no_objects"]) == pytest.approx(7 * 0.01)
        boxes = (0.5 - 0.625) ** 2 + (0.5 - math.sqrt(24 / 64)) ** 2
        assert float(found["boxes"]) == pytest.approx(boxes)
        expected = 0.05 + (0.7 - 2 / 3) ** 2 + 0.5 * 0.07 + 5 * boxes
        assert float(found["loss"]) == pytest.approx(expected)

    def test_where_no_box_overlaps_the_nearest_answers(self) -> None:
        values = torch.zeros(1, 4, 2, 4)
        values[0, 0, 0] = torch.tensor([9.0, 9.0, 0.1, 0.1])  # far away
        values[0, 0, 1] = torch.tensor([3.0, 3.0, 0.1, 0.1])
        objectness = torch.tensor([5.0, 2.0]).expand(1, 4, 2)
        found = YOLOLoss()(grid(values, objectness, torch.zeros(1, 4, 1, 2)), [target([0.0, 0, 8, 8], labels=[0])])
        assert float(found["objects"]) == pytest.approx(4)  # of the second box: 2 where the overlap is 0

    def test_of_two_objects_in_a_cell_the_first_counts(self) -> None:
        values, objectness, logits = torch.rand(1, 4, 2, 4), torch.rand(1, 4, 2), torch.rand(1, 4, 1, 2)
        both = target([2.0, 2, 20, 20], [4.0, 4, 24, 24], labels=[1, 0])
        first = target([2.0, 2, 20, 20], labels=[1])
        given = grid(values, objectness, logits)
        assert float(YOLOLoss()(given, [both])["loss"]) == pytest.approx(float(YOLOLoss()(given, [first])["loss"]))

    def test_an_image_without_objects_teaches_silence_only(self) -> None:
        values, objectness = torch.rand(1, 4, 2, 4), torch.full((1, 4, 2), 0.5).requires_grad_()
        found = YOLOLoss()(grid(values, objectness, torch.rand(1, 4, 1, 2)), [EMPTY])
        assert float(found["loss"].detach()) == pytest.approx(0.5 * 8 * 0.25)
        assert float(found["boxes"]) == 0
        found["loss"].backward()

    def test_priors_are_refused(self) -> None:
        given = grid(torch.zeros(1, 4, 1, 4), torch.zeros(1, 4, 1), torch.zeros(1, 4, 1, 2), torch.ones(1, 2))
        with pytest.raises(ArgumentError, match="Take YOLOv2Loss"):
            YOLOLoss()(given, [EMPTY])


def test_targets_must_fit() -> None:
    given = grid(torch.zeros(1, 4, 1, 4), torch.zeros(1, 4, 1), torch.zeros(1, 4, 1, 2))
    with pytest.raises(ArgumentError, match="targets must be 1, one an image; got 2"):
        YOLOLoss()(given, [EMPTY, EMPTY])
    with pytest.raises(ArgumentError, match="labels must be object classes 0 to 1; got 5"):
        YOLOLoss()(given, [target([0.0, 0, 8, 8], labels=[5])])
    with pytest.raises(ArgumentError, match="coordinates must be 0 or more"):
        YOLOLoss(coordinates=-1)

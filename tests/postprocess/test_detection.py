"""Outputs to objects: scores, thresholds, groups and limits, by hand. Equality with torchvision's detectors is tested
beside the models."""

from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.postprocess.detection import class_scores, detected_boxes
from delineate.structures.outputs import AnchorOutputs, GridOutputs
from delineate.structures.scored_boxes import DetectionOptions

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [22, 22, 44, 44]])


def logit(probability: float) -> float:
    return float(torch.logit(torch.tensor(probability)))


def outputs(probabilities: list[list[float]], levels: tuple[int, ...] = (3, 1)) -> AnchorOutputs:
    logits = torch.logit(torch.tensor(probabilities))[None]
    return AnchorOutputs(logits, torch.zeros(1, 4, 4), ANCHORS, levels)


def test_suppression_is_within_a_class_and_boxes_are_cut_to_the_image() -> None:
    given = outputs([[0.9, 0.01], [0.8, 0.7], [0.01, 0.6], [0.04, 0.01]])
    found = detected_boxes(given, [(25, 40)])[0]
    # the second anchor loses to the first as class 0 and stays as class 1
    assert found.labels.tolist() == [0, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert found.boxes.tolist() == [[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 25]]


def test_the_threshold_itself_does_not_pass() -> None:
    given = AnchorOutputs(torch.zeros(1, 4, 1), torch.zeros(1, 4, 4), ANCHORS, (4,))
    assert len(detected_boxes(given, [(50, 50)], DetectionOptions(score_threshold=0.5))[0]) == 0
    assert len(detected_boxes(given, [(50, 50)], DetectionOptions(score_threshold=0.49))[0]) == 3


def test_limits_hold_for_groups_and_images() -> None:
    given = outputs([[0.9, 0.5], [0.8, 0.4], [0.7, 0.3], [0.6, 0.2]])
    one = DetectionOptions(candidates=1, iou_threshold=1)
    assert detected_boxes(given, [(50, 50)], one)[0].scores.tolist() == pytest.approx([0.9, 0.6])  # of each level
    by_class = DetectionOptions(candidates=1, iou_threshold=1, groups="class")
    assert detected_boxes(given, [(50, 50)], by_class)[0].scores.tolist() == pytest.approx([0.9, 0.5])
    few = DetectionOptions(iou_threshold=1, most=3)
    assert detected_boxes(given, [(50, 50)], few)[0].scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_nothing_above_the_threshold_is_an_ordinary_answer() -> None:
    found = detected_boxes(outputs([[0.01, 0.01]] * 4), [(50, 50)])[0]
    assert found.boxes.shape == (0, 4)
    assert found.labels.dtype == torch.int64


def test_a_softmaxs_background_is_no_class() -> None:
    logits = torch.tensor([[[0.0, 0.0, 1.0]]]).log_softmax(-1)
    given = AnchorOutputs(logits, torch.zeros(1, 1, 4), ANCHORS[:1], (1,), scoring="softmax")
    assert class_scores(given)[0, 0].tolist() == pytest.approx([0.2119, 0.2119], abs=1e-4)


def test_yolos_scores_are_products_and_its_boxes_lie_in_cells() -> None:
    values = torch.zeros(1, 4, 1, 4)
    values[0, 3, 0] = torch.tensor([0.5, 0.5, 0.5, 0.25])
    objectness = torch.zeros(1, 4, 1)
    objectness[0, 3, 0] = 0.8
    logits = torch.tensor([0.5, 0.25]).expand(1, 4, 1, 2)
    found = detected_boxes(GridOutputs(logits, objectness, values, (2, 2), (64, 64)), [(64, 64)])[0]
    assert found.scores.tolist() == pytest.approx([0.4, 0.2])
    assert found.labels.tolist() == [0, 1]
    assert found.boxes[0].tolist() == [40, 46, 56, 50]


def test_yolov2s_scores_are_sigmoid_times_softmax() -> None:
    values = torch.zeros(1, 4, 2, 4)
    objectness = torch.full((1, 4, 2), -20.0)
    objectness[0, 1, 1] = logit(0.75)
    logits = torch.zeros(1, 4, 2, 2)
    priors = torch.tensor([[1.0, 1.0], [0.25, 0.5]])
    given = GridOutputs(logits, objectness, values, (2, 2), (64, 64), priors)
    found = detected_boxes(given, [(64, 64)], DetectionOptions(groups="class"))[0]
    assert found.scores.tolist() == pytest.approx([0.375, 0.375])
    assert found.boxes[0].tolist() == [44, 8, 52, 24]  # the second prior, 8 x 16 pixels, around (48, 16)


def test_half_precision_is_scored_in_full() -> None:
    given = outputs([[0.9, 0.01], [0.8, 0.7], [0.01, 0.6], [0.04, 0.01]])
    half = AnchorOutputs(given.logits.bfloat16(), given.deltas.bfloat16(), given.anchors, given.levels)
    found = detected_boxes(half, [(50, 50)])[0]
    assert found.scores.dtype == torch.float32
    assert found.boxes.dtype == torch.float32


def test_what_does_not_fit_is_refused() -> None:
    given = outputs([[0.9, 0.5]] * 4)
    with pytest.raises(ArgumentError, match="sizes must be 1, one an image; got 2"):
        detected_boxes(given, [(5, 5), (5, 5)])
    with pytest.raises(ArgumentError, match='groups must be "level" or "class"'):
        detected_boxes(given, [(5, 5)], DetectionOptions(groups="image"))

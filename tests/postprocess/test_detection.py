"""Outputs to objects: scores, thresholds, groups and limits, by hand. Equality with torchvision's detectors is tested
beside the models."""

from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.postprocess.detection import class_scores, detected_boxes, detected_regions
from delineate.structures.outputs import AnchorOutputs, GridOutputs, RegionOutputs
from delineate.structures.scored_boxes import DetectionOptions
from delineate.structures.word_tree import WordTree

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


WORDS = WordTree(("thing", "plant", "dog", "cat"), (-1, -1, 0, 0))
PRIORS = torch.tensor([[1.0, 1.0], [0.9, 0.9]])


def words(objectness: list[float], probabilities: list[list[float]]) -> GridOutputs:
    """Two boxes of one cell of 32 pixels; the probabilities are conditional, of thing, plant, dog and cat."""
    claims = torch.logit(torch.tensor(objectness)).view(1, 1, 2)
    return GridOutputs(
        torch.tensor(probabilities).log().view(1, 1, 2, 4),
        claims,
        torch.zeros(1, 1, 2, 4),
        (1, 1),
        (32, 32),
        PRIORS,
        WORDS,
    )


def test_words_score_with_all_above_them() -> None:
    given = words([0.8, 0.5], [[0.75, 0.25, 0.9, 0.1], [0.5, 0.5, 0.5, 0.5]])
    assert class_scores(given)[0, 0].tolist() == pytest.approx([0.6, 0.2, 0.54, 0.06])
    assert class_scores(given)[0, 1].tolist() == pytest.approx([0.25, 0.25, 0.125, 0.125])
    found = detected_boxes(given, [(32, 32)], DetectionOptions(groups="class", score_threshold=0.1))[0]
    assert found.labels.tolist() == [0, 2, 1, 3]  # the boxes overlap: of each word the better one stays
    assert found.scores.tolist() == pytest.approx([0.6, 0.54, 0.25, 0.125])


@pytest.mark.parametrize(("threshold", "label"), [(0.5, 2), (0.7, 0), (1, 0)])
def test_down_the_tree_each_box_has_one_word(threshold: float | int, label: int) -> None:
    given = words([0.8, 0.2], [[0.75, 0.25, 0.9, 0.1], [0.25, 0.75, 0.5, 0.5]])
    found = detected_boxes(given, [(32, 32)], DetectionOptions(iou_threshold=0.9, specific=threshold))[0]
    assert found.labels.tolist() == [label, 1]
    assert found.scores.tolist() == pytest.approx([0.8, 0.2])  # the objectness, whatever the word's probability


def test_boxes_of_different_words_suppress_each_other_down_the_tree() -> None:
    given = words([0.2, 0.8], [[0.75, 0.25, 0.9, 0.1], [0.25, 0.75, 0.5, 0.5]])
    found = detected_boxes(given, [(32, 32)], DetectionOptions(specific=0.5))[0]
    assert found.labels.tolist() == [1]
    assert len(detected_boxes(given, [(32, 32)], DetectionOptions(specific=0.5, labels=(2,)))[0]) == 1
    assert len(detected_boxes(given, [(32, 32)], DetectionOptions(specific=0.5, score_threshold=0.9))[0]) == 0


def test_classes_that_are_not_looked_for_are_not_found() -> None:
    given = outputs([[0.9, 0.5], [0.8, 0.4], [0.7, 0.3], [0.6, 0.2]])
    for groups in ("level", "class"):
        found = detected_boxes(given, [(50, 50)], DetectionOptions(labels=(1,), iou_threshold=1, groups=groups))[0]
        assert found.scores.tolist() == pytest.approx([0.5, 0.4, 0.3, 0.2])
        assert found.labels.tolist() == [1] * 4
        every = DetectionOptions(labels=(1,), iou_threshold=1, groups=groups, score_threshold=-5)
        assert len(detected_boxes(given, [(50, 50)], every)[0]) == 4


def test_regions_of_other_classes_are_not_found() -> None:
    proposals = AnchorOutputs(torch.zeros(1, 1, 1), torch.zeros(1, 1, 4), ANCHORS[:1], (1,))
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    regions = RegionOutputs(proposals, ANCHORS[:1], torch.zeros(1, dtype=torch.int64), logits, torch.zeros(1, 3, 4))
    assert detected_regions(regions, [(50, 50)])[0].labels.tolist() == [0, 1]
    assert detected_regions(regions, [(50, 50)], DetectionOptions(labels=(1,)))[0].labels.tolist() == [1]
    with pytest.raises(ArgumentError, match="specific must be left out for a model whose classes are no tree"):
        detected_regions(regions, [(50, 50)], DetectionOptions(specific=0.5))


def test_large_and_small_groups_of_classes_say_the_same() -> None:
    generator = torch.Generator().manual_seed(3)
    given = GridOutputs(
        torch.randn(1, 9, 2, 4, generator=generator),
        torch.randn(1, 9, 2, generator=generator),
        torch.randn(1, 9, 2, 4, generator=generator),
        (3, 3),
        (96, 96),
        PRIORS,
        WORDS,
    )
    whole, single = (
        detected_boxes(given, [(96, 96)], DetectionOptions(groups="class", candidates=count, labels=(0, 2)))[0]
        for count in (18, 17)  # 18 boxes: one limit is never met, the other by no word's boxes above the threshold
    )
    assert len(whole) > 5
    assert torch.equal(whole.boxes, single.boxes)
    assert torch.equal(whole.labels, single.labels)


@pytest.mark.parametrize("candidates", [1, 4, 9, 100])
def test_crowded_classes_beside_others_are_as_each_alone(candidates: int) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(1, 9, 2, 3, generator=generator)
    logits[..., 1] -= 4  # few above the threshold
    logits[..., 2] -= 40  # none
    given = GridOutputs(
        logits,
        torch.randn(1, 9, 2, generator=generator) + 2,
        torch.randn(1, 9, 2, 4, generator=generator),
        (3, 3),
        (96, 96),
        PRIORS,
    )

    def found(**chosen: object) -> set[tuple[float, ...]]:
        options = DetectionOptions(groups="class", candidates=candidates, score_threshold=0.1, **chosen)
        boxes = detected_boxes(given, [(96, 96)], options)[0]
        rows = zip(boxes.labels.tolist(), boxes.scores.tolist(), boxes.boxes.tolist(), strict=True)
        return {(label, round(score, 5), *(round(side, 3) for side in box)) for label, score, box in rows}

    whole = found()
    assert whole == found(labels=(0,)) | found(labels=(1,)) | found(labels=(2,))
    assert sum(row[0] == 0 for row in whole) > 0


def test_what_a_tree_does_not_allow_is_refused() -> None:
    given = words([0.8, 0.5], [[0.75, 0.25, 0.9, 0.1], [0.5, 0.5, 0.5, 0.5]])
    with pytest.raises(ArgumentError, match=r"specific must lie in 0\.\.1; got 2"):
        detected_boxes(given, [(32, 32)], DetectionOptions(specific=2))
    with pytest.raises(ArgumentError, match=r"labels must be classes, 0\.\.3; got \[9\]"):
        detected_boxes(given, [(32, 32)], DetectionOptions(labels=(1, 9)))
    with pytest.raises(ArgumentError, match="specific must be left out for a model whose classes are no tree"):
        detected_boxes(outputs([[0.9, 0.5]] * 4), [(50, 50)], DetectionOptions(specific=0.5))

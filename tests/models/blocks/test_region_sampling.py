"""Which regions are learnt from: a case worked out by hand, the true boxes, crowds, images without objects."""

from __future__ import annotations

import torch

from delineate.models.blocks.region_sampling import RegionSampling, sampled_regions

OBJECT = [10.0, 10, 30, 30]
NEAR = [10.0, 10, 30, 28]  # IoU 0.9
HALF = [10.0, 10, 30, 18]  # IoU 0.4
FAR = [50.0, 50, 60, 60]
ALL = RegionSampling(count=100, share=1)
TARGET = {"boxes": torch.tensor([OBJECT]), "labels": torch.tensor([1])}
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def rows(boxes: torch.Tensor, matches: torch.Tensor) -> set[tuple[float, ...]]:
    return {(*box, match) for box, match in zip(boxes.tolist(), matches.tolist(), strict=True)}


def test_regions_answer_for_what_they_overlap_and_true_boxes_are_among_them() -> None:
    (boxes,), matches = sampled_regions([torch.tensor([NEAR, HALF, FAR])], [TARGET], ALL, num_classes=2)
    assert rows(boxes, matches) == {(*NEAR, 0), (*OBJECT, 0), (*HALF, -1), (*FAR, -1)}
    strict = RegionSampling(count=100, share=1, least_negative=0.1)
    (boxes,), matches = sampled_regions([torch.tensor([NEAR, HALF, FAR])], [TARGET], strict, num_classes=2)
    assert rows(boxes, matches) == {(*NEAR, 0), (*OBJECT, 0), (*HALF, -1)}  # what overlaps nothing is not learnt


def test_rows_are_those_of_the_target_with_its_crowds() -> None:
    target = {
        "boxes": torch.tensor([[45.0, 45, 70, 70], OBJECT]),
        "labels": torch.tensor([0, 1]),
        "iscrowd": torch.tensor([True, False]),
    }
    (boxes,), matches = sampled_regions([torch.tensor([NEAR, FAR])], [target], ALL, num_classes=2)
    assert rows(boxes, matches) == {(*NEAR, 1), (*OBJECT, 1)}  # within a crowd nothing is background


def test_an_image_without_objects_gives_background_and_one_without_proposals_nothing() -> None:
    given = [torch.tensor([FAR]), torch.zeros(0, 4)]
    boxes, matches = sampled_regions(given, [NOTHING, NOTHING], ALL, num_classes=2)
    assert [one.tolist() for one in boxes] == [[FAR], []]
    assert matches.tolist() == [-1]


def test_as_many_as_asked_for() -> None:
    proposed = torch.tensor([NEAR] * 20 + [FAR] * 20)
    (boxes,), matches = sampled_regions([proposed], [TARGET], RegionSampling(count=8, share=0.25), num_classes=2)
    assert len(boxes) == 8
    assert int((matches == 0).sum()) == 2

"""Who answers for whom among slots: pairings against scipy's, shares of the input, crowds."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from delineate.errors import ArgumentError
from delineate.losses.slots import cheapest_pairs, slot_truths
from delineate.structures.outputs import SlotOutputs

NO_CROWDS = torch.zeros(0, 4)


@pytest.mark.parametrize(("slots", "truths"), [(1, 1), (1, 4), (4, 1), (5, 3), (3, 5), (12, 7)])
def test_pairs_cost_as_little_as_scipys(slots: int, truths: int) -> None:
    costs = torch.randn(slots, truths, generator=torch.Generator().manual_seed(slots * 10 + truths))
    pairs = cheapest_pairs(costs, torch.rand(slots, 4), NO_CROWDS)
    rows, columns = linear_sum_assignment(costs.numpy())
    assert sorted(zip(pairs.slots.tolist(), pairs.truths.tolist(), strict=True)) == list(
        zip(rows.tolist(), columns.tolist(), strict=True)
    )
    assert pairs.free.sum() == slots - min(slots, truths)
    assert not pairs.free[pairs.slots].any()


def test_without_objects_all_are_free() -> None:
    pairs = cheapest_pairs(torch.zeros(3, 0), torch.rand(3, 4), NO_CROWDS)
    assert len(pairs.slots) == len(pairs.truths) == 0
    assert pairs.free.all()


def test_a_box_that_lies_in_a_crowd_by_more_than_half_is_not_free() -> None:
    boxes = torch.tensor([[0.0, 0, 0.2, 0.2], [0.0, 0, 0.4, 0.2], [0.0, 0, 0.5, 0.2], [0.4, 0.0, 0.2, 0.2]])
    crowd = torch.tensor([[0.0, 0.0, 0.2, 1.0]])
    # all of it, exactly half, less than half, and one with swapped corners: it covers nothing
    assert cheapest_pairs(torch.zeros(4, 0), boxes, crowd).free.tolist() == [False, True, True, True]
    # one that answers for an object answers, wherever it lies
    costs = torch.tensor([[0.0], [1.0], [1.0], [1.0]])
    assert cheapest_pairs(costs, boxes, crowd).slots.tolist() == [0]


def test_a_network_that_diverged_is_paired_all_the_same() -> None:
    costs = torch.tensor([[float("nan"), float("inf")], [float("-inf"), 1.0]])
    pairs = cheapest_pairs(costs, torch.rand(2, 4), NO_CROWDS)
    assert sorted(pairs.truths.tolist()) == [0, 1]


def test_truths_are_shares_of_the_input_with_its_padding() -> None:
    outputs = SlotOutputs(torch.zeros(2, 1, 3), torch.zeros(2, 1, 1, 4), (64, 128))
    boxes = torch.tensor([[32.0, 16, 64, 64], [0, 0, 128, 32]])
    full = {"boxes": boxes, "labels": torch.tensor([2, 0]), "iscrowd": torch.tensor([False, True])}
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    first, second = slot_truths(outputs, [full, empty], num_classes=3)
    assert first.boxes.tolist() == [[0.25, 0.25, 0.5, 1.0]]
    assert first.labels.tolist() == [2]
    assert first.crowds.tolist() == [[0, 0, 1, 0.5]]
    assert second.boxes.shape == second.crowds.shape == (0, 4)
    with pytest.raises(ArgumentError, match="targets must be 2, one an image; got 1"):
        slot_truths(outputs, [full], num_classes=3)
    with pytest.raises(ArgumentError, match="labels must be object classes 0 to 1; got 2"):
        slot_truths(outputs, [full, empty], num_classes=2)

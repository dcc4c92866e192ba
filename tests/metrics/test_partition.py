from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from delineate.errors import ArgumentError
from delineate.metrics.partition import THRESHOLDS, cell_regions, cell_scores, partition_scores


def test_by_hand() -> None:
    # three pixels and one: shares 3/4 and 1/4; predicted halves: 2/4 and 2/4; together 2/4, 1/4, 1/4
    scores = partition_scores(np.array([[7, 7, 9, 9]]), np.array([[1, 1, 1, 2]]))
    pairs, joined, predicted = 4 + 1 + 1, 9 + 1, 4 + 4
    assert scores.rand_split == pytest.approx(pairs / joined)
    assert scores.rand_merge == pytest.approx(pairs / predicted)
    assert scores.rand == pytest.approx(2 * pairs / (joined + predicted))


def naive_rand(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """By counting pairs, each pixel with itself too, as shares of areas do."""
    pixels = [(a, b) for a, b in zip(prediction.flat, truth.flat, strict=True) if b != 0]
    both = own = other = len(pixels)
    for (a, b), (c, d) in combinations(pixels, 2):
        both += 2 * (a == c and b == d)
        own += 2 * (a == c)
        other += 2 * (b == d)
    return both / other, both / own


@pytest.mark.parametrize("seed", range(5))
def test_equals_counting_pairs_and_scikit_learns_mutual_information(seed: int) -> None:
    random = np.random.default_rng(seed)
    prediction, truth = random.integers(0, 4, (2, 6, 7))
    scores = partition_scores(prediction, truth)
    assert (scores.rand_split, scores.rand_merge) == pytest.approx(naive_rand(prediction, truth))
    inside = truth != 0
    found, true = prediction[inside], truth[inside]
    shared = mutual_info_score(found, true)
    entropies = mutual_info_score(found, found) + mutual_info_score(true, true)
    assert scores.information == pytest.approx(2 * shared / entropies)


def test_numbers_do_not_matter_only_who_is_together() -> None:
    truth = np.random.default_rng(0).integers(0, 5, (8, 9))
    scores = partition_scores(truth * 37 % 101, truth)
    assert (scores.rand, scores.information) == (pytest.approx(1), pytest.approx(1))


def test_what_is_no_region_does_not_count() -> None:
    truth = np.array([[1, 1, 0, 2, 2]])
    assert partition_scores(np.array([[4, 4, 4, 5, 5]]), truth).rand == 1
    assert partition_scores(np.array([[4, 4, 5, 5, 5]]), truth).rand == 1
    assert math.isnan(partition_scores(truth, np.zeros_like(truth)).rand)
    assert partition_scores(np.ones_like(truth), np.ones_like(truth)).information == 1


def test_cells_grow_until_they_meet() -> None:
    cells = np.zeros((5, 9), bool)
    cells[1:4, 1:3] = cells[1:4, 6:8] = True
    regions = cell_regions(cells)
    assert len(np.unique(regions)) == 2
    assert (regions[:, :4] == regions[1, 1]).all()
    assert (regions[:, 5:] == regions[1, 6]).all()
    assert not cell_regions(np.zeros((2, 3), bool)).any()


def test_a_gap_in_a_membrane_costs_much_here_and_little_pixel_by_pixel() -> None:
    truth = np.ones((20, 21), bool)
    truth[:, 10] = False
    probs = np.where(truth, 0.97, 0.03)
    assert [scores.rand for scores in cell_scores(probs, truth)] == pytest.approx([1.0] * len(THRESHOLDS))
    probs[9:11, 10] = 0.6  # two of 420 pixels
    scores = cell_scores(probs, truth)
    assert [round(own.rand, 3) for own in scores] == [0.667] * 6 + [1.0] * 4
    assert scores[0].rand_split == 1


def test_errors() -> None:
    with pytest.raises(ArgumentError, match=r"prediction must be of the truth's size \(1, 2\); got \(2, 2\)"):
        partition_scores(np.ones((2, 2), int), np.ones((1, 2), int))
    assert all(math.isnan(own.rand) for own in cell_scores(np.full((2, 2), 0.5), np.zeros((2, 2), bool)))

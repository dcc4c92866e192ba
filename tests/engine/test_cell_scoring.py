from __future__ import annotations

import math

import numpy as np
import pytest

from delineate.engine.cell_scoring import CellScoring
from delineate.errors import UnknownNameError
from delineate.structures.taxonomy import Taxonomy

TISSUE = Taxonomy(("membrane", "cell"))


def image(gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Two cells with a membrane between them; in its middle two pixels are cell with this probability."""
    target = np.ones((1, 20, 21), np.int64)
    target[:, :, 10] = 0
    cell = np.where(target == 1, 0.97, 0.03)
    cell[:, 9:11, 10] = gap
    return np.stack([1 - cell, cell], 1), target


def test_takes_the_threshold_that_is_best_for_all_images() -> None:
    scoring = CellScoring(TISSUE, "cell")
    scoring.update(*image(0.6))
    scoring.update(*image(0.03))
    found = scoring.compute()
    assert (found["class"], found["rand"], found["threshold"]) == ("cell", pytest.approx(1), 0.65)
    # at one half, two pixels of one image are wrong
    assert found["pixel_error"] == pytest.approx(2 / 840)


def test_is_the_mean_over_images() -> None:
    scoring = CellScoring(TISSUE, "cell")
    probs, target = (np.concatenate(pair) for pair in zip(image(0.99), image(0.03), strict=True))
    scoring.update(probs, target)
    found = scoring.compute()
    assert found["rand"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-3)
    assert found["rand_split"] == 1


def test_images_without_a_cell_and_ignored_pixels() -> None:
    scoring = CellScoring(TISSUE, "cell")
    probs, target = image(0.03)
    scoring.update(probs, np.zeros_like(target))
    assert math.isnan(scoring.compute()["rand"])
    assert math.isnan(CellScoring(TISSUE, "cell").compute()["pixel_error"])
    scoring.update(probs, np.where(target == 0, 255, target))
    assert scoring.compute()["rand"] == pytest.approx(1)
    assert scoring.compute()["pixel_error"] == pytest.approx(400 / 820)


def test_an_unknown_class() -> None:
    with pytest.raises(UnknownNameError, match=r"cells must be a known name; got 'cel'. Did you mean 'cell'"):
        CellScoring(TISSUE, "cel")

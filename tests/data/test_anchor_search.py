"""Priors of each number."""

from __future__ import annotations

import numpy as np
import pytest

from delineate.data.anchor_priors import mean_best_iou
from delineate.data.anchor_search import priors_by_count, priors_to_dict, recipe_lines
from delineate.errors import ArgumentError


def test_more_priors_fit_better():
    sizes = np.random.default_rng(0).uniform(0.5, 13, (200, 2))
    found = priors_by_count(sizes, 5)
    assert [len(priors.sizes) for priors in found] == [1, 2, 3, 4, 5]
    fits = [priors.mean_iou for priors in found]
    assert fits == sorted(fits)
    assert fits == pytest.approx([mean_best_iou(sizes, priors.sizes) for priors in found])


def test_no_more_priors_than_boxes():
    assert len(priors_by_count(np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 1.0]]), 9)) == 2


def test_nothing_to_cluster():
    with pytest.raises(ArgumentError, match="sizes must hold at least one box"):
        priors_by_count(np.zeros((0, 2)))
    with pytest.raises(ArgumentError, match="most must be at least 1"):
        priors_by_count(np.ones((1, 2)), 0)


def test_the_lines_are_a_recipe():
    import yaml

    (priors,) = priors_by_count(np.array([[1.0, 2.0], [1.0, 4.00004]]), 1)
    assert yaml.safe_load(recipe_lines(priors)) == {"model": {"priors": [[1.0, 3.0]]}}
    assert priors_to_dict(priors)["priors"] == [[1.0, 3.0]]

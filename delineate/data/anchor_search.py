"""How many priors a data set asks for: the best ones of each number, and the lines for a recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from delineate.checks import require
from delineate.data.anchor_priors import AnchorPriors, anchor_priors

_DIGITS = 4


def priors_by_count(sizes: Float64[np.ndarray, "N 2"], most: int = 9, *, seed: int = 0) -> tuple[AnchorPriors, ...]:
    """The priors of each number from 1 to ``most``, or to the number of different boxes.

    Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, figure 2 and table 1, which weigh the
    mean overlap against the number of priors in this way.

    Args:
        sizes: width and height of each box, as :func:`~delineate.data.anchor_priors.box_sizes` has them.
        most: the largest number.
        seed: as for :func:`~delineate.data.anchor_priors.anchor_priors`.

    Raises:
        ArgumentError: on sizes that are not positive, none at all, or ``most`` below 1.

    Example:
        >>> boxes = np.array([[10.0, 10.0], [12.0, 10.0], [100.0, 50.0], [100.0, 54.0]])
        >>> [round(priors.mean_iou, 3) for priors in priors_by_count(boxes, 3)]
        [0.198, 0.938, 0.981]
    """
    require(most >= 1, "most", "be at least 1", most)
    require(len(sizes) > 0, "sizes", "hold at least one box", "none", "Choose a split with objects.")
    different = len(np.unique(sizes, axis=0))
    return tuple(anchor_priors(sizes, count, seed=seed) for count in range(1, min(most, different) + 1))


def recipe_lines(priors: AnchorPriors) -> str:
    """The priors as a recipe has them, in the unit of their sizes.

    Example:
        >>> print(recipe_lines(AnchorPriors(np.array([[1.25, 2.0], [3.0, 4.5]]), np.array([0.25, 0.75]), 0.6, 8)))
        model:
          priors: [[1.25, 2.0], [3.0, 4.5]]
    """
    return f"model:\n  priors: {np.round(priors.sizes, _DIGITS).tolist()}"


def priors_to_dict(priors: AnchorPriors) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "count": len(priors.sizes),
        "mean_iou": priors.mean_iou,
        "priors": np.round(priors.sizes, _DIGITS).tolist(),
        "shares": priors.shares.tolist(),
    }

"""How well an image is cut into regions: the Rand and the information score of cells between membranes.

A pixel-wise score hardly notices a gap of two pixels in a membrane, and the gap makes one cell of two. These scores
count pairs of pixels that belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from delineate.checks import require
from delineate.kernels.distance_transform import distance_transform
from delineate.kernels.regions import connected_regions

THRESHOLDS = tuple(round(0.05 + 0.1 * step, 2) for step in range(10))


@dataclass(frozen=True)
class PartitionScores:
    """Of one image or of several together.

    Args:
        rand: the Rand F-score, harmonic mean of ``rand_merge`` and ``rand_split``; NaN where the truth has no region.
        rand_split: the share of truly joined pairs of pixels that the prediction joins.
        rand_merge: the share of pairs joined by the prediction that are truly joined.
        information: the information-theoretic F-score.
    """

    rand: float
    rand_split: float
    rand_merge: float
    information: float


def partition_scores(prediction: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "H W"]) -> PartitionScores:
    """Scores of two cuttings of one image into numbered regions, on the pixels where the truth has one.

    Source: Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for connectomics",
        Frontiers in Neuroanatomy 2015: foreground-restricted Rand and information F-scores, with equal weights.

    Args:
        prediction: a number for each region; here 0 is a region like any other.
        truth: a number for each region; 0 where none is, and nothing counts.

    Returns:
        Scores from 0 to 1, 1 for equal cuttings however they are numbered; NaN when the truth has no region.

    Raises:
        ArgumentError: when the sizes differ.

    Example:
        >>> truth = np.array([[1, 1, 0, 2, 2]])
        >>> scores = partition_scores(np.array([[1, 1, 1, 1, 1]]), truth)
        >>> scores.rand_split, scores.rand_merge, round(scores.rand, 4)
        (1.0, 0.5, 0.6667)
    """
    require(prediction.shape == truth.shape, "prediction", f"be of the truth's size {truth.shape}", prediction.shape)
    counted = truth != 0
    if not counted.any():
        return PartitionScores(*[float("nan")] * 4)
    _, found = np.unique(prediction[counted], return_inverse=True)
    _, true = np.unique(truth[counted], return_inverse=True)
    total = float(found.size)
    _, joint = np.unique(found.astype(np.int64) * (int(true.max()) + 1) + true, return_counts=True)
    both, own, other = (counts / total for counts in (joint, np.bincount(found), np.bincount(true)))
    pairs, predicted, joined = (float((share**2).sum()) for share in (both, own, other))
    return PartitionScores(
        rand=2 * pairs / (predicted + joined),
        rand_split=pairs / joined,
        rand_merge=pairs / predicted,
        information=_information(both, own, other),
    )


def _information(both: np.ndarray, own: np.ndarray, other: np.ndarray) -> float:
    entropies = [-float((share * np.log(share)).sum()) for share in (both, own, other)]
    if entropies[1] + entropies[2] <= 1e-12:  # one region on both sides
        return 1.0
    return 2 * (entropies[1] + entropies[2] - entropies[0]) / (entropies[1] + entropies[2])


def cell_regions(cells: Bool[np.ndarray, "H W"]) -> Integer[np.ndarray, "H W"]:
    """Numbered cells that fill the image: connected regions of ``cells``, grown until they meet.

    Membranes as thin as can be make the score one of which cells there are, not of how thick the walls between them
    were drawn. Pixels that touch at a corner only are not connected.

    Args:
        cells: where a cell is.

    Returns:
        A number above 0 for each; 0 everywhere when there is no cell.

    Example:
        >>> cell_regions(np.array([[True, False, False, False, True]])).tolist()
        [[1, 1, 1, 3, 3]]
    """
    if not cells.any():
        return np.zeros(cells.shape, np.int64)
    _, (rows, columns) = distance_transform(cells)
    grown: np.ndarray = _numbered(cells)[rows, columns]
    return grown


def _numbered(cells: np.ndarray) -> np.ndarray:
    """Connected regions by numbers above 0, and 0 elsewhere."""
    regions, _ = connected_regions(cells.astype(np.int64), connectivity=4)
    return np.where(cells, regions.astype(np.int64) + 1, 0)


def cell_scores(
    probs: Float[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[PartitionScores]:
    """:func:`partition_scores` of cells cut out of a probability map, at each threshold.

    Source: the ISBI 2012 challenge: the Rand score of a probability map after thinning borders, best of ten thresholds.
    Differs: predicted cells are grown until they meet, by distance, where the challenge thins by a watershed.

    Args:
        probs: of being inside a cell.
        truth: where a true cell is; its connected regions are the true cells, membranes do not count.
        thresholds: a pixel is inside where its probability is above.

    Returns:
        One a threshold; NaN where the truth has no cell.
    """
    true_cells = _numbered(truth)
    return [partition_scores(cell_regions(probs > threshold), true_cells) for threshold in thresholds]

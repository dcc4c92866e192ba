"""How well an evaluated split is cut into cells: the figures of electron microscopy's challenges."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
from jaxtyping import Float, Integer

from delineate.kernels.threads import run_pieces
from delineate.metrics.partition import THRESHOLDS, PartitionScores, cell_scores
from delineate.registry import unknown_name
from delineate.structures.taxonomy import Taxonomy


class CellScoring:
    """Gathers the cuttings of all images at ten thresholds, and answers with the best threshold.

    Args:
        taxonomy: of the predictions.
        cells: the class whose connected regions are cells; every other class is membrane.

    Raises:
        UnknownNameError: when there is no such class; says the nearest.
    """

    def __init__(self, taxonomy: Taxonomy, cells: str) -> None:
        if cells not in taxonomy.names:
            raise unknown_name("cells", cells, taxonomy.names)
        self.name = cells
        self.label = taxonomy.names.index(cells)
        self.ignore_index = taxonomy.ignore_index
        self.images: list[list[PartitionScores]] = []
        self.wrong = self.counted = 0

    def update(self, probs: Float[np.ndarray, "B K H W"], target: Integer[np.ndarray, "B H W"]) -> None:
        """Score the images of one batch; pixels without a label count in no cell."""
        own = probs[:, self.label]
        counted = target != self.ignore_index
        self.wrong += int(((probs.argmax(1) != target) & counted).sum())
        self.counted += int(counted.sum())
        pairs = list(zip(own, target == self.label, strict=True))
        self.images += run_pieces(lambda pair: cell_scores(*pair), pairs)

    def compute(self) -> dict[str, float | str]:
        """The means over images at the threshold with the best Rand score, and the share of wrong pixels.

        Returns:
            "class", "rand", "rand_split", "rand_merge", "information", "threshold" and "pixel_error"; NaN when no image
            has a cell.
        """
        known = [image for image in self.images if not math.isnan(image[0].rand)]
        places = range(len(THRESHOLDS))
        best = max(places, key=lambda place: fmean(image[place].rand for image in known)) if known else 0
        names = ("rand", "rand_split", "rand_merge", "information")
        means = {name: fmean(getattr(image[best], name) for image in known) if known else math.nan for name in names}
        return {
            "class": self.name,
            **means,
            "threshold": THRESHOLDS[best] if known else math.nan,
            "pixel_error": self.wrong / self.counted if self.counted else math.nan,
        }

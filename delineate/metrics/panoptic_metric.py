"""Panoptic quality over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from delineate.metrics.panoptic import PanopticCounts, panoptic_counts, panoptic_scores, require_classes
from delineate.metrics.score_metric import ScoreMetric
from delineate.structures.panoptic import PanopticMap


class PanopticScores(ScoreMetric):
    """Panoptic quality over a whole data set, in the manner of torchmetrics.

    Counts add up, so the result does not depend on how images are spread over processes.

    Args:
        class_names: one a class, in label order.
        things: which classes are things.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Raises:
        ArgumentError: on no class, a name that repeats, or another number of flags.

    Example:
        >>> import numpy as np
        >>> from delineate.structures.panoptic import PanopticSegments
        >>> image = PanopticMap(np.array([[0, 5, 5, 6]]), PanopticSegments.of(ids=[5, 6], labels=[0, 1]))
        >>> scores = PanopticScores(("cell", "ground"), (True, False))
        >>> scores.update(image, image)
        >>> scores.compute()["all"]["pq"]
        1.0
    """

    iou_sum: Tensor
    tp: Tensor
    fp: Tensor
    fn: Tensor
    images: Tensor

    def __init__(self, class_names: Sequence[str], things: Sequence[bool], **options: Any) -> None:
        super().__init__(tuple(class_names), tuple(things), **options)
        require_classes(class_names, things)
        self.class_names = tuple(class_names)
        self.things = tuple(bool(thing) for thing in things)
        self.num_classes = num_classes = len(self.class_names)
        self.add_state("iou_sum", torch.zeros(num_classes, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("tp", "fp", "fn"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: PanopticMap, target: PanopticMap) -> None:
        """Count one image; see :func:`panoptic_counts`.

        Raises:
            ArgumentError: on maps of different sizes or a label that is no class.
        """
        counts = panoptic_counts(prediction, target, num_classes=self.num_classes)
        for name in ("iou_sum", "tp", "fp", "fn"):
            state = getattr(self, name)
            # not in place: a state that was reset under inference_mode may not be changed outside it
            setattr(self, name, state + torch.from_numpy(getattr(counts, name)).to(state.device))
        self.images = self.images + 1

    def compute(self) -> dict[str, Any]:
        """:func:`panoptic_scores` of everything counted."""
        counts = PanopticCounts(*(getattr(self, name).cpu().numpy() for name in ("iou_sum", "tp", "fp", "fn")))
        return panoptic_scores(counts, class_names=self.class_names, things=self.things, images=int(self.images))

"""Pascal VOC's average precision over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from delineate.checks import require
from delineate.metrics.batch_objects import batch_columns
from delineate.metrics.ranking_metric import RankedOutcomes
from delineate.metrics.voc import checked_thresholds, match_columns


class VocScores(RankedOutcomes):
    """Pascal VOC's average precision over a whole data set, in the manner of torchmetrics.

    Args:
        class_names: one name a class, in label order.
        iou_thresholds: as in :func:`~delineate.metrics.voc.voc_scores`.
        inclusive_pixels: as in :func:`~delineate.metrics.voc.voc_scores`.
        curves: as in :func:`~delineate.metrics.voc.voc_scores`.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
        >>> import torch
        >>> scores = VocScores(("cat",))
        >>> boxes = torch.tensor([[0., 0., 9., 9.]])
        >>> found = {"boxes": boxes, "labels": torch.tensor([0]), "scores": torch.tensor([0.7])}
        >>> scores.update([found], [{"boxes": boxes, "labels": torch.tensor([0])}])
        >>> scores.compute()["map"]
        1.0
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        iou_thresholds: Sequence[float | int] = (0.5,),
        inclusive_pixels: bool = True,
        curves: bool = False,
        **options: Any,
    ) -> None:
        thresholds = checked_thresholds(iou_thresholds)
        super().__init__(class_names, inclusive_pixels, thresholds=thresholds, curves=curves, **options)
        self.inclusive_pixels = inclusive_pixels

    def update(self, predictions: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Match the detections of a batch.

        Args:
            predictions: for each image ``boxes`` (N, 4) xyxy, ``labels`` (N,) and ``scores`` (N,).
            targets: for each image ``boxes`` and ``labels``; ``difficult``, ``ignored`` or ``iscrowd`` (N,) where there
                are such.

        Raises:
            ArgumentError: on lists or columns of different lengths, labels outside the classes, or numbers that are
                not finite.
        """
        classes = len(self.class_names)
        images = len(targets)
        require(len(predictions) == images, "predictions", f"be of {images} images, as targets", len(predictions))
        found = batch_columns(predictions, "predictions", classes)
        truth = batch_columns(targets, "targets", classes)
        assert found.scores is not None
        assert truth.difficult is not None
        outcomes = match_columns(found, truth, self.thresholds, self.inclusive_pixels)
        self.keep(found.labels, found.scores, outcomes, np.bincount(truth.labels[~truth.difficult], minlength=classes))

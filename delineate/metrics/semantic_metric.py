"""Scores of label maps over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from delineate.checks import require
from delineate.kernels.confusion import confusion_counts
from delineate.kernels.threads import run_pieces
from delineate.metrics.averages import defined_mean, share
from delineate.metrics.boundary import boundary_f1
from delineate.metrics.score_metric import ScoreMetric
from delineate.metrics.semantic import semantic_scores
from delineate.ops.confusion import host_labels


class SemanticScores(ScoreMetric):
    """Scores of predicted label maps over a whole data set, in the manner of torchmetrics.

    Counts add up, so the result does not depend on how images are grouped into batches or spread over processes.

    Args:
        class_names: one name a class, in label order, the background included where there is one.
        ignore_index: target label that does not count.
        boundary: also score the boundaries (:func:`~delineate.metrics.boundary.boundary_f1`), which costs more.
        boundary_tolerance: in pixels; 0.75 % of each image's diagonal when None.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
        >>> scores = SemanticScores(("road", "tree"))
        >>> scores.update(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 1, 255]]]))
        >>> scores.compute()["miou"]
        1.0
    """

    confusion: Tensor
    missed: Tensor
    boundary_sum: Tensor
    boundary_images: Tensor

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        ignore_index: int = 255,
        boundary: bool = False,
        boundary_tolerance: float | int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(tuple(class_names), ignore_index, boundary, boundary_tolerance, **options)
        self.class_names = tuple(class_names)
        self.num_classes = num_classes = len(self.class_names)
        require(num_classes > 0, "class_names", "name at least one class", "none")
        self.ignore_index = ignore_index
        self.boundary = boundary
        self.boundary_tolerance = boundary_tolerance
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("missed", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        if boundary:
            self.add_state("boundary_sum", torch.zeros(num_classes, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state("boundary_images", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Integer[Tensor, "B H W"], target: Integer[Tensor, "B H W"]) -> None:
        """Count a batch.

        Args:
            prediction: labels, not logits; any integer type, any device.
            target: true labels; outside the classes, or ``ignore_index``: not counted.

        Raises:
            ArgumentError: on shapes that differ or labels that are not integers.
        """
        predicted, truth = host_labels(prediction, target, num_classes=self.num_classes, ignore_index=self.ignore_index)
        counts, missed = confusion_counts(truth, predicted, self.num_classes, self.ignore_index)
        # not in place: a state that was reset under inference_mode may not be changed outside it
        self.confusion = self.confusion + torch.from_numpy(counts).to(self.confusion.device)
        self.missed = self.missed + torch.from_numpy(missed).to(self.missed.device)
        if self.boundary and len(truth):
            scores = np.stack(
                run_pieces(
                    lambda i: boundary_f1(
                        predicted[i],
                        truth[i],
                        num_classes=self.num_classes,
                        ignore_index=self.ignore_index,
                        tolerance=self.boundary_tolerance,
                    ),
                    range(len(truth)),
                )
            )
            device = self.boundary_sum.device
            self.boundary_sum = self.boundary_sum + torch.from_numpy(np.nansum(scores, axis=0)).to(device)
            defined = (~np.isnan(scores)).sum(axis=0)
            self.boundary_images = self.boundary_images + torch.from_numpy(defined).to(device)

    def compute(self) -> dict[str, Any]:
        """:func:`semantic_scores` of everything counted.

        With ``boundary`` also ``boundary_f1``, the mean over classes, and the same key for each class.
        """
        scores = semantic_scores(self.confusion.cpu(), class_names=self.class_names, missed=self.missed.cpu())
        if self.boundary:
            per_class = share(self.boundary_sum.cpu().numpy(), self.boundary_images.cpu().numpy())
            scores["boundary_f1"] = defined_mean(per_class)
            for values, score in zip(scores["per_class"].values(), per_class, strict=True):
                values["boundary_f1"] = float(score)
        return scores

"""The confusion matrix of detections over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from delineate.checks import require
from delineate.metrics.batch_objects import batch_objects
from delineate.metrics.confusion import detection_confusion, require_threshold
from delineate.metrics.score_metric import ScoreMetric
from delineate.structures.annotations import Annotations


class DetectionConfusion(ScoreMetric):
    """The confusion matrix of detected boxes over a whole data set, in the manner of torchmetrics.

    Counts add up, so the result does not depend on how images are grouped into batches or spread over processes.

    Args:
        class_names: one name a class, in label order, without the background.
        iou_threshold: least overlap, above 0.
        score_threshold: least score; detections below it are left out.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
        >>> confusion = DetectionConfusion(("cat", "dog"))
        >>> box, label = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([1])
        >>> confusion.update(
        ...     [{"boxes": box, "labels": label, "scores": torch.tensor([0.9])}], [{"boxes": box, "labels": label}]
        ... )
        >>> confusion.compute().tolist()
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """

    higher_is_better = None

    confusion: Tensor

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        iou_threshold: float | int = 0.5,
        score_threshold: float | int = 0.25,
        **options: Any,
    ) -> None:
        super().__init__(tuple(class_names), iou_threshold, score_threshold, **options)
        self.class_names = tuple(class_names)
        require(len(self.class_names) > 0, "class_names", "name at least one class", "none")
        require_threshold(iou_threshold)
        self.iou_threshold, self.score_threshold = iou_threshold, score_threshold
        size = len(self.class_names) + 1
        self.add_state("confusion", torch.zeros(size, size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Count a batch.

        Args:
            predictions: for each image ``boxes`` (N, 4) xyxy, ``labels`` (N,) and ``scores`` (N,), as in torchvision.
            targets: for each image ``boxes`` and ``labels``; ``iscrowd``, ``difficult`` or ``ignored`` (N,) where there
                are such.

        Raises:
            ArgumentError: on lists or columns of different lengths, labels outside the classes, or numbers that are
                not finite.
        """
        images = len(targets)
        require(len(predictions) == images, "predictions", f"be of {images} images, as targets", len(predictions))
        found = batch_objects(predictions, "predictions", len(self.class_names))
        true = batch_objects(targets, "targets", len(self.class_names))
        counts = detection_confusion(
            Annotations.of(range(images), self.class_names, true),
            found,
            iou_threshold=self.iou_threshold,
            score_threshold=self.score_threshold,
        )
        # not in place: a state that was reset under inference_mode may not be changed outside it
        self.confusion = self.confusion + torch.from_numpy(counts).to(self.confusion.device)

    def compute(self) -> Int64[Tensor, "K1 K1"]:
        """The matrix: rows the truth, columns the detections, the background last."""
        return self.confusion

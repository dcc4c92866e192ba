"""Pascal VOC's average precision over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delineate.checks import require
from delineate.metrics.ranking_metric import RankedOutcomes
from delineate.metrics.voc import BoxColumns, checked_thresholds, match_columns


class VocScores(RankedOutcomes):
    """Pascal VOC's average precision over a whole data set, in the manner of torchmetrics.

    Args:
        class_names: one name a class, in label order.
        iou_thresholds: as in :func:`~delineate.metrics.voc.voc_scores`.
        inclusive_pixels: as in :func:`~delineate.metrics.voc.voc_scores`.
        curves: as in :func:`~delineate.metrics.voc.voc_scores`.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
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
        super().__init__(class_names, thresholds=checked_thresholds(iou_thresholds), curves=curves, **options)
        self.inclusive_pixels = inclusive_pixels

    def update(self, predictions: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Match the detections of a batch.

        Args:
            predictions: for each image ``boxes`` (N, 4) xyxy, ``labels`` (N,) and ``scores`` (N,).
            targets: for each image ``boxes`` and ``labels``; ``difficult`` or ``iscrowd`` (N,) where there are such.

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


def batch_columns(batch: Sequence[Mapping[str, Tensor]], argument: str, num_classes: int | None) -> BoxColumns:
    """The columns of torchvision's dictionaries, one an image.

    Args:
        batch: as :meth:`VocScores.update` takes them.
        argument: "predictions" or "targets".
        num_classes: labels lie below it; None to take any.

    Raises:
        ArgumentError: on columns that are missing, of different lengths, outside the classes or not finite.
    """
    predicted = argument == "predictions"
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("images", "labels", "boxes", "scores", "difficult")}
    for i, image in enumerate(batch):
        place = f"{argument}[{i}]"
        for name in ("boxes", "labels", "scores") if predicted else ("boxes", "labels"):
            require(name in image, place, f"have {name}", f"keys {sorted(image)}")
        count = len(image["labels"])
        boxes = image["boxes"].detach().to("cpu", torch.float64).numpy()
        require(boxes.shape == (count, 4), f"{place}['boxes']", f"be ({count}, 4) xyxy pixels", boxes.shape)
        scores = image["scores"].detach().to("cpu", torch.float64).numpy() if predicted else np.zeros(count)
        difficult = np.zeros(count, bool)
        for name in ("difficult", "iscrowd"):
            if not predicted and name in image:
                flags = image[name].cpu().numpy().astype(bool)
                require(flags.shape == (count,), f"{place}['{name}']", f"be ({count},)", flags.shape)
                difficult |= flags
        require(scores.shape == (count,), f"{place}['scores']", f"be ({count},)", scores.shape)
        finite = bool(np.isfinite(boxes).all()) and bool(np.isfinite(scores).all())
        require(finite, place, "hold finite boxes and scores", "NaN or infinity")
        labels = image["labels"].cpu().numpy().astype(np.int64)
        outside = labels[(labels < 0) | (labels >= (np.inf if num_classes is None else num_classes))]
        allowed = "at least 0" if num_classes is None else f"0 to {num_classes - 1}"
        require(len(outside) == 0, f"{place}['labels']", f"be {allowed}", outside[:3].tolist())
        columns = (np.full(count, i, np.int64), labels, boxes, scores, difficult)
        for name, column in zip(parts, columns, strict=True):
            parts[name].append(column)
    empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool))
    images, labels, boxes, scores, difficult = (
        np.concatenate([none, *parts[name]]) for name, none in zip(parts, empty, strict=True)
    )
    return BoxColumns(images, labels, boxes, scores if predicted else None, None if predicted else difficult)

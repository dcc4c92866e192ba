"""Scores of label maps from a confusion matrix: accuracy, IoU, Dice, precision and recall.

The definitions are those of FCN's ``score.py``, which the field's tables use:

* rows are the target, columns the prediction; pixels without a target are in no cell;
* a class that neither the target nor the prediction contains is undefined: NaN, and left out of means;
* a class that only the prediction contains has an IoU, a Dice and a precision of 0, which count in the means, and no
  recall (NaN);
* a class that only the target contains has an IoU, a Dice and a recall of 0, and no precision (NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor
from torchmetrics import Metric

from delineate.checks import require
from delineate.kernels.confusion import confusion_counts
from delineate.kernels.threads import run_pieces
from delineate.metrics.boundary import boundary_f1
from delineate.ops.confusion import host_labels


def semantic_scores(
    confusion: Integer[np.ndarray, "K K"] | Integer[Tensor, "K K"], *, class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Every score that a confusion matrix holds.

    Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 5;
    names as in Garcia-Garcia et al., "A Review on Deep Learning Techniques Applied to Semantic Segmentation", 2017.
    Differs: nothing.

    Args:
        confusion: pixel counts, rows the target and columns the prediction.
        class_names: one name a class; "class 0" and so on when left out.

    Returns:
        ``pixel_accuracy``; ``mean_accuracy``, the mean recall; ``miou``; ``fwiou``, the IoU weighted by the target's
        pixels; ``mean_dice``; ``per_class``: for each name ``iou``, ``dice``, ``precision``, ``recall``, and the
        ``pixels`` of the target and ``predicted``; ``confusion`` as nested lists. Fractions of 1; undefined values are
        NaN and left out of means; all are NaN for an empty matrix.

    Raises:
        ArgumentError: when the matrix is not square or negative, or the number of names differs from its size.

    Example:
        >>> scores = semantic_scores(np.array([[3, 1], [2, 4]]))
        >>> round(scores["miou"], 6), round(scores["fwiou"], 6)
        (0.535714, 0.542857)
    """
    matrix = np.asarray(confusion.cpu() if isinstance(confusion, Tensor) else confusion)
    require(matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] > 0, "confusion", "be square (K, K)", matrix.shape)
    require(bool((matrix >= 0).all()), "confusion", "hold counts of at least 0", int(matrix.min()))
    names = tuple(class_names) if class_names is not None else tuple(f"class {k}" for k in range(len(matrix)))
    require(len(names) == len(matrix), "class_names", f"name the {len(matrix)} classes of confusion", len(names))

    correct, target, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    iou = _ratio(correct, target + predicted - correct)
    dice = _ratio(2 * correct, target + predicted)
    precision, recall = _ratio(correct, predicted), _ratio(correct, target)
    total = int(target.sum())
    present = target > 0
    return {
        "pixel_accuracy": float(correct.sum() / total) if total else float("nan"),
        "mean_accuracy": _mean(recall),
        "miou": _mean(iou),
        "fwiou": float((target[present] * iou[present]).sum() / total) if total else float("nan"),
        "mean_dice": _mean(dice),
        "per_class": {
            name: {
                "iou": float(iou[k]),
                "dice": float(dice[k]),
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "pixels": int(target[k]),
                "predicted": int(predicted[k]),
            }
            for k, name in enumerate(names)
        },
        "confusion": matrix.tolist(),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    """The mean of the values that are defined, NaN when none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


class SemanticScores(Metric):
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

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor
    invalid: Tensor
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
        super().__init__(**options)
        self.class_names = tuple(class_names)
        self.num_classes = num_classes = len(self.class_names)
        require(num_classes > 0, "class_names", "name at least one class", "none")
        self.ignore_index = ignore_index
        self.boundary = boundary
        self.boundary_tolerance = boundary_tolerance
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("invalid", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
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
        counts, invalid = confusion_counts(truth, predicted, self.num_classes, self.ignore_index)
        # not in place: a state that was reset under inference_mode may not be changed outside it
        self.confusion = self.confusion + torch.from_numpy(counts).to(self.confusion.device)
        self.invalid = self.invalid + invalid
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
        """:func:`semantic_scores` of everything counted, and ``invalid_predictions``.

        ``invalid_predictions`` are pixels with a target whose prediction is no class: they are in no other number, so
        anything but 0 means that the scores flatter the prediction. With ``boundary``: ``boundary_f1``, the mean over
        classes, and the same key for each class.
        """
        scores = semantic_scores(self.confusion, class_names=self.class_names)
        scores["invalid_predictions"] = int(self.invalid)
        if self.boundary:
            per_class = _ratio(self.boundary_sum.cpu().numpy(), self.boundary_images.cpu().numpy())
            scores["boundary_f1"] = _mean(per_class)
            for values, score in zip(scores["per_class"].values(), per_class, strict=True):
                values["boundary_f1"] = float(score)
        return scores

"""Scores of label maps from a confusion matrix: accuracy, IoU, Dice, precision and recall.

The definitions are those of FCN's ``score.py``, which the field's tables use:

* rows are the target, columns the prediction; pixels without a target are in no cell;
* a class that neither the target nor the prediction contains is undefined: NaN, and left out of means;
* a class that only the prediction contains has an IoU, a Dice and a precision of 0, which count in the means, and no
  recall (NaN);
* a class that only the target contains has an IoU, a Dice and a recall of 0, and no precision (NaN).

A pixel with a target whose prediction is no class (the ignored label, say) is a miss of its class, as in Cityscapes'
evaluation; ``score.py`` has no such pixels. Leaving it out would reward looking away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from delineate.checks import require
from delineate.metrics.averages import defined_mean, share


def semantic_scores(
    confusion: ArrayLike, *, class_names: Sequence[str] | None = None, missed: ArrayLike | None = None
) -> dict[str, Any]:
    """Every score that a confusion matrix holds.

    Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 5;
    names as in Garcia-Garcia et al., "A Review on Deep Learning Techniques Applied to Semantic Segmentation", 2017.
    Differs: nothing.

    Args:
        confusion: pixel counts ``(K, K)``, rows the target and columns the prediction.
        class_names: one name a class; "class 0" and so on when left out.
        missed: ``(K,)`` pixels of each target class whose prediction is no class; none when left out.

    Returns:
        ``pixel_accuracy``; ``mean_accuracy``, the mean recall; ``miou``; ``fwiou``, the IoU weighted by the target's
        pixels; ``mean_dice``; ``per_class``: for each name ``iou``, ``dice``, ``precision``, ``recall``, and the
        ``pixels`` of the target and ``predicted``; ``confusion`` as nested lists; ``invalid_predictions``, the sum of
        ``missed``. Fractions of 1; undefined values are NaN and left out of means; all are NaN for an empty matrix.

    Raises:
        ArgumentError: when the matrix is not square or negative, or the number of names or of ``missed`` differs from
            its size.

    Example:
        >>> scores = semantic_scores(np.array([[3, 1], [2, 4]]))
        >>> round(scores["miou"], 6), round(scores["fwiou"], 6)
        (0.535714, 0.542857)
    """
    matrix = np.asarray(confusion)
    require(matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] > 0, "confusion", "be square (K, K)", matrix.shape)
    require(bool((matrix >= 0).all()), "confusion", "hold counts of at least 0", int(matrix.min()))
    names = tuple(class_names) if class_names is not None else tuple(f"class {k}" for k in range(len(matrix)))
    require(len(names) == len(matrix), "class_names", f"name the {len(matrix)} classes of confusion", len(names))

    no_class = np.zeros(len(matrix), np.int64) if missed is None else np.asarray(missed)
    require(no_class.shape == (len(matrix),), "missed", f"hold {len(matrix)} counts, one a class", no_class.shape)
    correct, target, predicted = np.diag(matrix), matrix.sum(axis=1) + no_class, matrix.sum(axis=0)
    iou = share(correct, target + predicted - correct)
    dice = share(2 * correct, target + predicted)
    precision, recall = share(correct, predicted), share(correct, target)
    total = int(target.sum())
    present = target > 0
    return {
        "pixel_accuracy": float(correct.sum() / total) if total else float("nan"),
        "mean_accuracy": defined_mean(recall),
        "miou": defined_mean(iou),
        "fwiou": float((target[present] * iou[present]).sum() / total) if total else float("nan"),
        "mean_dice": defined_mean(dice),
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
        "invalid_predictions": int(no_class.sum()),
    }

"""Confusion matrices of label tensors."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from delineate.checks import require
from delineate.kernels.confusion import confusion_counts


def confusion_matrix(
    prediction: Integer[Tensor, "*S"], target: Integer[Tensor, "*S"], *, num_classes: int, ignore_index: int = 255
) -> Int64[Tensor, "K K"]:
    """How many pixels of each true class (rows) were given each class (columns).

    Args:
        prediction: labels, of any shape, integer type and device; outside the classes: in no cell.
        target: true labels; outside the classes, or ``ignore_index``: not counted.
        num_classes: rows and columns of the result.
        ignore_index: the target label that does not count.

    Returns:
        int64, in host memory; zeros for empty or all-ignored input.

    Raises:
        ArgumentError: on shapes that differ or labels that are not integers.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 255]), num_classes=2).tolist()
        [[1, 1], [0, 0]]
    """
    predicted, truth = host_labels(prediction, target, num_classes=num_classes, ignore_index=ignore_index)
    return torch.from_numpy(confusion_counts(truth, predicted, num_classes, ignore_index)[0])


def host_labels(
    prediction: Integer[Tensor, "*S"], target: Integer[Tensor, "*S"], *, num_classes: int, ignore_index: int
) -> tuple[Integer[np.ndarray, "*S"], Integer[np.ndarray, "*S"]]:
    """Both label maps in host memory, checked; narrowed to bytes first where they have to cross from a device."""
    advice = "Pass logits.argmax(dim=1) rather than logits." if prediction.ndim == target.ndim + 1 else ""
    shape = tuple(target.shape)
    require(
        prediction.shape == shape,
        "prediction",
        f"be labels of the target's shape {shape}",
        tuple(prediction.shape),
        advice,
    )
    arrays = []
    for name, labels in (("prediction", prediction), ("target", target)):
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        require(whole, name, "hold integer labels", labels.dtype)
        labels = labels.detach()
        if labels.device.type != "cpu" and num_classes <= 255 and labels.dtype != torch.uint8:
            outside = (labels < 0) | (labels >= num_classes)
            if name == "target":
                outside |= labels == ignore_index
            labels = labels.masked_fill(outside, 255).to(torch.uint8)
        arrays.append(labels.cpu().numpy())
    return arrays[0], arrays[1]

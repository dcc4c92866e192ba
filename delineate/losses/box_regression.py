"""Losses of predicted boxes against the true ones they answer for, value by value or box by box.

Sums and divisors belong to the detector's loss: it knows what it counts, and takes the count's mean over processes.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from delineate.checks import require
from delineate.losses.precision import full_precision
from delineate.losses.supervision import Number
from delineate.ops.boxes import BoxPairs


def smooth_l1(
    predictions: Float[Tensor, "*N"], targets: Float[Tensor, "*N"], *, beta: Number = 1.0
) -> Float[Tensor, "*N"]:
    """``d^2 / (2 beta)`` where the difference is below ``beta``, ``d - beta / 2`` beyond.

    Source: Girshick, "Fast R-CNN", ICCV 2015, equation 3 (beta 1). py-faster-rcnn writes sigma: beta = 1 / sigma^2, so
    that the region proposals' sigma 3 is beta 1/9.
    Differs: nothing; computed in float32 whatever the predictions' type.

    Args:
        predictions: encoded boxes.
        targets: encoded true boxes.
        beta: where the square ends; 0 gives the absolute difference.

    Raises:
        ArgumentError: when ``beta`` is negative.

    Example:
        >>> import torch
        >>> smooth_l1(torch.tensor([0.5, 3.]), torch.zeros(2)).tolist()
        [0.125, 2.5]
    """
    require(beta >= 0, "beta", "be 0 or more", beta)
    return functional.smooth_l1_loss(full_precision(predictions), full_precision(targets), reduction="none", beta=beta)


def iou_loss(predictions: Float[Tensor, "N 4"], targets: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """One minus the IoU of each predicted box with its true one.

    Source: Yu et al., "UnitBox: An Advanced Object Detection Network", ACM Multimedia 2016.
    Differs: UnitBox takes the negative logarithm, which has no bound where boxes do not meet; this form is Rezatofighi
    et al.'s, CVPR 2019. Boxes that do not meet have a gradient of 0: train with one of the forms below.

    Args:
        predictions: xyxy pixels; a box whose corners are swapped is empty. Gradients are finite for any finite boxes.
        targets: xyxy pixels.

    Returns:
        0 to 1 for each box, float32 for half precision.

    Example:
        >>> import torch
        >>> iou_loss(torch.tensor([[0., 0., 2., 2.]]), torch.tensor([[1., 0., 3., 2.]])).tolist()
        [0.666666...]
    """
    return 1 - _pairs(predictions, targets).iou


def generalised_iou_loss(predictions: Float[Tensor, "N 4"], targets: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """One minus the generalised IoU of each predicted box with its true one.

    Source: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, algorithm 2.
    Differs: boxes without area, as :func:`~delineate.ops.boxes.generalised_box_iou`.

    Args:
        predictions: xyxy pixels; a box whose corners are swapped is empty. Gradients are finite for any finite boxes.
        targets: xyxy pixels.

    Returns:
        0 to 2 for each box, float32 for half precision.

    Example:
        >>> import torch
        >>> generalised_iou_loss(torch.tensor([[0., 0., 1., 1.]]), torch.tensor([[3., 0., 4., 1.]])).tolist()
        [1.5]
    """
    return 1 - _pairs(predictions, targets).generalised()


def distance_iou_loss(predictions: Float[Tensor, "N 4"], targets: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """One minus the distance IoU of each predicted box with its true one.

    Source: Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020, eq. 7.
    Differs: boxes without area, as :func:`~delineate.ops.boxes.distance_box_iou`.

    Args:
        predictions: xyxy pixels; a box whose corners are swapped is empty. Gradients are finite for any finite boxes.
        targets: xyxy pixels.

    Returns:
        0 to 2 for each box, float32 for half precision.

    Example:
        >>> import torch
        >>> distance_iou_loss(torch.tensor([[0., 0., 2., 2.]]), torch.tensor([[2., 0., 4., 2.]])).tolist()
        [1.2000...]
    """
    return 1 - _pairs(predictions, targets).distance()


def complete_iou_loss(predictions: Float[Tensor, "N 4"], targets: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """One minus the complete IoU of each predicted box with its true one.

    Source: Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020, eq.
    10; the weight of the aspect ratio's penalty carries no gradient, as in the authors' code.
    Differs: boxes without area, as :func:`~delineate.ops.boxes.complete_box_iou`.

    Args:
        predictions: xyxy pixels; a box whose corners are swapped is empty. Gradients are finite for any finite boxes.
        targets: xyxy pixels.

    Returns:
        0 to 3 for each box, float32 for half precision.

    Example:
        >>> import torch
        >>> complete_iou_loss(torch.tensor([[0., 0., 4., 2.]]), torch.tensor([[0., 0., 2., 4.]])).tolist()
        [0.7629...]
    """
    return 1 - _pairs(predictions, targets).complete()


def _pairs(predictions: Tensor, targets: Tensor) -> BoxPairs:
    require(
        predictions.shape == targets.shape,
        "targets",
        f"be one box for each prediction, {tuple(predictions.shape)}",
        tuple(targets.shape),
        "For every pair use delineate.ops.boxes.",
    )
    return BoxPairs(full_precision(predictions), full_precision(targets))

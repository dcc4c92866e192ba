"""Of boxes that overlap, the best: non-maximum suppression, within groups, softened, and the fusion of several models.

In host memory our own kernels compute; on a CUDA device, and while a model is compiled or exported, hard suppression is
torchvision's operator. Half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from delineate.checks import require
from delineate.kernels import suppression as kernels
from delineate.ops.torchvision_ops import torchvision_operator
from delineate.registry import unknown_name

Number = int | float
Decay = Literal["gaussian", "linear"]


def nms(boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], *, iou_threshold: Number) -> Int[Tensor, " M"]:
    """The boxes that no better one among them overlaps by more than the threshold.

    Source: Felzenszwalb et al., "Object Detection with Discriminatively Trained Part-Based Models", PAMI 2010, section
    8.1, with the IoU as the overlap.
    Differs: nothing from :func:`torchvision.ops.nms`, whose indices these are: the IoU is rounded as there, and must be
    above the threshold, not at it.

    Args:
        boxes: xyxy pixels. One whose corners are swapped, or whose area is 0, infinite or NaN, neither suppresses nor
            is suppressed.
        scores: the higher the better, on any scale; of equal ones the first box wins. NaN stands above all others.
        iou_threshold: 0 (boxes may touch) to 1 (nothing is suppressed).

    Returns:
        int64 indices, the best first; none for no boxes. No gradient passes.

    Raises:
        ArgumentError: when boxes are not (N, 4), scores not (N,) on the same device, or the threshold is not 0 to 1.

    Example:
        >>> boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 5.], [6., 0., 9., 4.]])
        >>> nms(boxes, torch.tensor([0.8, 0.9, 0.3]), iou_threshold=0.5)
        tensor([1, 2])
    """
    boxes, scores = _checked(boxes, scores, iou_threshold)
    if boxes.device.type != "cpu" or torch.compiler.is_compiling():
        indices: Tensor = torchvision_operator("nms")(boxes, scores, float(iou_threshold))
        return indices
    order = scores.argsort(descending=True, stable=True)
    starts = np.array([0, len(order)])
    return order[
        torch.from_numpy(kernels.surviving_boxes(boxes.numpy(), order.numpy(), starts, float(iou_threshold)))[order]
    ]


def batched_nms(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], groups: Int[Tensor, " N"], *, iou_threshold: Number
) -> Int[Tensor, " M"]:
    """:func:`nms` within each group alone: boxes of two classes, levels or images do not suppress each other.

    Differs: from :func:`torchvision.ops.batched_nms`, which for few boxes moves each group to a place of its own and
    suppresses all at once. What is added to the coordinates rounds them, and with them an IoU near the threshold; here
    the answer is that of a loop over the groups. Only a compiled or exported model holds the one suppression.

    Args:
        boxes: xyxy pixels, as in :func:`nms`.
        scores: as in :func:`nms`.
        groups: any integers; the class of each box, or one number for each pair of image and class.
        iou_threshold: 0 to 1.

    Returns:
        int64 indices, the best first whatever its group; none for no boxes. No gradient passes.

    Raises:
        ArgumentError: as :func:`nms`, and when groups are not (N,) integers on the same device.

    Example:
        >>> boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 5.], [0., 0., 4., 4.]])
        >>> batched_nms(boxes, torch.tensor([0.8, 0.9, 0.3]), torch.tensor([0, 0, 1]), iou_threshold=0.5)
        tensor([1, 2])
    """
    boxes, scores = _checked(boxes, scores, iou_threshold)
    _check_column("groups", groups, boxes)
    if torch.compiler.is_compiling():
        return _moved_apart(boxes, scores, groups, float(iou_threshold))
    if boxes.device.type != "cpu":
        return _group_by_group(boxes, scores, groups, float(iou_threshold))
    order = scores.argsort(descending=True, stable=True)
    ordered, places = groups[order].sort(stable=True)
    counts = ordered.unique_consecutive(return_counts=True)[1]
    starts = np.concatenate([[0], counts.cumsum(0).numpy()])
    survives = kernels.surviving_boxes(boxes.numpy(), order[places].numpy(), starts, float(iou_threshold))
    return order[torch.from_numpy(survives)[order]]


def soft_nms(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    *,
    decay: Decay = "gaussian",
    sigma: Number = 0.5,
    iou_threshold: Number = 0.3,
    score_threshold: Number = 0.001,
) -> tuple[Int[Tensor, " M"], Float[Tensor, " M"]]:
    """The boxes best first, where a box lowers the score of those it overlaps instead of removing them.

    Source: Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017, figure 2, eqs. 2, 3.
    Differs: edges are continuous, without the released code's added pixel, and a box whose score is below the threshold
    from the start is dropped too, which the release does only behind the first. Computed in float64 in host memory.

    Args:
        boxes: xyxy pixels; one without area overlaps nothing.
        scores: at least 0; of equal ones the first box wins.
        decay: "gaussian" multiplies by ``exp(-IoU**2 / sigma)``, "linear" by ``1 - IoU`` above ``iou_threshold``.
        sigma: of the Gaussian, above 0; the larger, the milder.
        iou_threshold: of the linear decay, 0 to 1.
        score_threshold: boxes are dropped once their score falls below.

    Returns:
        int64 indices, and the lowered scores, which fall; none for no boxes. No gradient passes.

    Raises:
        ArgumentError: as :func:`nms`, and when a box or score is not finite, a score is below 0, or sigma is not above
            0.
        UnknownNameError: when the decay is not one of the two.

    Example:
        >>> boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 5.], [6., 0., 9., 4.]])
        >>> soft_nms(boxes, torch.tensor([0.8, 0.9, 0.3]), decay="linear")
        (tensor([1, 2, 0]), tensor([0.9000, 0.3000, 0.1600]))
    """
    boxes, scores = _checked(boxes, scores, iou_threshold)
    if decay not in get_args(Decay):
        raise unknown_name("decay", decay, get_args(Decay))
    require(sigma > 0, "sigma", "be above 0", sigma, "Use decay='linear' or nms for a hard limit.")
    _check_finite(boxes, scores)
    rows, lowered = kernels.decayed_scores(
        boxes.cpu().numpy(),
        scores.cpu().numpy(),
        gaussian=decay == "gaussian",
        sigma=sigma,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
    )
    return torch.from_numpy(rows).to(boxes.device), torch.from_numpy(lowered).to(scores)


def weighted_box_fusion(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    sources: Int[Tensor, " N"],
    *,
    iou_threshold: Number,
    weights: Sequence[Number] | None = None,
    skip_below: Number = 0.0,
) -> tuple[Float[Tensor, "M 4"], Float[Tensor, " M"], Int[Tensor, " M"]]:
    """The boxes of several models on one image, those of one object replaced by their mean weighted by score.

    Best first, a box joins the cluster of its label whose mean so far it overlaps most, if by more than the threshold,
    or starts a new one. The score of a cluster is the mean of its boxes' scores, lowered where fewer boxes than models
    found it.

    Source: Solovyev et al., "Weighted boxes fusion: Ensembling boxes from different object detection models", Image and
    Vision Computing 2021, section 3; the released ``weighted_boxes_fusion`` with ``conf_type="avg"``.
    Differs: boxes are pixels and stay unclipped; a box with swapped corners is dropped as one without area is, not
    turned round; sums are float64; equal scores keep their order. Computed in host memory.

    Args:
        boxes: xyxy pixels of all models, one after another or mixed.
        scores: at least 0, on one scale for all models.
        labels: any integers; boxes of different labels are not fused.
        sources: which model a box is of, from 0.
        iou_threshold: 0 to 1; the paper's is 0.55.
        weights: one a model, at least 0, and so also how many models there are; None for 1 each, of as many models as
            the largest source says. Pass them where a model may have found nothing, or its silence does not count.
        skip_below: boxes with a lower score, before the weights, are left out.

    Returns:
        Boxes (M, 4), scores (M,) and labels (M,), the best first; none for no boxes. No gradient passes.

    Raises:
        ArgumentError: as :func:`nms`, and when a box or score is not finite, a score or weight is below 0, no weight is
            above 0, labels or sources are not (N,) integers, or a source is not below the number of weights.

    Example:
        >>> boxes = torch.tensor([[0., 0., 4., 4.], [1., 0., 5., 4.], [9., 0., 11., 2.]])
        >>> zeros = torch.zeros(3, dtype=torch.int64)
        >>> weighted_box_fusion(
        ...     boxes, torch.tensor([0.9, 0.3, 0.5]), zeros, torch.tensor([0, 1, 1]), iou_threshold=0.5
        ... )[:2]
        (tensor([[ 0.2500,  0.0000,  4.2500,  4.0000],
                [ 9.0000,  0.0000, 11.0000,  2.0000]]), tensor([0.6000, 0.2500]))
    """
    boxes, scores = _checked(boxes, scores, iou_threshold)
    _check_column("labels", labels, boxes)
    _check_column("sources", sources, boxes)
    _check_finite(boxes, scores)
    importance = _model_weights(weights, sources)
    weighted = scores.double().cpu() * importance[sources.cpu().long()]
    host, names = boxes.double().cpu(), labels.cpu()
    present = ((host[:, 2:] > host[:, :2]).all(dim=1) & (scores.cpu() >= skip_below)).nonzero()[:, 0]
    order = present[weighted[present].argsort(descending=True, stable=True)]
    grouped, places = names[order].sort(stable=True)
    kinds, counts = grouped.unique_consecutive(return_counts=True)
    starts = np.concatenate([[0], counts.cumsum(0).numpy()])
    fused, totals, members, groups = (
        torch.from_numpy(column)
        for column in kernels.fused_boxes(
            host.numpy(), weighted.numpy(), order[places].numpy(), starts, float(iou_threshold)
        )
    )
    found = totals / members * members.clamp(max=len(importance)) / importance.sum()
    best = found.argsort(descending=True, stable=True)
    return fused[best].to(boxes), found[best].to(scores), kinds[groups[best]].to(labels)


def _group_by_group(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """One suppression a group, wherever the tensors are."""
    operator = torchvision_operator("nms")
    survives = torch.zeros_like(scores, dtype=torch.bool)
    for group in groups.unique():
        rows = (groups == group).nonzero()[:, 0]
        survives[rows[operator(boxes[rows], scores[rows], iou_threshold)]] = True
    order = scores.argsort(descending=True, stable=True)
    return order[survives[order]]


def _moved_apart(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """One suppression of all boxes, each group moved to a place of its own: no loop, so that a graph can hold it."""
    both = torch.cat([boxes, boxes.new_zeros(1, 4)])  # no boxes have no largest coordinate
    span = both.max() - both.min() + 1
    indices: Tensor = torchvision_operator("nms")(boxes + (groups * span).to(boxes)[:, None], scores, iou_threshold)
    return indices


def _model_weights(weights: Sequence[Number] | None, sources: Tensor) -> Tensor:
    lowest, highest = (int(sources.min()), int(sources.max())) if len(sources) else (0, 0)
    require(lowest >= 0, "sources", "be models numbered from 0", lowest)
    importance = torch.ones(highest + 1).double() if weights is None else torch.tensor(list(weights)).double()
    advice = "Pass one weight a model."
    require(highest < len(importance), "sources", f"be below the number of weights, {len(importance)}", highest, advice)
    usable = bool(importance.isfinite().all() and (importance >= 0).all() and (importance > 0).any())
    require(usable, "weights", "be finite, at least 0, and not all 0", importance.tolist())
    return importance


def _checked(boxes: Tensor, scores: Tensor, iou_threshold: Number) -> tuple[Tensor, Tensor]:
    """The boxes and scores detached and of one type; raises for what no suppression can work with."""
    shape = tuple(boxes.shape)
    advice = "If column 4 is a score, pass boxes[:, :4] and boxes[:, 4]." if len(shape) == 2 and shape[1] == 5 else ""
    require(len(shape) == 2 and shape[1] == 4, "boxes", "be (N, 4) xyxy pixels", f"shape {shape}", advice)
    _check_column("scores", scores, boxes)
    require(0 <= iou_threshold <= 1, "iou_threshold", "be between 0 and 1", iou_threshold)
    dtype = torch.float64 if torch.float64 in (boxes.dtype, scores.dtype) else torch.float32
    boxes, scores = boxes.detach().to(dtype), scores.detach().to(dtype)
    if not torch.compiler.is_compiling():  # in a graph it would cut the tensor off from the input
        boxes = boxes.as_subclass(Tensor)  # BoundingBoxes would otherwise stay such, and no result here is
    return boxes, scores


def _check_column(name: str, column: Tensor, boxes: Tensor) -> None:
    count = len(boxes)
    fits = tuple(column.shape) == (count,)
    require(fits, name, f"be ({count},), one a box", f"shape {tuple(column.shape)}")
    require(column.device == boxes.device, name, f"be on {boxes.device}, as the boxes", column.device)
    if name != "scores":
        whole = not (column.is_floating_point() or column.is_complex())
        require(whole, name, "be integers", column.dtype, f"Pass {name}.long().")


def _check_finite(boxes: Tensor, scores: Tensor) -> None:
    for row in (~boxes.isfinite().all(dim=1)).nonzero()[:1, 0]:
        require(False, "boxes", "be finite", boxes[row].tolist(), "Leave such boxes out before.")
    for row in (~(scores.isfinite() & (scores >= 0))).nonzero()[:1, 0]:
        require(False, "scores", "be finite and at least 0", scores[row].item(), "Pass probabilities, not logits.")

"""What the losses of a fixed number of slots share: the truths as shares of the image, and who answers for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from delineate.checks import require
from delineate.losses.precision import full_precision
from delineate.ops.box_assignment import assign_bipartite, assign_by_iou
from delineate.ops.true_boxes import true_boxes
from delineate.structures.outputs import SlotOutputs


class SlotTruths(NamedTuple):
    """What one image shows, as its slots learn it.

    Args:
        boxes: xyxy of single objects, as shares of the input's width and height.
        labels: their classes.
        crowds: boxes around groups, in the same shares.
    """

    boxes: Float[Tensor, "T 4"]
    labels: Int64[Tensor, " T"]
    crowds: Float[Tensor, "C 4"]


class Pairs(NamedTuple):
    """The slots that answer for an object, and those that must find nothing.

    Args:
        slots: that answer.
        truths: the object that each of them answers for.
        free: which slots must find nothing: no object is theirs, and no crowd.
    """

    slots: Int64[Tensor, " P"]
    truths: Int64[Tensor, " P"]
    free: Bool[Tensor, " N"]


def slot_truths(
    outputs: SlotOutputs, targets: Sequence[Mapping[str, Any]], *, num_classes: int | None
) -> list[SlotTruths]:
    """The objects of each image.

    Args:
        outputs: whose input's size the boxes are shares of.
        targets: "boxes" (xyxy pixels of the input), "labels" and perhaps "iscrowd" of each image.
        num_classes: that labels must be below; not checked when None.

    Raises:
        ArgumentError: when there is not one target for each image, or a label is no class.

    Example:
        >>> import torch
        >>> said = SlotOutputs(torch.zeros(1, 1, 3), torch.zeros(1, 1, 1, 4), (40, 80))
        >>> target = {"boxes": torch.tensor([[8., 10., 40., 40.]]), "labels": torch.tensor([2])}
        >>> slot_truths(said, [target], num_classes=3)[0].boxes.tolist()
        [[0.1000..., 0.25, 0.5, 1.0]]
    """
    require(len(targets) == len(outputs.logits), "targets", f"be {len(outputs.logits)}, one an image", len(targets))
    boxes = full_precision(outputs.boxes)
    height, width = outputs.size
    whole = boxes.new_tensor([width, height, width, height])
    found = [true_boxes(target, num_classes=num_classes) for target in targets]
    return [
        SlotTruths(truths.boxes.to(boxes) / whole, truths.labels.to(boxes.device), truths.crowds.to(boxes) / whole)
        for truths in found
    ]


def cheapest_pairs(costs: Float[Tensor, "N T"], boxes: Float[Tensor, "N 4"], crowds: Float[Tensor, "C 4"]) -> Pairs:
    """The pairing of slots and objects, one to one, that costs least in all.

    Of more objects than slots those are left out that make it cheapest. A slot without an object whose box lies in a
    crowd by more than half has found something, and is not told otherwise.

    Args:
        costs: of each slot with each object; no gradient flows through the choice.
        boxes: of the slots.
        crowds: in the same unit.

    Example:
        >>> import torch
        >>> boxes = torch.tensor([[0., 0., 1., 1.], [0., 0., 1., 1.], [5., 5., 6., 6.]])
        >>> pairs = cheapest_pairs(torch.tensor([[3.], [1.], [2.]]), boxes, boxes[:1])
        >>> pairs.slots.tolist(), pairs.truths.tolist(), pairs.free.tolist()
        ([1], [0], [False, False, True])
    """
    # a network that diverged says so by its loss, which is NaN, and not by an error here
    assigned = assign_bipartite(costs.detach().nan_to_num())
    # without true boxes this rule leaves what crowds alone decide
    in_crowd = assign_by_iou(boxes, boxes[:0], positive=1, negative=1, crowd_boxes=crowds).ignored
    slots = assigned.positive.nonzero()[:, 0]
    return Pairs(slots, assigned.matches[slots], assigned.background & ~in_crowd)

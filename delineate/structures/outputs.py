"""What a model returns: one type per task family, the same in training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float, Int64
from torch import Tensor

from delineate.structures.word_tree import WordTree


@dataclass(frozen=True)
class SemanticOutputs:
    """Scores of every class at every pixel.

    Args:
        logits: before the softmax, at the size of the input image.
        auxiliary: further logits that a loss may supervise (side heads), each ``B K h w`` of its own size.
    """

    logits: Float[Tensor, "B K H W"]
    auxiliary: tuple[Float[Tensor, "B K _ _"], ...] = field(default=())


@dataclass(frozen=True)
class AnchorOutputs:
    """What a network says of every anchor of every image: a one-stage detector's outputs, and region proposals'.

    Args:
        logits: of the classes: one number each where ``scoring`` is "sigmoid" (proposals have one class); for "softmax"
            one more, the last, for the background.
        deltas: what moves an anchor to its box, see :func:`delineate.ops.box_coding.decode_boxes`.
        anchors: xyxy pixels of the input, the same for every image of the batch.
        levels: how many anchors each feature map has, finest first; they stand in this order.
        scoring: "sigmoid", each class by itself, or "softmax", one class or the background.
        coding_weights: what x, y, width and height of the deltas were multiplied with.
    """

    logits: Float[Tensor, "B A K"]
    deltas: Float[Tensor, "B A 4"]
    anchors: Float[Tensor, "A 4"]
    levels: tuple[int, ...]
    scoring: Literal["sigmoid", "softmax"] = "sigmoid"
    coding_weights: tuple[float | int, float | int, float | int, float | int] = (1, 1, 1, 1)


@dataclass(frozen=True)
class GridOutputs:
    """What a network of the YOLO family says of the boxes of every cell.

    Args:
        logits: of the classes; one distribution for all boxes of a cell (P = 1) or one a box. Probabilities by
            regression, not bounded, where there are no priors; else before the softmax.
        objectness: of each box, in the same form; else before the sigmoid.
        values: of each box: with priors see :func:`delineate.ops.box_coding.decode_yolov2_boxes` (before the sigmoid),
            without :func:`delineate.ops.box_coding.decode_yolo_boxes`.
        grid: (rows, columns) of the cells, which stand in this order.
        size: (height, width) of the input, padding included.
        priors: width and height of each box of a cell, in cells; None for boxes relative to the whole image.
        tree: the words that the classes are, each group of siblings with a softmax of its own; None where all classes
            share one.
    """

    logits: Float[Tensor, "B S _ K"]
    objectness: Float[Tensor, "B S P"]
    values: Float[Tensor, "B S P 4"]
    grid: tuple[int, int]
    size: tuple[int, int]
    priors: Float[Tensor, "P 2"] | None = None
    tree: WordTree | None = None


@dataclass(frozen=True)
class SlotOutputs:
    """What a network says in each of a fixed number of slots: one object, or nothing.

    Args:
        logits: of the classes, before the softmax; where a slot may be empty by its class, one more, the last, for the
            background.
        boxes: xyxy, as shares of the input's width and height: one for all classes (P = 1), or one for each.
        size: (height, width) of the input, padding included.
        background: whether the last logit is the background's.
        objectness: before the sigmoid; None where the classes alone tell whether something is there.
        priors: what the box of each slot starts from, in the same shares; None where slots have no place of their own.
    """

    logits: Float[Tensor, "B N _"]
    boxes: Float[Tensor, "B N P 4"]
    size: tuple[int, int]
    background: bool = False
    objectness: Float[Tensor, "B N"] | None = None
    priors: Float[Tensor, "N 4"] | None = None

    @property
    def num_classes(self) -> int:
        """Object classes."""
        return self.logits.shape[2] - self.background

    @property
    def likeliest(self) -> Int64[Tensor, "B N"]:
        """Of each slot the object class that it shows most likely; of equal ones the first."""
        return self.logits[..., : self.num_classes].argmax(-1)

    @property
    def likeliest_boxes(self) -> Float[Tensor, "B N 4"]:
        """Of each slot the box of its likeliest class."""
        if self.boxes.shape[2] == 1:
            return self.boxes[:, :, 0]
        return self.boxes.take_along_dim(self.likeliest[..., None, None], 2)[:, :, 0]


@dataclass(frozen=True)
class RegionOutputs:
    """What a two-stage network says: of every anchor where something is, then of every region what it is.

    Args:
        proposals: of the anchors; one class.
        regions: xyxy pixels of the input: the best proposals, or in training the sample of them that is learned from.
        images: which image of the batch each region is of.
        logits: of each region, one class or the last, the background.
        deltas: what moves a region to its object, for each class (the background's is not used).
        matches: in training, the row of its image's target that each region answers for, -1 for background; else None.
        features: the maps that regions are read from, for heads that look again.
        masks: in training, of the regions that answer for an object, in their order: a mask for each class.
        keypoints: likewise a map for each joint.
        coding_weights: what x, y, width and height of the deltas were multiplied with.
    """

    proposals: AnchorOutputs
    regions: Float[Tensor, "R 4"]
    images: Int64[Tensor, " R"]
    logits: Float[Tensor, "R C"]
    deltas: Float[Tensor, "R C 4"]
    matches: Int64[Tensor, " R"] | None = None
    features: tuple[Float[Tensor, "B _ _ _"], ...] = field(default=())
    masks: Float[Tensor, "P _ _ _"] | None = None
    keypoints: Float[Tensor, "P _ _ _"] | None = None
    coding_weights: tuple[float | int, float | int, float | int, float | int] = (10, 10, 5, 5)

"""What a model returns: one type per task family, the same in training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor


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
        deltas: what moves an anchor to its box, in the form that ``coding`` names.
        anchors: xyxy pixels of the input, the same for every image of the batch.
        levels: how many anchors each feature map has, finest first; they stand in this order.
        objectness: before the sigmoid, of detectors that judge apart whether there is an object (YOLO); else None.
        scoring: "sigmoid", each class by itself, or "softmax", one class or background.
        coding: "rcnn", "yolov1" or "yolov2".
        coding_weights: what "rcnn" multiplies x, y, width and height with.
    """

    logits: Float[Tensor, "B A K"]
    deltas: Float[Tensor, "B A 4"]
    anchors: Float[Tensor, "A 4"]
    levels: tuple[int, ...]
    objectness: Float[Tensor, "B A"] | None = None
    scoring: Literal["sigmoid", "softmax"] = "sigmoid"
    coding: Literal["rcnn", "yolov1", "yolov2"] = "rcnn"
    coding_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

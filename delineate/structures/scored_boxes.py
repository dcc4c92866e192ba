"""Boxes with scores and classes as tensors: what decoding leaves of an image, before it becomes a user's result."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class ScoredBoxes:
    """The objects of one image, best first.

    Args:
        boxes: xyxy pixels.
        scores: 0 to 1.
        labels: object classes, from 0.
    """

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int64[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: Int64[Tensor, " M"] | Bool[Tensor, " N"]) -> ScoredBoxes:
        """The objects of these rows, in this order."""
        return ScoredBoxes(self.boxes[rows], self.scores[rows], self.labels[rows])


@dataclass(frozen=True)
class DetectionOptions:
    """Which of a detector's many boxes are its answer.

    Args:
        score_threshold: boxes of this score and below are dropped.
        iou_threshold: of two boxes of one class that overlap by more, the better one stays.
        candidates: the most boxes of each group that are compared at all, the best ones.
        groups: what a group is: "level" for each feature map, all classes together, or "class".
        most: objects of an image.
        labels: the classes that are looked for; None for all.
        specific: of a model whose classes are a tree of words, the probability that a word must exceed to be answered:
            each box has one class then, the most specific such word, the box's objectness is the score, and of two
            boxes that overlap the better one stays whatever their words. None scores every word of every box.
    """

    score_threshold: float | int = 0.05
    iou_threshold: float | int = 0.5
    candidates: int = 1000
    groups: str = "level"
    most: int = 100
    labels: tuple[int, ...] | None = None
    specific: float | int | None = None

"""What part of a picture is looked at: SSD's larger canvas, and its crops that keep hold of an object."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from delineate.checks import require
from delineate.data.object_transforms import WindowTransform, lengths_of
from delineate.data.placement import Following, Placement, Rectangle
from delineate.data.view import uniform
from delineate.ops.boxes import box_iou

IOU_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


class Expand(WindowTransform):
    """The picture somewhere on a larger canvas of the same proportions, so that objects become small.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 3.6 (the "zoom out" of small objects).
    Differs: nothing; the canvas is filled with ImageNet's mean, as theirs is.

    Args:
        p: the share of pictures that are put on a canvas.
        ratio: the largest side of the canvas in sides of the picture, drawn uniformly from 1 on.
        following: what objects keep, and what fills the canvas.
    """

    def __init__(self, p: float | int = 0.5, *, ratio: float | int = 4.0, following: Following | None = None) -> None:
        super().__init__(following)
        require(0 <= p <= 1, "p", "lie between 0 and 1", p)
        require(ratio >= 1 and math.isfinite(ratio), "ratio", "be 1 or more", ratio)
        self.p, self.ratio = p, ratio

    def window(self, window: Rectangle, boxes: Float[Tensor, "N 4"]) -> Rectangle:
        """A window around ``window``, or ``window`` itself."""
        if float(torch.rand(())) >= self.p:
            return window
        ratio = uniform(1.0, self.ratio)
        height, width = (int(length * ratio) for length in lengths_of(window))
        top = window[0] - int(torch.randint(0, height - (window[2] - window[0]) + 1, ()))
        left = window[1] - int(torch.randint(0, width - (window[3] - window[1]) + 1, ()))
        return top, left, top + height, left + width


class IoUCrop(WindowTransform):
    """A part of the picture that overlaps an object as much as one of several thresholds asks, each as likely.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2, and the samplers of its release:
        side lengths of 0.3 to 1, aspect ratios of 1/2 to 2, 50 trials a threshold; an object stays when its centre is
        in the part, and its box is clipped.
    Differs: thresholds are tried in random order until one is met, which chooses as the release does, uniformly among
        those that can be met, without drawing the others. The overlap is asked of an object that stays (the release
        asks it of any), so that no part of a picture with objects is without one. Crowds are asked nothing and stay.

    Args:
        p: the share of pictures that are cropped.
        overlaps: smallest IoU of the part with an object; 0 asks only for an object's centre, 1 takes it all.
        smallest: the smallest side of a part as a share of the picture's (the square root of its share of the area).
        aspect: the largest ratio of width to height, and of height to width, in proportion to the picture's.
        trials: parts drawn for a threshold before another one is tried.
        following: what objects keep, and what fills the canvas.
    """

    def __init__(
        self,
        p: float | int = 1.0,
        *,
        overlaps: Sequence[float | int] = IOU_OVERLAPS,
        smallest: float | int = 0.3,
        aspect: float | int = 2.0,
        trials: int = 50,
        following: Following | None = None,
    ) -> None:
        super().__init__(following)
        require(0 <= p <= 1, "p", "lie between 0 and 1", p)
        known = len(overlaps) > 0 and all(0 <= overlap <= 1 for overlap in overlaps)
        require(known, "overlaps", "be numbers between 0 and 1, at least one", tuple(overlaps))
        require(0 < smallest <= 1, "smallest", "lie above 0, at most 1", smallest)
        require(aspect >= 1, "aspect", "be 1 or more", aspect)
        require(trials >= 1, "trials", "be at least 1", trials)
        self.p, self.overlaps = p, tuple(float(overlap) for overlap in overlaps)
        self.smallest, self.aspect, self.trials = smallest, aspect, trials

    def window(self, window: Rectangle, boxes: Float[Tensor, "N 4"]) -> Rectangle:
        """A part of ``window`` that meets the threshold; ``window`` itself where none can be met."""
        if float(torch.rand(())) >= self.p:
            return window
        for option in torch.randperm(len(self.overlaps)).tolist():
            overlap = self.overlaps[option]
            if overlap >= 1:
                return window
            parts = self._parts(window)
            if len(boxes):
                parts = parts[_meets(parts, boxes, overlap)]
            elif overlap:
                continue
            if len(parts):
                left, top, right, bottom = (int(edge) for edge in parts[0])
                return top, left, bottom, right
        return window

    def kept(self, boxes: Float[Tensor, "N 4"], placement: Placement) -> Bool[Tensor, " N"] | None:
        """Whether an object's centre is in the part that is shown."""
        top, left, bottom, right = placement.source
        part = boxes.new_tensor([[left, top, right, bottom]])
        return _centred(part, boxes)[0]

    def _parts(self, window: Rectangle) -> Float[Tensor, "T 4"]:
        """Parts of the window, xyxy whole pixels, drawn at random."""
        height, width = lengths_of(window)
        draws = torch.rand(4, self.trials)
        scale = self.smallest + (1 - self.smallest) * draws[0]
        low, high = (scale**2).clamp_min(1 / self.aspect), (scale**-2).clamp_max(self.aspect)
        root = (low + (high - low) * draws[1]).sqrt()
        widths = (scale * root * width).round().clamp(1, width)
        heights = (scale / root * height).round().clamp(1, height)
        left = (draws[2] * (width - widths + 1)).floor().minimum(width - widths) + window[1]
        top = (draws[3] * (height - heights + 1)).floor().minimum(height - heights) + window[0]
        return torch.stack([left, top, left + widths, top + heights], dim=1)


def _centred(parts: Float[Tensor, "T 4"], boxes: Float[Tensor, "N 4"]) -> Bool[Tensor, "T N"]:
    """Whether the centre of each box is inside each part."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > parts[:, None, :2]) & (centres < parts[:, None, 2:])).all(dim=2)


def _meets(parts: Float[Tensor, "T 4"], boxes: Float[Tensor, "N 4"], overlap: float) -> Bool[Tensor, " T"]:
    return (_centred(parts, boxes) & (box_iou(parts, boxes) >= overlap)).any(dim=1)

"""What size a picture with objects is shown at: stretched, letterboxed, by its shorter side, jittered, by batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from delineate.checks import require
from delineate.data.object_transforms import FitTransform, lengths_of
from delineate.data.order import sample_seed
from delineate.data.placement import Following, Placement, Rectangle
from delineate.data.view import uniform

YOLO_SIZES = tuple(range(320, 609, 32))


def multi_scale_size(seed: int, epoch: int, batch: int, sizes: Sequence[int] = YOLO_SIZES, every: int = 10) -> int:
    """The side that a batch is trained at: another one of ``sizes``, each as likely, every few batches.

    A function of its arguments alone, so that every process and a resumed run agree, whoever asks.

    Source: Redmon and Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 2, "Multi-Scale Training".
    Differs: the count of batches begins anew with every epoch.

    Args:
        seed: of the run.
        epoch: from 0.
        batch: the number of the batch in its epoch, from 0.
        sizes: the sides to choose among.
        every: how many batches a side is kept for.

    Example:
        >>> [multi_scale_size(0, 0, batch) for batch in (0, 9, 10, 20, 30)]
        [448, 448, 416, 480, 512]
    """
    require(len(sizes) > 0, "sizes", "hold at least one side", tuple(sizes))
    require(every >= 1, "every", "be at least 1", every)
    # below -1, which is the order of the epoch: no sample has such a number
    return int(sizes[sample_seed(seed, epoch, -2 - batch // every) % len(sizes)])


class Stretch(FitTransform):
    """The picture at a fixed size, whatever its proportions were (SSD, YOLO).

    Args:
        size: (height, width) of the result.
        following: what objects keep, and what fills the canvas.
    """

    def __init__(self, size: tuple[int, int], *, following: Following | None = None) -> None:
        super().__init__(following)
        self.size = _checked_size(size)

    def fitted(self, window: Rectangle, source_size: tuple[int, int]) -> Placement:
        """The window over the whole result."""
        return Placement.of_window(window, source_size, self.size)


class LetterBox(FitTransform):
    """The picture as large as it fits on a canvas of a fixed size, its proportions kept, in the middle.

    Args:
        size: (height, width) of the result.
        following: what objects keep, and what fills the canvas.

    Example:
        >>> box = LetterBox((64, 64)).placement((50, 100))
        >>> box.place, box.restored(torch.tensor([[32.0, 16.0]])).tolist()
        ((16, 0, 48, 64), [[50.0, 0.0]])
    """

    def __init__(self, size: tuple[int, int], *, following: Following | None = None) -> None:
        super().__init__(following)
        self.size = _checked_size(size)

    def fitted(self, window: Rectangle, source_size: tuple[int, int]) -> Placement:
        """The window in the middle of the result."""
        lengths = lengths_of(window)
        zoom = min(result / length for result, length in zip(self.size, lengths, strict=True))
        height, width = (max(1, round(length * zoom)) for length in lengths)
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        return Placement.of_window(window, source_size, self.size, (top, left, top + height, left + width))


class ShortestSide(FitTransform):
    """The picture resized so that its shorter side is of one of several lengths, the longer one no more than a limit.

    Source: Ren et al., "Faster R-CNN", NIPS 2015, section 3.3 (600, at most 1000); 800 and 1333 since Lin et al.,
        "Feature Pyramid Networks for Object Detection", CVPR 2017.
    Differs: sizes are rounded to the nearest pixel.

    Args:
        sides: lengths of the shorter side, each as likely.
        longest: the limit for the longer side, before rounding.
        following: what objects keep, and what fills the canvas.

    Example:
        >>> ShortestSide((800,)).placement((480, 640)).size, ShortestSide((800,)).placement((300, 900)).size
        ((800, 1067), (444, 1333))
    """

    def __init__(
        self, sides: Sequence[int] = (800,), *, longest: int = 1333, following: Following | None = None
    ) -> None:
        super().__init__(following)
        require(len(sides) > 0 and min(sides) > 0, "sides", "be positive, at least one", tuple(sides))
        require(longest > 0, "longest", "be positive", longest)
        self.sides, self.longest = tuple(int(side) for side in sides), longest

    def fitted(self, window: Rectangle, source_size: tuple[int, int]) -> Placement:
        """The window over a result of its proportions."""
        lengths = lengths_of(window)
        side = self.sides[int(torch.randint(len(self.sides), ())) if len(self.sides) > 1 else 0]
        zoom = min(side / min(lengths), self.longest / max(lengths))
        height, width = (max(1, round(length * zoom)) for length in lengths)
        return Placement.of_window(window, source_size, (height, width))


class ScaleJitter(FitTransform):
    """The picture at a random size on a canvas of a fixed one: cropped where it is larger, filled where smaller.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR
        2021, section 3: "large scale jittering" of 0.1 to 2, "standard" of 0.8 to 1.25.
    Differs: a smaller picture lies anywhere on the canvas; only the part that is shown is resized, cut at whole source
        pixels.

    Args:
        size: (height, width) of the result; None keeps the window's own.
        scale: smallest and largest magnification, drawn uniformly; at 1 the picture just fits the canvas.
        following: what objects keep, and what fills the canvas.
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        *,
        scale: tuple[float | int, float | int] = (0.1, 2.0),
        following: Following | None = None,
    ) -> None:
        super().__init__(following)
        require(0 < scale[0] <= scale[1], "scale", "be (smallest, largest), both positive", scale)
        self.size, self.scale = None if size is None else _checked_size(size), scale

    def fitted(self, window: Rectangle, source_size: tuple[int, int]) -> Placement:
        """The window, or a part of it, at a random size and place."""
        lengths = lengths_of(window)
        size = self.size or lengths
        zoom = min(result / length for result, length in zip(size, lengths, strict=True)) * uniform(*self.scale)
        top, bottom, low, high = _jittered(window[0], lengths[0], size[0], zoom)
        left, right, first, last = _jittered(window[1], lengths[1], size[1], zoom)
        return Placement.of_window((top, left, bottom, right), source_size, size, (low, first, high, last))


def _jittered(begin: int, length: int, result: int, zoom: float) -> tuple[int, int, int, int]:
    """Along one side: the first and last source pixel that are shown, and where they lie in the result."""
    shown = max(1, round(length * zoom))
    if shown <= result:
        low = int(torch.randint(0, result - shown + 1, ()))
        return begin, begin + length, low, low + shown
    part = min(length, max(1, round(result / zoom)))
    begin += int(torch.randint(0, length - part + 1, ()))
    return begin, begin + part, 0, result


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    require(len(size) == 2 and min(size) > 0, "size", "be a positive (height, width)", size)
    return int(size[0]), int(size[1])

"""Random changes of an image with its objects, on torchvision.transforms.v2: what moves, cuts and resizes.

Every transform takes ``(image, target)`` as :mod:`delineate.data.transforms` says, and what an object has follows:
boxes, masks, key points and their visibility, area, crowds (:class:`~delineate.data.placement.Following`). An image
without objects is an image like others. Windows (:mod:`~delineate.data.object_windows`) choose what is looked at, fits
(:mod:`~delineate.data.object_fits`) what size it is shown at; each is a transform by itself, and :class:`ObjectView`
does several in one pass over the pixels.

torchvision's own were not taken for these: ``RandomIoUCrop`` and ``RandomZoomOut`` leave masks, key points and areas
of lost objects to others and paint a canvas of up to sixteen times the pixels; ``ScaleJitter`` takes height for width
where the target is not square; resizing and jitter round sizes down (800 may come out as 799) and read masks half a
pixel beside the image; and flips move key points as indices of pixels (``W - 1 - x``), though turns and resizing take
them, like boxes, for places on a continuous plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from delineate.checks import require
from delineate.data.placement import Following, Placement, Rectangle, corners, without_unseen_points
from delineate.data.transforms import RandomQuarterTurn


class ObjectTransform(v2.Transform):
    """What every transform here shares: one placement is drawn, and everything follows it.

    Args:
        following: what objects keep, and what fills the canvas.
    """

    def __init__(self, following: Following | None = None) -> None:
        super().__init__()
        self.following = following or Following()

    def placement(self, size: tuple[int, int], boxes: Float[Tensor, "N 4"]) -> Placement:
        """Where a picture of this (height, width) goes, drawn at random; ``boxes`` are its objects but for crowds."""
        raise NotImplementedError

    def kept(self, boxes: Float[Tensor, "N 4"], placement: Placement) -> Bool[Tensor, " N"] | None:
        """Which objects may stay, whatever is left of them; None for all."""
        return None

    def forward(self, *inputs: Any) -> Any:
        """The image, and the targets (dictionaries) and tensors given with it, placed alike."""
        image = inputs[0]
        require(
            isinstance(image, tv_tensors.Image),
            "image",
            "be a tv_tensors.Image",
            type(image).__name__,
            "Put v2.ToImage() before this.",
        )
        size = (int(image.shape[-2]), int(image.shape[-1]))
        target: dict[str, Any] = next((value for value in inputs if isinstance(value, dict)), {})
        for key, value in target.items():
            if isinstance(value, tv_tensors.TVTensor):
                got = tuple(functional.get_size(value))
                require(got == size, key, f"have the image's (height, width) {size}", got)
        placement = self.placement(size, single_boxes(target))
        outputs = []
        for value in inputs:
            if isinstance(value, dict):
                kept = self.kept(corners(value["boxes"]), placement) if "boxes" in value else None
                outputs.append(self.following.target(value, placement, kept))
            elif isinstance(value, tv_tensors.TVTensor):
                outputs.append(self.following.image(value, placement))
            else:
                outputs.append(value)
        return tuple(outputs) if len(outputs) > 1 else outputs[0]


def single_boxes(target: dict[str, Any]) -> Float[Tensor, "N 4"]:
    """The xyxy boxes of the objects that are not crowds; none where a target has no boxes."""
    if "boxes" not in target:
        return torch.zeros(0, 4)
    boxes = corners(target["boxes"])
    return boxes if "iscrowd" not in target else boxes[~target["iscrowd"].bool()]


def lengths_of(window: Rectangle) -> tuple[int, int]:
    """The (height, width) of a window."""
    return window[2] - window[0], window[3] - window[1]


class WindowTransform(ObjectTransform):
    """A transform that chooses a part of the plane to look at, and shows it at its own size."""

    def window(self, window: Rectangle, boxes: Float[Tensor, "N 4"]) -> Rectangle:
        """Another window in place of ``window``; may reach beyond the picture."""
        raise NotImplementedError

    def placement(self, size: tuple[int, int], boxes: Float[Tensor, "N 4"]) -> Placement:
        """The chosen window, not resized."""
        window = self.window((0, 0, *size), boxes)
        return Placement.of_window(window, size, lengths_of(window))


class FitTransform(ObjectTransform):
    """A transform that shows the whole picture (or the window of an :class:`ObjectView`) at another size."""

    def fitted(self, window: Rectangle, source_size: tuple[int, int]) -> Placement:
        """Where the window goes, in a picture of this (height, width)."""
        raise NotImplementedError

    def placement(self, size: tuple[int, int], boxes: Float[Tensor, "N 4"] | None = None) -> Placement:
        """Where a picture of this (height, width) goes; the way back is :meth:`Placement.restored`."""
        return self.fitted((0, 0, *size), size)


class ObjectView(ObjectTransform):
    """Windows and a fit, one after another, in one pass over the pixels: nothing is painted that is not shown.

    Args:
        windows: expanding or cropping, each working on the window before.
        fit: what size the last window is shown at; None for its own.
        following: what objects keep, and what fills the canvas; those of ``windows`` and ``fit`` are not used.

    Example:
        >>> from delineate.data.object_fits import Stretch
        >>> from delineate.data.object_windows import Expand, IoUCrop
        >>> view = ObjectView([Expand(), IoUCrop()], Stretch((300, 300)))
        >>> tuple(view(tv_tensors.Image(torch.zeros(3, 40, 60, dtype=torch.uint8))).shape)
        (3, 300, 300)
    """

    def __init__(
        self,
        windows: Sequence[WindowTransform] = (),
        fit: FitTransform | None = None,
        *,
        following: Following | None = None,
    ) -> None:
        super().__init__(following)
        self.windows, self.fit = tuple(windows), fit

    def placement(self, size: tuple[int, int], boxes: Float[Tensor, "N 4"]) -> Placement:
        """The last window, fitted."""
        window: Rectangle = (0, 0, *size)
        for step in self.windows:
            window = step.window(window, boxes)
        return (
            Placement.of_window(window, size, lengths_of(window)) if self.fit is None else self.fit.fitted(window, size)
        )

    def kept(self, boxes: Float[Tensor, "N 4"], placement: Placement) -> Bool[Tensor, " N"] | None:
        """Which objects every window keeps."""
        kept = None
        for step in self.windows:
            by_step = step.kept(boxes, placement)
            kept = by_step if kept is None or by_step is None else kept & by_step
        return kept


class ObjectFlip(v2.Transform):
    """The picture mirrored, and with it which hand is the left one.

    Mirrored upside down or left to right, a left eye looks like a right one: key points of a pair change places, and
    with them their visibility. The ends of a pair come from :func:`flip_pairs`.

    Args:
        p: the share of pictures that are mirrored.
        direction: "horizontal" for left to right, "vertical" for upside down.
        flip_pairs: the numbers of two key points each that change places.
    """

    def __init__(
        self,
        p: float | int = 0.5,
        *,
        direction: Literal["horizontal", "vertical"] = "horizontal",
        flip_pairs: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__()
        require(0 <= p <= 1, "p", "lie between 0 and 1", p)
        require(direction in ("horizontal", "vertical"), "direction", "be 'horizontal' or 'vertical'", direction)
        self.p, self.direction, self.flip_pairs = p, direction, tuple((int(a), int(b)) for a, b in flip_pairs)

    def forward(self, *inputs: Any) -> Any:
        """The inputs, mirrored or as they were."""
        if float(torch.rand(())) < self.p:
            inputs = tuple(
                self._target(value) if isinstance(value, dict) else self._mirrored(value) for value in inputs
            )
        return inputs if len(inputs) > 1 else inputs[0]

    def _mirrored(self, value: Any) -> Any:
        if not isinstance(value, tv_tensors.TVTensor):
            return value
        if isinstance(value, tv_tensors.KeyPoints):
            height, width = value.canvas_size
            axis, length = (0, width) if self.direction == "horizontal" else (1, height)
            plain = value.as_subclass(Tensor).clone()
            plain[..., axis] = length - plain[..., axis]
            return tv_tensors.wrap(plain, like=value)
        kernel = functional.horizontal_flip if self.direction == "horizontal" else functional.vertical_flip
        return kernel(value)

    def _target(self, target: dict[str, Any]) -> dict[str, Any]:
        result = {key: self._mirrored(value) for key, value in target.items()}
        points = result.get("keypoints")
        if points is None:
            return result
        order = list(range(points.shape[-2]))
        for one, other in self.flip_pairs:
            require(max(one, other) < len(order), "flip_pairs", f"be below {len(order)}, the key points", (one, other))
            order[one], order[other] = other, one
        result["keypoints"] = tv_tensors.wrap(points.as_subclass(Tensor)[..., order, :], like=points)
        if "visibility" in result:
            result["visibility"] = result["visibility"][..., order]
            result = without_unseen_points(result)
        return result


class ObjectQuarterTurn(RandomQuarterTurn):
    """The picture turned by 0, 90, 180 or 270 degrees, each as likely; only 0 or 180 where it is not square."""

    def forward(self, *inputs: Any) -> Any:
        """The inputs, turned."""
        turned = super().forward(*inputs)
        outputs = turned if len(inputs) > 1 else (turned,)
        settled = tuple(
            without_unseen_points(value) if isinstance(value, dict) and "visibility" in value else value
            for value in outputs
        )
        return settled if len(inputs) > 1 else settled[0]


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """The numbers of the key points that change places when a picture is mirrored, by the words left and right.

    Raises:
        ArgumentError: where a left one has no right one, or the other way round.

    Example:
        >>> flip_pairs(("nose", "left_eye", "right_eye", "wrist-right", "wrist-left"))
        ((1, 2), (4, 3))
    """
    places = {_side_name(name): place for place, name in enumerate(names)}
    pairs = []
    for (rest, side), place in places.items():
        if side:
            partner = places.get((rest, "right" if side == "left" else "left"))
            require(partner is not None, "keypoint names", "come in pairs of left and right", f"'{names[place]}' alone")
            if side == "left" and partner is not None:
                pairs.append((place, partner))
    return tuple(pairs)


def _side_name(name: str) -> tuple[str, str]:
    """A name without its "left" or "right", and that word."""
    words = name.lower().replace("-", "_").replace(" ", "_").split("_")
    for side in ("left", "right"):
        if side in words:
            place = words.index(side)
            return "_".join([*words[:place], "*", *words[place + 1 :]]), side
    return name, ""

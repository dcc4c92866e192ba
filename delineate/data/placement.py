"""Where a part of a picture comes to lie on a canvas, and what its objects keep on the way.

A :class:`Placement` is a rectangle of whole source pixels shown in a rectangle of whole pixels of the result: cropping,
padding, resizing, letterboxes and the tiles of a mosaic are all of this kind, and because both ends are whole pixels,
image, masks, boxes and key points move by exactly the same map. :class:`Following` carries a sample through it.

Coordinates are continuous: whole numbers are the edges of pixels, for key points as for boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from delineate.checks import require
from delineate.data.transforms import boxes_of_masks, kept_instances
from delineate.data.view import FILL, RandomView, View

Rectangle = tuple[int, int, int, int]  # top, left, bottom, right; bottom and right are not part of it
Measured = Literal["cut", "all", "none"]
MEASURED: tuple[Measured, ...] = ("cut", "all", "none")


@dataclass(frozen=True)
class Placement:
    """A rectangle of the source, resized into a rectangle of the result; the rest of the result is filled.

    Args:
        source: top, left, bottom and right of what is shown, inside the source.
        place: where it lies in the result.
        size: (height, width) of the result.

    Example:
        >>> letterbox = Placement(source=(0, 0, 50, 100), place=(100, 0, 300, 400), size=(400, 400))
        >>> letterbox.moved(torch.tensor([[10.0, 10.0, 20.0, 50.0]]))
        tensor([[ 40., 140.,  80., 300.]])
        >>> letterbox.restored(torch.tensor([[40.0, 140.0, 80.0, 300.0]]))
        tensor([[10., 10., 20., 50.]])
    """

    source: Rectangle
    place: Rectangle
    size: tuple[int, int]

    @classmethod
    def of_window(
        cls, window: Rectangle, source_size: tuple[int, int], size: tuple[int, int], place: Rectangle | None = None
    ) -> Placement:
        """What a window shows that may reach beyond the picture: only the picture's part of it is placed.

        Args:
            window: top, left, bottom and right in source pixels.
            source_size: (height, width) of the picture.
            size: (height, width) of the result.
            place: where the window lies in the result; None for all of it.
        """
        place = place or (0, 0, *size)
        top, bottom, low, high = _shown(source_size[0], window[0::2], place[0::2], size[0])
        left, right, first, last = _shown(source_size[1], window[1::2], place[1::2], size[1])
        return cls((top, left, bottom, right), (low, first, high, last), size)

    @property
    def scale(self) -> tuple[float, float]:
        """The magnification along rows and along columns."""
        (top, left, bottom, right), (low, first, high, last) = self.source, self.place
        return (high - low) / (bottom - top), (last - first) / (right - left)

    def moved(self, coordinates: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Where points (..., x y) or boxes (..., x y x y) of the source lie in the result; nothing is clipped."""
        return (coordinates - self._origin(self.source, coordinates)) * self._zoom(coordinates) + self._origin(
            self.place, coordinates
        )

    def restored(self, coordinates: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Where points or boxes of the result lie in the source: the way back of :meth:`moved`."""
        return (coordinates - self._origin(self.place, coordinates)) / self._zoom(coordinates) + self._origin(
            self.source, coordinates
        )

    def visible(self, boxes: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
        """The share of each xyxy box of the source that is shown; 0 for a box without area."""
        top, left, bottom, right = self.source
        width = boxes[:, 2].clamp(left, right) - boxes[:, 0].clamp(left, right)
        height = boxes[:, 3].clamp(top, bottom) - boxes[:, 1].clamp(top, bottom)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return torch.where(areas > 0, width * height / areas, 0.0)

    def shows(self, points: Float[Tensor, "*N 2"]) -> Bool[Tensor, "*N"]:
        """Whether each point (x, y) of the source is shown; its outer edges are."""
        top, left, bottom, right = self.source
        x, y = points.unbind(-1)
        return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)

    @staticmethod
    def _origin(rectangle: Rectangle, like: Tensor) -> Tensor:
        return like.new_tensor([rectangle[1], rectangle[0]]).repeat(like.shape[-1] // 2)

    def _zoom(self, like: Tensor) -> Tensor:
        return like.new_tensor(self.scale[::-1]).repeat(like.shape[-1] // 2)


def _shown(length: int, window: Sequence[int], place: Sequence[int], result: int) -> tuple[int, int, int, int]:
    """Along one side: the first and last source pixel of a window, and where they lie in the result."""
    first = min(max(window[0], 0), length - 1)  # a window beside the picture shows its nearest pixel
    last = max(min(window[1], length), first + 1)
    zoom = (place[1] - place[0]) / (window[1] - window[0])
    low = min(max(round(place[0] + (first - window[0]) * zoom), 0), result - 1)
    high = min(max(round(place[0] + (last - window[0]) * zoom), low + 1), result)
    return first, last, low, high


@dataclass(frozen=True)
class Following:
    """How a sample follows its picture: which objects stay, what their boxes become, what fills the rest.

    Every ``tv_tensor`` of the target moves, whatever its key. Besides, the ``area`` of each object follows (the pixels
    of its mask, else what the file stated, scaled and cut like its box), key points that left the picture get
    visibility 0, and whoever is not in the picture any more leaves every key of
    :data:`~delineate.data.transforms.INSTANCE_KEYS`. Objects with ``iscrowd`` stay as long as a pixel of them does.

    Args:
        min_visible: the share of an object that must be left for it to stay, of its mask or else of its box.
        measured: whose boxes are measured anew around what is left of their masks: those of objects that were "cut",
            "all" or "none" (a box moves with the picture and is clipped). Without masks they are always clipped.
        ignore_index: what fills label maps (H, W).
        fill: what fills images, 0..255, one value a channel.

    Raises:
        ArgumentError: on a share outside 0 to 1, or another word for ``measured``.
    """

    min_visible: float | int = 0.0
    measured: Measured = "cut"
    ignore_index: int = 255
    fill: Sequence[float | int] = FILL

    def __post_init__(self) -> None:
        require(0 <= self.min_visible <= 1, "min_visible", "lie between 0 and 1", self.min_visible)
        require(self.measured in MEASURED, "measured", "be 'cut', 'all' or 'none'", repr(self.measured))

    @cached_property
    def _pixels(self) -> RandomView:
        return RandomView(ignore_index=self.ignore_index, fill=self.fill)

    def image(self, image: Any, placement: Placement) -> Any:
        """An image, masks, boxes or key points under ``placement``; boxes are clipped to what is shown."""
        top, left, bottom, right = placement.source
        low, first, high, last = placement.place
        moved = image
        if placement.source != (0, 0, *functional.get_size(image)) or (high - low, last - first) != (bottom, right):
            cut = View((high - low, last - first), top, left, bottom - top, right - left)
            moved = self._pixels.transform(moved, {"view": cut, "places": None})
        if placement.place != (0, 0, *placement.size):
            put = View(placement.size, -low, -first, *placement.size)
            moved = self._pixels.transform(moved, {"view": put, "places": None})
        return moved

    def target(
        self, target: dict[str, Any], placement: Placement, kept: Bool[Tensor, " N"] | None = None
    ) -> dict[str, Any]:
        """A target under ``placement``.

        Args:
            target: as the data set gives it, boxes upright; it is not changed.
            placement: where its picture goes.
            kept: the objects that may stay besides; None for all.

        Raises:
            ArgumentError: where boxes, masks or key points are plain tensors.
        """
        for key in ("boxes", "masks", "keypoints"):
            value = target.get(key)
            moves = value is None or isinstance(value, tv_tensors.TVTensor)
            require(moves, key, "be a tv_tensor, which moves with the image", type(value).__name__)
        moved = {
            key: self.image(value, placement) if isinstance(value, tv_tensors.TVTensor) else value
            for key, value in target.items()
        }
        masks, points = target.get("masks"), target.get("keypoints")
        if points is not None and "visibility" in target:
            shown = placement.shows(points.as_subclass(Tensor).float())
            moved["visibility"] = torch.where(shown, target["visibility"], 0)
            moved = without_unseen_points(moved)
        if "boxes" not in target:
            return moved
        boxes = corners(target["boxes"])
        visible = placement.visible(boxes)
        if masks is not None:
            top, left, bottom, right = placement.source
            before = pixel_counts(masks)
            inside = pixel_counts(masks[:, top:bottom, left:right])
            visible = torch.where(before > 0, inside / before.clamp_min(1), visible)
        elif "area" in target:
            area = target["area"]
            zoom = placement.scale[0] * placement.scale[1]
            moved["area"] = (area * visible * zoom).to(area.dtype)
        return self.settled(moved, visible, kept)

    def settled(
        self, target: dict[str, Any], visible: Float[Tensor, " N"], kept: Bool[Tensor, " N"] | None = None
    ) -> dict[str, Any]:
        """A target that moved already, reduced to the objects that are still to be seen, and measured from its masks.

        Args:
            target: with ``boxes``.
            visible: the share of each object that is left of what it was.
            kept: the objects that may stay besides; None for all.
        """
        result = dict(target)
        stays = visible >= self.min_visible
        if kept is not None:
            stays = stays & kept
        crowd = target.get("iscrowd")
        if crowd is not None:
            stays = stays | crowd.bool()
        masks, boxes = target.get("masks"), target["boxes"]
        xyxy = corners(boxes)
        if masks is not None:
            pixels = pixel_counts(masks)
            rows = {"cut": visible < 1, "all": torch.ones_like(stays), "none": torch.zeros_like(stays)}[self.measured]
            if bool(rows.any()):
                xyxy = torch.where(rows[:, None], boxes_of_masks(masks), xyxy)
                form = functional.convert_bounding_box_format(
                    xyxy, tv_tensors.BoundingBoxFormat.XYXY, target["boxes"].format
                )
                result["boxes"] = tv_tensors.wrap(form.to(boxes.dtype), like=boxes)
            if "area" in target:
                result["area"] = pixels.to(target["area"].dtype)
            stays = stays & (pixels > 0)
        width, height = (xyxy[:, 2:] - xyxy[:, :2]).unbind(1)
        stays = stays & (width >= 1) & (height >= 1)
        return result if bool(stays.all()) else kept_instances(result, stays)


def corners(boxes: Tensor) -> Float[Tensor, "N 4"]:
    """Upright boxes as plain float xyxy."""
    form = tv_tensors.BoundingBoxFormat
    plain = boxes.as_subclass(Tensor).float()
    if not isinstance(boxes, tv_tensors.BoundingBoxes) or boxes.format == form.XYXY:
        return plain
    return functional.convert_bounding_box_format(plain, boxes.format, form.XYXY)


def pixel_counts(masks: Tensor) -> Tensor:
    """The number of pixels of each mask (N, H, W), int64; NumPy counts bytes a hundred times faster than torch."""
    return torch.tensor([np.count_nonzero(mask) for mask in masks.as_subclass(Tensor).numpy()], dtype=torch.int64)


def without_unseen_points(target: dict[str, Any]) -> dict[str, Any]:
    """The target whose key points of visibility 0 stand at (0, 0), as in COCO's files, wherever they moved."""
    points = target["keypoints"]
    plain = torch.where(target["visibility"][..., None] > 0, points.as_subclass(Tensor), 0)
    return {**target, "keypoints": tv_tensors.wrap(plain, like=points)}

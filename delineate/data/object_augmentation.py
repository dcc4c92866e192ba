"""How much a training image with objects is changed: named presets, every value visible and open to change.

A recipe says ``{preset: ssd, size: [300, 300]}``; :func:`resolved` answers with all values, and
:func:`train_transform`, :func:`train_mixings` and :func:`eval_transform` make what they say. For label maps there is
:mod:`delineate.data.augmentation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import torch
from torchvision.transforms import v2

from delineate.data.augmentation_values import AugmentationValues, hold, over_preset
from delineate.data.mosaic import MixUp, Mosaic, ObjectCopyPaste, ObjectMixing
from delineate.data.object_fits import LetterBox, ScaleJitter, ShortestSide, Stretch
from delineate.data.object_transforms import (
    FitTransform,
    ObjectFlip,
    ObjectQuarterTurn,
    ObjectView,
    WindowTransform,
    flip_pairs,
)
from delineate.data.object_windows import IOU_OVERLAPS, Expand, IoUCrop
from delineate.data.placement import MEASURED, Following, Measured
from delineate.data.transforms import Photometric, RandomBlur, RandomNoise
from delineate.data.view import FILL
from delineate.registry import Registry

Fit = Literal["canvas", "stretch", "shortest"]
FITS: tuple[Fit, ...] = ("canvas", "stretch", "shortest")


class ObjectAugmentation(AugmentationValues, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The random changes of training images with objects; the defaults are the preset "medium".

    Args:
        preset: the name of the preset the values began with.
        fit: how a picture becomes of the size a model sees: "canvas" keeps its proportions and fills what it leaves
            free of ``size``, "stretch" gives it ``size`` whatever its proportions, "shortest" resizes it by its shorter
            side and leaves every picture a size of its own.
        size: (height, width) of what the model sees; None keeps each picture's own (or that of what is cut from it).
            Not for "shortest".
        scale: smallest and largest magnification on the canvas, drawn uniformly; at 1 the picture just fits. For
            "canvas" only.
        shortest: lengths of the shorter side for "shortest", each as likely; the longest of them in evaluation.
        longest: the limit for the longer side, for "shortest".
        expand: the share of pictures that are put on a larger canvas (:class:`~.object_windows.Expand`).
        expand_ratio: the largest side of that canvas in sides of the picture.
        iou_crop: the share of pictures that are cropped by overlap (:class:`~.object_windows.IoUCrop`).
        iou_overlaps: the overlaps asked for, each as likely; 0 for any part, 1 for the whole.
        flip_horizontal: the share of pictures mirrored left to right; key points of a pair change places.
        flip_vertical: the share of pictures mirrored upside down.
        rotate90: quarter turns, each as likely (half turns only where the picture is not square).
        photometric: strength of brightness, contrast, saturation and hue changes, 0 to 1.
        blur: largest Gaussian sigma in pixels, on half of the pictures; 0 for none.
        noise: largest standard deviation in grey levels, on half of the pictures; 0 for none.
        copy_paste: the share of pictures that get objects of another one; needs masks
            (:class:`~.mosaic.ObjectCopyPaste`).
        mosaic: the share of pictures that become a quarter of a mosaic (:class:`~.mosaic.Mosaic`).
        mosaic_scale: smallest and largest magnification in a mosaic.
        mixup: the share of pictures that are blended with another one (:class:`~.mosaic.MixUp`).
        min_visible: the share of an object that must be left for it to stay.
        measured: whose boxes are measured anew from masks: "cut" objects', "all" or "none".
        multi_scale: sides of square batches to change between (:func:`~.object_fits.multi_scale_size`); none for one
            size.
        multi_scale_every: how many batches each is kept for.

    Raises:
        RecipeError: on a value out of range; the message names the key.
    """

    fit: Fit = "canvas"
    size: tuple[int, int] | None = None
    scale: tuple[float, float] = (0.5, 1.5)
    shortest: tuple[int, ...] = (800,)
    longest: int = 1333
    expand: float = 0.0
    expand_ratio: float = 4.0
    iou_crop: float = 0.0
    iou_overlaps: tuple[float, ...] = IOU_OVERLAPS
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.0
    rotate90: bool = False
    photometric: float = 0.5
    blur: float = 0.0
    noise: float = 0.0
    copy_paste: float = 0.0
    mosaic: float = 0.0
    mosaic_scale: tuple[float, float] = (0.5, 1.5)
    mixup: float = 0.0
    min_visible: float = 0.1
    measured: Measured = "cut"
    multi_scale: tuple[int, ...] = ()
    multi_scale_every: int = 10

    def __post_init__(self) -> None:
        shares = ("expand", "iou_crop", "flip_horizontal", "flip_vertical", "photometric", "copy_paste", "mosaic")
        for key in (*shares, "mixup", "min_visible"):
            value = getattr(self, key)
            hold(0 <= value <= 1, key, "lie between 0 and 1", value)
        for key in ("blur", "noise"):
            value = getattr(self, key)
            hold(math.isfinite(value) and value >= 0, key, "be 0 or more", value)
        for key in ("scale", "mosaic_scale"):
            low, high = getattr(self, key)
            hold(0 < low <= high and math.isfinite(high), key, "be [smallest, largest], both positive", [low, high])
        hold(self.fit in FITS, "fit", _KINDS["fit"], repr(self.fit))
        hold(self.measured in MEASURED, "measured", _KINDS["measured"], repr(self.measured))
        hold(self.size is None or min(self.size) > 0, "size", "be [height, width], both positive", self.size)
        hold(self.fit != "stretch" or self.size is not None, "size", "be [height, width] to stretch to", "null")
        own = self.fit != "shortest" or self.size is None
        hold(own, "size", "be null where fit is 'shortest', which leaves every picture a size of its own", self.size)
        plain = self.fit == "canvas" or self.scale == (1.0, 1.0)
        hold(plain, "scale", f"be [1, 1] where fit is '{self.fit}'", list(self.scale))
        sides = len(self.shortest) > 0 and min(self.shortest) > 0
        hold(sides, "shortest", "be positive lengths, at least one", list(self.shortest))
        hold(self.longest > 0, "longest", "be positive", self.longest)
        ratio = math.isfinite(self.expand_ratio) and self.expand_ratio >= 1
        hold(ratio, "expand_ratio", "be 1 or more", self.expand_ratio)
        overlaps = len(self.iou_overlaps) > 0 and all(0 <= value <= 1 for value in self.iou_overlaps)
        hold(overlaps, "iou_overlaps", "be numbers between 0 and 1, at least one", list(self.iou_overlaps))
        hold(all(side > 0 for side in self.multi_scale), "multi_scale", "be positive sides", list(self.multi_scale))
        hold(self.multi_scale_every > 0, "multi_scale_every", "be positive", self.multi_scale_every)


_KINDS = {
    "preset": "be a name",
    "fit": "be 'canvas', 'stretch' or 'shortest'",
    "size": "be [height, width] in whole pixels, or null",
    "scale": "be [smallest, largest]",
    "mosaic_scale": "be [smallest, largest]",
    "shortest": "be a list of lengths in whole pixels",
    "longest": "be a whole number",
    "iou_overlaps": "be a list of numbers",
    "rotate90": "be true or false",
    "measured": "be 'cut', 'all' or 'none'",
    "multi_scale": "be a list of sides in whole pixels",
    "multi_scale_every": "be a whole number",
}

PRESETS: Registry[ObjectAugmentation] = Registry(
    "augmentation preset",
    {
        "none": ObjectAugmentation(preset="none", scale=(1.0, 1.0), flip_horizontal=0.0, photometric=0.0),
        "light": ObjectAugmentation(preset="light", scale=(0.8, 1.25), photometric=0.2),
        "medium": ObjectAugmentation(preset="medium"),
        "strong": ObjectAugmentation(
            preset="strong", scale=(0.1, 2.0), photometric=0.8, blur=1.0, noise=8.0, mosaic=0.5, mixup=0.1
        ),
        "ssd": ObjectAugmentation(
            preset="ssd",
            fit="stretch",
            size=(300, 300),
            scale=(1.0, 1.0),
            expand=0.5,
            iou_crop=1.0,
            photometric=0.7,  # the variance of SSD's own, which changes by up to a half, each time with an even chance
            min_visible=0.0,
        ),
    },
)


def augmentation_preset(name: str) -> ObjectAugmentation:
    """The preset called ``name``: none, light, medium, strong or ssd.

    Raises:
        UnknownNameError: for any other name; the message says the nearest.

    Example:
        >>> augmentation_preset("ssd").iou_overlaps
        (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    """
    return PRESETS[name]


def resolved(values: Mapping[str, Any]) -> ObjectAugmentation:
    """The preset named in ``values`` (or "medium") with every other value that is given put in its place.

    Args:
        values: any of the fields of :class:`ObjectAugmentation`, as a recipe holds them (lists for tuples).

    Raises:
        RecipeError: on an unknown preset or key (the message says the nearest) or a value of the wrong kind or range.

    Example:
        >>> resolved({"preset": "ssd", "size": [512, 512]}).expand
        0.5
    """
    return over_preset(values, PRESETS, _KINDS)


def train_transform(
    augmentation: ObjectAugmentation,
    *,
    keypoint_names: Sequence[str] = (),
    ignore_index: int = 255,
    fill: Sequence[float] = FILL,
) -> v2.Transform:
    """The transform of training samples ``(image, target)``.

    Colours come last, on what is shown; but before a canvas is filled around the picture, which keeps its colour.

    Args:
        augmentation: how much of what.
        keypoint_names: of the key points, to know which change places in a mirror.
        ignore_index: what label maps hold where there is no picture.
        fill: what images hold there, 0..255, one value a channel.

    Raises:
        ArgumentError: where a left key point has no right one.
    """
    following = _following(augmentation, ignore_index, fill)
    windows: list[WindowTransform] = []
    if augmentation.expand:
        windows.append(Expand(augmentation.expand, ratio=augmentation.expand_ratio))
    if augmentation.iou_crop:
        windows.append(IoUCrop(augmentation.iou_crop, overlaps=augmentation.iou_overlaps))
    fit = _fit(augmentation, following)
    places: list[v2.Transform] = []
    if windows or fit is not None:
        places.append(ObjectView(windows, fit, following=following))
    pairs = flip_pairs(keypoint_names)
    if augmentation.flip_horizontal:
        places.append(ObjectFlip(augmentation.flip_horizontal, flip_pairs=pairs))
    if augmentation.flip_vertical:
        places.append(ObjectFlip(augmentation.flip_vertical, direction="vertical", flip_pairs=pairs))
    if augmentation.rotate90:
        places.append(ObjectQuarterTurn())
    colours: list[v2.Transform] = []
    if augmentation.photometric:
        colours.append(Photometric(augmentation.photometric))
    if augmentation.blur:
        colours.append(RandomBlur(augmentation.blur))
    if augmentation.noise:
        colours.append(RandomNoise(augmentation.noise))
    steps = [*colours, *places] if augmentation.expand else [*places, *colours]
    return v2.Compose(steps or [v2.ToDtype(torch.uint8, scale=True)])


def train_mixings(
    augmentation: ObjectAugmentation, *, ignore_index: int = 255, fill: Sequence[float] = FILL
) -> tuple[ObjectMixing, ...]:
    """What makes one of several transformed samples, for :class:`~delineate.data.order.SeededSamples`.

    Args:
        augmentation: how much of what.
        ignore_index: what label maps hold where there is no picture.
        fill: what images hold there, 0..255, one value a channel.

    Example:
        >>> [type(mixing).__name__ for mixing in train_mixings(resolved({"preset": "strong"}))]
        ['Mosaic', 'MixUp']
    """
    following = _following(augmentation, ignore_index, fill)
    mixings: list[ObjectMixing] = []
    if augmentation.copy_paste:
        mixings.append(ObjectCopyPaste(augmentation.copy_paste, following))
    if augmentation.mosaic:
        mixings.append(Mosaic(augmentation.mosaic, scale=augmentation.mosaic_scale, following=following))
    if augmentation.mixup:
        mixings.append(MixUp(augmentation.mixup, following=following))
    return tuple(mixings)


def eval_transform(
    augmentation: ObjectAugmentation, *, ignore_index: int = 255, fill: Sequence[float] = FILL
) -> v2.Transform:
    """The transform of validation samples: uint8 images of the size that training shows, nothing random."""
    fit = eval_fit(augmentation, ignore_index=ignore_index, fill=fill)
    steps: list[v2.Transform] = [v2.ToDtype(torch.uint8, scale=True)]
    return v2.Compose([*steps, fit] if fit is not None else steps)


def eval_fit(
    augmentation: ObjectAugmentation, *, ignore_index: int = 255, fill: Sequence[float] = FILL
) -> FitTransform | None:
    """How a picture is resized in evaluation, None for not at all; ``placement(size)`` knows the way back.

    Example:
        >>> fit = eval_fit(resolved({"preset": "none", "size": [64, 64]}))
        >>> fit.placement((32, 16)).restored(torch.tensor([[16.0, 0.0, 48.0, 64.0]])).tolist()
        [[0.0, 0.0, 16.0, 32.0]]
    """
    plain = msgspec.structs.replace(augmentation, scale=(1.0, 1.0), shortest=(max(augmentation.shortest),))
    return _fit(plain, _following(plain, ignore_index, fill))


def _following(augmentation: ObjectAugmentation, ignore_index: int, fill: Sequence[float]) -> Following:
    return Following(augmentation.min_visible, augmentation.measured, ignore_index, tuple(fill))


def _fit(augmentation: ObjectAugmentation, following: Following) -> FitTransform | None:
    size = augmentation.size
    if augmentation.fit == "shortest":
        return ShortestSide(augmentation.shortest, longest=augmentation.longest, following=following)
    if augmentation.fit == "stretch" and size is not None:
        return Stretch(size, following=following)
    if augmentation.scale != (1.0, 1.0):
        return ScaleJitter(size, scale=augmentation.scale, following=following)
    return None if size is None else LetterBox(size, following=following)

"""How much a training image is changed: one named preset per strength, every value visible and open to change.

A recipe says ``{preset: strong, crop: [320, 416]}``; :func:`resolved` answers with all values, which is what the
recipe in a run folder shows; :func:`train_transform` makes the transform.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchvision.transforms import v2

from delineate.data.augmentation_values import AugmentationValues, hold, over_preset
from delineate.data.copy_paste import CopyPaste, copied_classes
from delineate.data.mixing import CutMix, Mixing
from delineate.data.transforms import Photometric, RandomBlur, RandomNoise, RandomQuarterTurn, VisibleInstances
from delineate.data.view import FILL, RandomView
from delineate.errors import RecipeError, UnknownNameError
from delineate.registry import Registry
from delineate.structures.taxonomy import Taxonomy


class Augmentation(AugmentationValues, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The random changes of training images; the defaults are the preset "medium".

    Args:
        preset: the name of the preset the values began with.
        crop: (height, width) of what the model trains on; with None training chooses it by the images' sizes, and the
            transform by itself keeps each image's own size.
        scale: smallest and largest magnification, drawn log-uniformly.
        rotation: largest angle in degrees, either way.
        elastic: standard deviation of U-Net's displacements, in pixels of the crop; 0 for none.
        elastic_grid: control vectors along each side.
        flip_horizontal: the share of images mirrored left to right.
        flip_vertical: the share of images mirrored upside down.
        rotate90: quarter turns, each as likely (half turns only where the crop is not square).
        photometric: strength of brightness, contrast, saturation and hue changes, 0 to 1.
        blur: largest Gaussian sigma in pixels, on half of the images; 0 for none.
        noise: largest standard deviation in grey levels, on half of the images; 0 for none.
        cutmix: the share of images that get a rectangle of another one (:class:`~delineate.data.mixing.CutMix`).
        copy_paste: the share of images that get things of another one (:class:`~delineate.data.copy_paste.CopyPaste`).
        copy_paste_classes: the names of the classes that are copied; None for every class but the background.

    Raises:
        RecipeError: on a value out of range; the message names the key.
    """

    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (0.5, 2.0)
    rotation: float = 0.0
    elastic: float = 0.0
    elastic_grid: int = 3
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.0
    rotate90: bool = False
    photometric: float = 0.5
    blur: float = 0.0
    noise: float = 0.0
    cutmix: float = 0.0
    copy_paste: float = 0.0
    copy_paste_classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        shares = ("flip_horizontal", "flip_vertical", "photometric", "cutmix", "copy_paste")
        for key in (*shares, "rotation", "elastic", "blur", "noise"):
            value = getattr(self, key)
            hold(math.isfinite(value) and value >= 0, key, "be 0 or more", value)
        for key in shares:
            hold(getattr(self, key) <= 1, key, "lie between 0 and 1", getattr(self, key))
        hold(self.crop is None or min(self.crop) > 0, "crop", "be [height, width], both positive", self.crop)
        low, high = self.scale
        hold(0 < low <= high and math.isfinite(high), "scale", "be [smallest, largest], both positive", self.scale)
        hold(self.elastic_grid >= 2, "elastic_grid", "be at least 2", self.elastic_grid)
        hold(self.rotation <= 180, "rotation", "be at most 180 degrees", self.rotation)
        named = self.copy_paste_classes is None or len(self.copy_paste_classes) > 0
        hold(
            named,
            "copy_paste_classes",
            "name at least one class, or be null for all",
            list(self.copy_paste_classes or ()),
        )


PRESETS: Registry[Augmentation] = Registry(
    "augmentation preset",
    {
        "none": Augmentation(preset="none", scale=(1.0, 1.0), flip_horizontal=0.0, photometric=0.0),
        "light": Augmentation(preset="light", scale=(0.8, 1.25), photometric=0.2),
        "medium": Augmentation(preset="medium"),
        "strong": Augmentation(preset="strong", rotation=10.0, photometric=0.8, blur=1.0, noise=8.0),
        "microscopy": Augmentation(
            preset="microscopy",
            scale=(0.8, 1.25),
            rotation=15.0,
            elastic=10.0,
            flip_vertical=0.5,
            rotate90=True,
            photometric=0.3,
        ),
    },
)


def augmentation_preset(name: str) -> Augmentation:
    """The preset called ``name``: none, light, medium, strong or microscopy.

    Raises:
        UnknownNameError: for any other name; the message says the nearest.

    Example:
        >>> augmentation_preset("microscopy").elastic
        10.0
    """
    return PRESETS[name]


def resolved(values: Mapping[str, Any]) -> Augmentation:
    """The preset named in ``values`` (or "medium") with every other value that is given put in its place.

    Args:
        values: any of the fields of :class:`Augmentation`, as a recipe holds them (lists for pairs).

    Raises:
        RecipeError: on an unknown preset or key (the message says the nearest) or a value of the wrong kind or range.

    Example:
        >>> resolved({"preset": "light", "crop": [64, 64]}).scale
        (0.8, 1.25)
    """
    return over_preset(values, PRESETS, _KINDS)


def train_transform(
    augmentation: Augmentation, *, ignore_index: int = 255, fill: Sequence[float] = FILL
) -> v2.Transform:
    """The transform of training samples ``(image, target)``; cheap steps first, colours only on what was cut out.

    Args:
        augmentation: how much of what.
        ignore_index: what label maps hold where there is no picture.
        fill: what images hold there, 0..255, one value a channel.
    """
    steps: list[v2.Transform] = []
    plain = augmentation.scale == (1.0, 1.0) and not augmentation.rotation and not augmentation.elastic
    if augmentation.crop is not None or not plain:
        steps.append(
            RandomView(
                augmentation.crop,
                scale=augmentation.scale,
                rotation=augmentation.rotation,
                elastic=augmentation.elastic,
                elastic_grid=augmentation.elastic_grid,
                ignore_index=ignore_index,
                fill=fill,
            )
        )
    if augmentation.flip_horizontal:
        steps.append(v2.RandomHorizontalFlip(augmentation.flip_horizontal))
    if augmentation.flip_vertical:
        steps.append(v2.RandomVerticalFlip(augmentation.flip_vertical))
    if augmentation.rotate90:
        steps.append(RandomQuarterTurn())
    if steps:
        steps.append(VisibleInstances())
    if augmentation.photometric:
        steps.append(Photometric(augmentation.photometric))
    if augmentation.blur:
        steps.append(RandomBlur(augmentation.blur))
    if augmentation.noise:
        steps.append(RandomNoise(augmentation.noise))
    return v2.Compose(steps) if steps else eval_transform()


def train_mixings(augmentation: Augmentation, taxonomy: Taxonomy) -> tuple[Mixing, ...]:
    """What puts parts of other samples into a transformed sample, for :class:`~delineate.data.order.SeededSamples`.

    Args:
        augmentation: how much of what.
        taxonomy: of the samples; its background is not copied.

    Raises:
        RecipeError: when a class to copy is not one of the taxonomy's, or there is none but the background.

    Example:
        >>> train_mixings(resolved({"cutmix": 0.5}), Taxonomy(("road", "tree")))
        (CutMix(probability=0.5, alpha=1.0),)
    """
    mixings: list[Mixing] = []
    if augmentation.copy_paste:
        try:
            classes = copied_classes(taxonomy, augmentation.copy_paste_classes)
        except UnknownNameError as error:
            raise RecipeError(f"augmentation.copy_paste_classes: {error}") from None
        hold(len(classes) > 0, "copy_paste", "be 0 where the background is the only class", augmentation.copy_paste)
        mixings.append(CopyPaste(augmentation.copy_paste, classes))
    if augmentation.cutmix:
        mixings.append(CutMix(augmentation.cutmix))
    return tuple(mixings)


def eval_transform() -> v2.Transform:
    """The transform of validation samples: nothing is changed, only float images in 0..1 become uint8."""
    return v2.ToDtype(torch.uint8, scale=True)


_KINDS = {
    "preset": "be a name",
    "crop": "be [height, width] in whole pixels, or null",
    "scale": "be [smallest, largest]",
    "elastic_grid": "be a whole number",
    "rotate90": "be true or false",
    "copy_paste_classes": "be a list of class names, or null for all",
}

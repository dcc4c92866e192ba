"""Test-time augmentation: a model's answers over mirrored and rescaled views of one image, their mean or maximum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.registry import unknown_name

Infer = Callable[[UInt8[Tensor, "B C h w"]], Float[Tensor, "B K h w"]]

SCALES = (0.75, 1.0, 1.25)
"""What "scale" stands for."""

FUSIONS = ("mean", "max")

_AUGMENTATIONS = ("flip", "vflip", "scale", "scales", "fuse")


@dataclass(frozen=True)
class Views:
    """Which views of an image a model sees, every scale with every combination of the flips, and how they become one.

    Args:
        flip: also left-right mirrored.
        vflip: also upside down, for pictures without an up (microscopy, aerial).
        scales: factors on both sides of the image, positive.
        fuse: "mean" of the probabilities (:func:`average_views`) or "max" of the logits (:func:`strongest_views`).

    Raises:
        ArgumentError: on factors that are not positive, or none.
        UnknownNameError: on another way to fuse.

    Example:
        >>> len(Views(flip=True, scales=(0.75, 1.0, 1.25)))
        6
    """

    flip: bool = False
    vflip: bool = False
    scales: tuple[float, ...] = (1.0,)
    fuse: str = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        require(len(self.scales) > 0, "scales", "hold at least one factor", "none")
        require(all(0 < scale < math.inf for scale in self.scales), "scales", "be positive factors", self.scales)
        if self.fuse not in FUSIONS:
            raise unknown_name("fuse", self.fuse, FUSIONS)

    @property
    def mirrors(self) -> tuple[tuple[int, ...], ...]:
        """The tensor dimensions that each mirrored view reverses; the first reverses none."""
        mirrors: list[tuple[int, ...]] = [()]
        if self.flip:
            mirrors += [(-1,)]
        if self.vflip:
            mirrors += [(-2, *mirror) for mirror in mirrors]
        return tuple(mirrors)

    def __len__(self) -> int:
        return len(self.mirrors) * len(self.scales)


def parse_views(text: str) -> Views:
    """The views that a comma-separated list asks for: ``--tta flip,scale``, ``--tta scales=0.5+0.75+1,fuse=max``.

    Args:
        text: any of "flip", "vflip", "scale" (0.75, 1.0, 1.25), "scales=" with factors joined by "+", and "fuse=mean"
            or "fuse=max", in any order.

    Raises:
        ArgumentError: when the list is empty, a value is missing or is no number, or scales are given twice.
        UnknownNameError: on another name; says the nearest known one.

    Example:
        >>> parse_views("flip,scale")
        Views(flip=True, vflip=False, scales=(0.75, 1.0, 1.25), fuse='mean')
        >>> parse_views("scales=0.5+0.75+1,fuse=max")
        Views(flip=False, vflip=False, scales=(0.5, 0.75, 1.0), fuse='max')
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    require(
        len(words) > 0, "test-time augmentation", "name at least one augmentation", repr(text), "Pass 'flip,scale'."
    )
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if name not in _AUGMENTATIONS:
            raise unknown_name("test-time augmentation", name, _AUGMENTATIONS)
        takes_value, example = name in ("scales", "fuse"), "fuse=max" if name == "fuse" else "scales=0.75+1"
        condition = f"have a value, as in '{example}'" if takes_value else "have no value"
        require(bool(equals) == takes_value, name, condition, f"'{word}'")
        if name in ("scale", "scales"):
            require("scales" not in options, "scales", "be given once", f"'{text}'")
            options["scales"] = _factors(value) if takes_value else SCALES
        else:
            options[name] = value if takes_value else True
    return Views(**options)


def _factors(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(factor) for factor in text.split("+"))
    except ValueError:
        raise ArgumentError(f"scales must be numbers joined by '+'; got '{text}'. Pass scales=0.5+0.75+1.") from None


def average_views(images: UInt8[Tensor, "B C H W"], infer: Infer, views: Views) -> Float[Tensor, "B K H W"]:
    """Log of the mean softmax probability over the views, float32: logits whose softmax is that mean.

    Probabilities are averaged, not logits, so that a view which is sure weighs no more than its vote. The logarithm
    makes the result usable wherever logits are: blending of tiles, argmax, softmax, cross-entropy.

    A view's logits are mirrored back and resized bilinearly to the image; the softmax comes after that.

    Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012, sec. 4.1
        (mean of the softmax over ten views).
    Differs: the views are those of ``views``, mirrored and rescaled.

    Args:
        images: 0..255.
        infer: images to logits of the same height and width.
        views: see :class:`Views`; a single plain view gives ``log_softmax(infer(images))``.

    Returns:
        At most 0; ``exp`` of it sums to one over the classes.

    Example:
        >>> sure = lambda images: torch.stack([images[:, 0].float(), torch.zeros_like(images[:, 0]).float()], dim=1)
        >>> images = torch.tensor([[[[0, 100]]]], dtype=torch.uint8)
        >>> average_views(images, sure, Views(flip=True)).exp()[0, 0]
        tensor([[0.5000, 1.0000]])
    """
    total = reduce(torch.add, (logits.softmax(dim=1) for logits in _logits_of_views(images, infer, views)))
    return (total / len(views)).clamp_min(torch.finfo(torch.float32).tiny).log()


def strongest_views(images: UInt8[Tensor, "B C H W"], infer: Infer, views: Views) -> Float[Tensor, "B K H W"]:
    """Log-softmax of the largest logit that any view gives each class at each pixel, float32.

    An object is thus found at the scale that shows it best, where a mean would dilute it.

    Source: Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and
        Fully Connected CRFs", PAMI 2018, section 3.2 (scales 0.5, 0.75 and 1).
    Differs: mirrored views, which the paper has not, take part in the maximum.

    Args:
        images: 0..255.
        infer: images to logits of the same height and width.
        views: see :class:`Views`; a single plain view gives ``log_softmax(infer(images))``.

    Returns:
        At most 0; ``exp`` of it sums to one over the classes.

    Example:
        >>> bright = lambda images: torch.stack([images[:, 0].float(), torch.ones_like(images[:, 0]).float()], dim=1)
        >>> images = torch.tensor([[[[0, 2]]]], dtype=torch.uint8)
        >>> strongest_views(images, bright, Views(flip=True)).argmax(1)
        tensor([[[1, 0]]])
    """
    return reduce(torch.maximum, _logits_of_views(images, infer, views)).log_softmax(dim=1)


def _logits_of_views(
    images: UInt8[Tensor, "B C H W"], infer: Infer, views: Views
) -> Iterator[Float[Tensor, "B K H W"]]:
    """The logits of each view, mirrored back and resized to the image."""
    for scale in views.scales:
        resized = _resized(images, scale)
        for mirror in views.mirrors:
            logits = infer(resized.flip(mirror) if mirror else resized).float()
            require(
                logits.shape[-2:] == resized.shape[-2:],
                "infer",
                f"return logits of its input's size {tuple(resized.shape[-2:])}",
                tuple(logits.shape[-2:]),
            )
            logits = logits.flip(mirror) if mirror else logits
            if logits.shape[-2:] != images.shape[-2:]:
                logits = F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
            yield logits


def augmented(infer: Infer, views: Views) -> Infer:
    """An ``infer`` that answers with all views fused as they say; fits wherever ``infer`` did, tiles included."""
    fused = strongest_views if views.fuse == "max" else average_views

    def infer_views(images: UInt8[Tensor, "B C h w"]) -> Float[Tensor, "B K h w"]:
        return fused(images, infer, views)

    return infer_views


def _resized(images: UInt8[Tensor, "B C H W"], scale: float) -> UInt8[Tensor, "B C h w"]:
    size = [max(1, round(side * scale)) for side in images.shape[-2:]]
    if size == list(images.shape[-2:]):
        return images
    smooth = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
    return smooth.round_().clamp_(0, 255).to(torch.uint8)

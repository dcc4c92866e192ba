"""Test-time augmentation: the mean answer of a model over mirrored and rescaled views of one image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from delineate.checks import require
from delineate.registry import unknown_name

Infer = Callable[[UInt8[Tensor, "B C h w"]], Float[Tensor, "B K h w"]]

SCALES = (0.75, 1.0, 1.25)
"""What "scale" stands for."""

_AUGMENTATIONS = ("flip", "vflip", "scale")


@dataclass(frozen=True)
class Views:
    """Which views of an image are averaged: every scale, each with every combination of the flips.

    Args:
        flip: also left-right mirrored.
        vflip: also upside down, for pictures without an up (microscopy, aerial).
        scales: factors on both sides of the image, positive.

    Example:
        >>> len(Views(flip=True, scales=(0.75, 1.0, 1.25)))
        6
    """

    flip: bool = False
    vflip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        require(len(self.scales) > 0, "scales", "hold at least one factor", "none")
        require(all(scale > 0 for scale in self.scales), "scales", "be positive factors", self.scales)

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
    """The views that a comma-separated list of names asks for, as in ``--tta flip,scale``.

    Args:
        text: any of "flip", "vflip" and "scale" (0.75, 1.0, 1.25), in any order.

    Raises:
        ArgumentError: when the list is empty.
        UnknownNameError: on another name; says the nearest known one.

    Example:
        >>> parse_views("flip,scale")
        Views(flip=True, vflip=False, scales=(0.75, 1.0, 1.25))
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    require(
        len(names) > 0, "test-time augmentation", "name at least one augmentation", repr(text), "Pass 'flip,scale'."
    )
    for name in names:
        if name not in _AUGMENTATIONS:
            raise unknown_name("test-time augmentation", name, _AUGMENTATIONS)
    return Views(flip="flip" in names, vflip="vflip" in names, scales=SCALES if "scale" in names else (1.0,))


def average_views(images: UInt8[Tensor, "B C H W"], infer: Infer, views: Views) -> Float[Tensor, "B K H W"]:
    """Log of the mean softmax probability over the views, float32: logits whose softmax is that mean.

    Probabilities are averaged, not logits, so that a view which is sure weighs no more than its vote. The logarithm
    makes the result usable wherever logits are: blending of tiles, argmax, softmax, cross-entropy.

    A view's logits are mirrored back and resized bilinearly to the image; the softmax comes after that.

    Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012, sec. 4.1
        (mean of the softmax over ten views); Chen et al., "DeepLab", PAMI 2018, sec. 3.2 (several scales).
    Differs: DeepLab takes the maximum over the scales at each pixel, here it is the mean.

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
    total = reduce(torch.add, _probs_of_views(images, infer, views))
    return (total / len(views)).clamp_min(torch.finfo(torch.float32).tiny).log()


def _probs_of_views(images: UInt8[Tensor, "B C H W"], infer: Infer, views: Views) -> Iterator[Float[Tensor, "B K H W"]]:
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
            yield logits.softmax(dim=1)


def augmented(infer: Infer, views: Views) -> Infer:
    """An ``infer`` that answers with :func:`average_views`; fits wherever ``infer`` did, tiles included."""

    def infer_views(images: UInt8[Tensor, "B C h w"]) -> Float[Tensor, "B K h w"]:
        return average_views(images, infer, views)

    return infer_views


def _resized(images: UInt8[Tensor, "B C H W"], scale: float) -> UInt8[Tensor, "B C h w"]:
    size = [max(1, round(side * scale)) for side in images.shape[-2:]]
    if size == list(images.shape[-2:]):
        return images
    smooth = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
    return smooth.round_().clamp_(0, 255).to(torch.uint8)

"""Several samples with objects made into one: mosaic, MixUp and copy-paste of instances.

As in :mod:`delineate.data.mixing`, the samples are transformed already, each by itself; none of them is changed; and
pictures whose data label different classes are not mixed. ``partners`` says how many other samples one call takes.
All randomness comes from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.distributions import Beta
from torchvision import tv_tensors

from delineate.checks import require
from delineate.data.mixing import Sample, are_labelled_alike
from delineate.data.placement import Following, Placement, pixel_counts
from delineate.data.transforms import INSTANCE_KEYS, kept_instances
from delineate.data.view import uniform

MIXED_BETA = 1.5


@dataclass(frozen=True)
class Mosaic:
    """Four samples as the quarters of one picture, so that objects are seen small, cut and in other surroundings.

    Source: Bochkovskiy et al., "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020, section 3.3; in its code
        the point where the four meet lies between 0.2 and 0.8 of either side.
    Differs: each quarter shows its sample magnified by a factor of its own (YOLOv5 draws one for the whole mosaic; 1 to
        1 is YOLOv4's), smaller ones touch the point where the four meet, larger ones show any part of themselves.

    Args:
        probability: the share of samples that become a mosaic.
        scale: smallest and largest magnification, drawn uniformly.
        margin: how near to a border the point may lie where the four meet, as a share of the side.
        following: what objects keep, and what fills the canvas. Slivers are common here: an object of which less than
            a tenth is left leaves by default, as in YOLOv5.

    Raises:
        ArgumentError: on a value out of range.
    """

    probability: float | int
    scale: tuple[float | int, float | int] = (0.5, 1.5)
    margin: float | int = 0.2
    following: Following = field(default_factory=lambda: Following(min_visible=0.1))
    partners: int = field(default=3, init=False, repr=False)

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, "probability", "lie between 0 and 1", self.probability)
        low, high = self.scale
        require(0 < low <= high and math.isfinite(high), "scale", "be (smallest, largest), both positive", self.scale)
        require(0 < self.margin <= 0.5, "margin", "lie above 0, at most 0.5", self.margin)

    def __call__(self, sample: Sample, *partners: Sample) -> Sample:
        """The four as one picture of the first one's size; the first as it is where one labels other classes."""
        require(len(partners) == 3, "partners", "be three samples", len(partners))
        first = sample[1]
        height, width = _checked(sample, partners)
        require(min(height, width) > 1, "image", "be at least 2 pixels high and wide", (height, width))
        meets = [min(max(round(uniform(self.margin, 1 - self.margin) * side), 1), side - 1) for side in (height, width)]
        zooms = [uniform(*self.scale) for _ in range(4)]
        offsets = torch.rand(4, 2).tolist()
        if not all(are_labelled_alike(first, target) for _, target in partners):
            return sample
        parts, quarters = [], []
        for number, (picture, target) in enumerate((sample, *partners)):
            placement, quarter = _quarter(
                number, (height, width), meets, tuple(picture.shape[-2:]), zooms[number], offsets[number]
            )
            parts.append((self.following.image(picture, placement), self.following.target(target, placement)))
            quarters.append(quarter)
        merged = joined([target for _, target in parts])
        for key, value in parts[0][1].items():
            if key not in INSTANCE_KEYS and isinstance(value, tv_tensors.TVTensor):
                merged[key] = _tiled([target[key] for _, target in parts], quarters)
        return _tiled([picture for picture, _ in parts], quarters), merged


def _quarter(
    number: int,
    size: tuple[int, int],
    meets: Sequence[int],
    source: tuple[int, ...],
    zoom: float,
    offset: Sequence[float],
) -> tuple[Placement, tuple[slice, slice]]:
    """Where one of the four goes on the canvas, and the quarter that is its own."""
    sides, quarter = [], []
    for axis, later in enumerate((number // 2, number % 2)):
        begin, end = (meets[axis], size[axis]) if later else (0, meets[axis])
        room, length = end - begin, source[axis]
        shown = max(1, round(length * zoom))
        if shown <= room:  # all of it, touching the point where the four meet
            low = begin if later else end - shown
            sides.append((0, length, low, low + shown))
        else:
            part = min(length, max(1, round(room / zoom)))
            first = min(int(offset[axis] * (length - part + 1)), length - part)
            sides.append((first, first + part, begin, end))
        quarter.append(slice(begin, end))
    (top, bottom, low, high), (left, right, first, last) = sides
    placement = Placement((top, left, bottom, right), (low, first, high, last), size)
    return placement, (quarter[0], quarter[1])


def _tiled(pictures: Sequence[Any], quarters: Sequence[tuple[slice, slice]]) -> Any:
    """One picture, each quarter of it from another one of its size."""
    canvas = torch.empty_like(pictures[0].as_subclass(Tensor))
    for picture, (rows, columns) in zip(pictures, quarters, strict=True):
        canvas[..., rows, columns] = picture.as_subclass(Tensor)[..., rows, columns]
    return tv_tensors.wrap(canvas, like=pictures[0])


@dataclass(frozen=True)
class MixUp:
    """Two pictures blended, with the objects of both.

    Source: Zhang et al., "Bag of Freebies for Training Object Detection Neural Networks", 2019, section 3.1: shapes are
        kept, both lie in the top left corner of a canvas that holds both, the share is drawn from Beta(1.5, 1.5).
    Differs: the canvas is filled, not black, where only one of them is. ``weights`` (N,) of the target holds the share
        of the picture that an object is from, for losses that use it, as the paper's do; label maps are left out.

    Args:
        probability: the share of samples that are blended.
        alpha: of Beta(alpha, alpha), from which the share of the sample itself is drawn.
        following: what fills the canvas.

    Raises:
        ArgumentError: on a probability outside 0 to 1, or an alpha that is not positive.
    """

    probability: float | int
    alpha: float | int = MIXED_BETA
    following: Following = field(default_factory=Following)
    partners: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, "probability", "lie between 0 and 1", self.probability)
        require(self.alpha > 0 and math.isfinite(self.alpha), "alpha", "be positive", self.alpha)

    def __call__(self, sample: Sample, partner: Sample) -> Sample:
        """The blend; ``sample`` as it is where the two label different classes."""
        _checked(sample, (partner,))
        share = float(Beta(self.alpha, self.alpha).sample())
        if not are_labelled_alike(sample[1], partner[1]):
            return sample
        sizes = [picture.shape[-2:] for picture, _ in (sample, partner)]
        size = (max(side[0] for side in sizes), max(side[1] for side in sizes))
        images, targets = [], []
        for (picture, target), weight in ((sample, share), (partner, 1 - share)):
            height, width = picture.shape[-2:]
            placement = Placement((0, 0, height, width), (0, 0, height, width), size)
            placed = self.following.target(target, placement)
            known = placed.get("weights", torch.ones(len(placed["labels"])))
            images.append(self.following.image(picture, placement))
            targets.append({**placed, "weights": known * weight})
        plain = [picture.as_subclass(Tensor).float() for picture in images]
        blend = plain[0] * share + plain[1] * (1 - share)
        if not images[0].is_floating_point():
            blend = blend.round_()
        merged = joined(targets)
        maps = [key for key, value in merged.items() if isinstance(value, tv_tensors.Mask) and key != "masks"]
        merged = {key: value for key, value in merged.items() if key not in maps}
        return tv_tensors.wrap(blend.to(images[0].dtype), like=images[0]), merged


@dataclass(frozen=True)
class ObjectCopyPaste:
    """Some objects of another sample pasted over a sample, with hard edges, and what they hide taken away.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR
        2021, section 3: a random subset of the objects; masks lose what is covered, boxes are measured anew.
    Differs: both pictures are scaled by the augmentation itself, as the paper's are; edges are not blended, which made
        no difference in the paper. Crowds are not copied. A key point that is covered counts as labelled, not visible.

    Args:
        probability: the share of samples that get something.
        following: what is left of an object for it to stay (a tenth by default), and whose boxes are measured.

    Raises:
        ArgumentError: on a probability outside 0 to 1.
    """

    probability: float | int
    following: Following = field(default_factory=lambda: Following(min_visible=0.1))
    partners: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, "probability", "lie between 0 and 1", self.probability)

    def __call__(self, sample: Sample, partner: Sample) -> Sample:
        """``sample`` with a random number of the objects of ``partner``, from one to all of them.

        As it is where ``partner`` has none, or where the two label different classes.
        """
        image, target = sample
        height, width = _checked(sample, (partner,))
        for one in (target, partner[1]):
            require("masks" in one, "target", "have masks to copy", sorted(one), "Set copy_paste to 0 without masks.")
        source = partner[0].shape[-2:]
        shared = (0, 0, min(height, source[0]), min(width, source[1]))
        placement = Placement(shared, shared, (height, width))
        others = self.following.target(partner[1], placement)
        copied = torch.ones(len(others["masks"]), dtype=torch.bool)
        if "iscrowd" in others:
            copied &= ~others["iscrowd"].bool()
        candidates = copied.nonzero().flatten()
        if len(candidates) == 0 or not are_labelled_alike(target, partner[1]):
            return sample
        some = int(torch.randint(1, len(candidates) + 1, ()))
        chosen = torch.zeros_like(copied)
        chosen[candidates[torch.randperm(len(candidates))[:some]]] = True
        others = kept_instances(others, chosen)
        covered = (others["masks"].as_subclass(Tensor) != 0).any(dim=0)
        pictures = (image, self.following.image(partner[0], placement))
        merged = joined([self._uncovered(target, covered), others])
        for key, value in target.items():
            if isinstance(value, tv_tensors.Mask) and key != "masks":
                merged[key] = _over(value, others[key], covered)
        return _over(*pictures, covered), merged

    def _uncovered(self, target: dict[str, Any], covered: Bool[Tensor, "H W"]) -> dict[str, Any]:
        """The target with what is covered taken from its masks, and the objects of which enough is left."""
        masks = target["masks"].as_subclass(Tensor)
        before = pixel_counts(masks)
        left = masks * ~covered
        result = {**target, "masks": tv_tensors.wrap(left, like=target["masks"])}
        points, visibility = target.get("keypoints"), target.get("visibility")
        if points is not None and visibility is not None and len(points):
            x, y = points.as_subclass(Tensor).long().unbind(-1)
            hidden = covered[y.clamp(0, covered.shape[0] - 1), x.clamp(0, covered.shape[1] - 1)]
            result["visibility"] = torch.where(hidden, visibility.clamp(max=1), visibility)
        return self.following.settled(result, pixel_counts(left) / before.clamp_min(1))


ObjectMixing = Mosaic | MixUp | ObjectCopyPaste


def joined(targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first target with the objects of all, in their order; ``tags`` are those that any of them has.

    Raises:
        ArgumentError: when a key of one value an object is in some of them only; but ``weights`` are 1 where missing.
    """
    first = targets[0]
    result = dict(first)
    filled = [dict(target) for target in targets]
    if any("weights" in target for target in filled):
        for target in filled:
            target.setdefault("weights", torch.ones(len(target["labels"])))
    for key in INSTANCE_KEYS:
        values = [target[key] for target in filled if key in target]
        if not values:
            continue
        require(len(values) == len(filled), "partner", f"have '{key}' as the sample has, or neither", sorted(first))
        together = torch.cat([value.as_subclass(Tensor) for value in values])
        wrapped = isinstance(values[0], tv_tensors.TVTensor)
        result[key] = tv_tensors.wrap(together, like=values[0]) if wrapped else together
    tags = [target["tags"] for target in targets if "tags" in target]
    if tags:
        result["tags"] = torch.stack(tags).amax(dim=0)
    return result


def _over(below: Any, above: Any, where: Bool[Tensor, "H W"]) -> Any:
    """One picture or label map with another one's pixels where ``where`` holds."""
    plain = below.as_subclass(Tensor)
    return tv_tensors.wrap(torch.where(where, above.as_subclass(Tensor).to(plain.dtype), plain), like=below)


def _checked(sample: Sample, partners: Sequence[Sample]) -> tuple[int, int]:
    """The height and width of the sample, whose number of channels all must have."""
    shape = sample[0].shape
    for image, _ in partners:
        require(image.shape[0] == shape[0], "partner", f"have {shape[0]} channels like the sample", image.shape[0])
    return int(shape[-2]), int(shape[-1])

"""Two training samples made into one: what every such mixing shares, and CutMix.

A mixing takes samples ``(image, target)`` that are transformed already, so that each is scaled, flipped and coloured by
itself. All randomness comes from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import Beta
from torchvision import tv_tensors

from delineate.checks import require
from delineate.data.transforms import INSTANCE_KEYS

Sample = tuple[Any, dict[str, Any]]


class Mixing(Protocol):
    """A way to bring other samples into a sample, how often, and how many."""

    @property
    def probability(self) -> float:
        """The share of samples that are mixed."""
        ...

    @property
    def partners(self) -> int:
        """How many other samples one call takes."""
        ...

    @property
    def __call__(self) -> Callable[..., Sample]:
        """A sample and its partners to one sample; none of them is changed."""
        ...


def are_labelled_alike(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether both targets come from data that labels the same classes; others can not share one picture."""
    one, other = first.get("valid_classes"), second.get("valid_classes")
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)


def pasted(sample: Sample, partner: Sample, mask: Tensor) -> Sample:
    """``sample`` with the pixels and labels of ``partner`` where ``mask`` (H, W) holds.

    The two may differ in size: both are taken from the top left corner, and ``mask`` covers what they share. Boxes,
    instance masks and tags are left out, as they describe the picture before.
    """
    image, target = sample
    height, width = mask.shape
    mixed = image.as_subclass(Tensor).clone()
    mixed[:, :height, :width] = torch.where(
        mask, partner[0].as_subclass(Tensor)[:, :height, :width], mixed[:, :height, :width]
    )
    labels = target["semantic_mask"].as_subclass(Tensor).clone()
    others = partner[1]["semantic_mask"].as_subclass(Tensor)[:height, :width].to(labels.dtype)
    labels[:height, :width] = torch.where(mask, others, labels[:height, :width])
    kept = {key: value for key, value in target.items() if key not in (*INSTANCE_KEYS, "tags")}
    kept["semantic_mask"] = tv_tensors.Mask(labels)
    return tv_tensors.wrap(mixed, like=image) if isinstance(image, tv_tensors.TVTensor) else mixed, kept


def shared_size(sample: Sample, partner: Sample) -> tuple[int, int]:
    """The height and width that both pictures have."""
    first, second = sample[0].shape, partner[0].shape
    require(first[0] == second[0], "partner", f"have {first[0]} channels like the sample", second[0])
    return min(first[-2], second[-2]), min(first[-1], second[-1])


@dataclass(frozen=True)
class CutMix:
    """A rectangle of another sample in place of one's own, image and labels.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV
        2019, section 3.1; for label maps French et al., "Semi-supervised semantic segmentation needs strong, varied
        perturbations", BMVC 2020.
    Differs: every pixel has a label of its own, so labels are cut like pixels and none is a mixture of two.

    Args:
        probability: the share of samples that get a rectangle.
        alpha: of Beta(alpha, alpha), from which the share of the picture that stays is drawn; the paper's 1 is uniform.

    Raises:
        ArgumentError: on a probability outside 0 to 1, or an alpha that is not positive.
    """

    probability: float
    alpha: float = 1.0
    partners: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, "probability", "lie between 0 and 1", self.probability)
        require(self.alpha > 0 and math.isfinite(self.alpha), "alpha", "be positive", self.alpha)

    def __call__(self, sample: Sample, partner: Sample) -> Sample:
        """``sample`` with a rectangle of ``partner``; as it is where the two label different classes.

        The rectangle has the picture's proportions, and its centre lies anywhere: at a border less of it is left.
        """
        height, width = shared_size(sample, partner)
        stays = float(Beta(self.alpha, self.alpha).sample())
        spans = []
        for side in (height, width):
            length = round(side * math.sqrt(1 - stays))
            begin = int(torch.randint(side, ())) - length // 2
            spans.append(slice(max(begin, 0), min(begin + length, side)))
        if not are_labelled_alike(sample[1], partner[1]):
            return sample
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[spans[0], spans[1]] = True
        return pasted(sample, partner, mask)

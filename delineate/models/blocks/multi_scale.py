"""One network on the image at several sizes, its answers fused by their maximum."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.structures.outputs import SemanticOutputs


class MultiScaleInputs(nn.Module):
    """A segmenter that looks at the image at several scales, with the same weights, and takes the largest logit.

    Source: Chen et al., "DeepLab", PAMI 2018, section 3.2: branches that share their parameters, interpolated to the
    image's resolution and fused by the maximum at each position, in training and in testing; each branch's scores get
    a loss of their own, as in its released definitions (there all losses weigh the same: ``auxiliary_weight=1``).
    Differs: images are resized with pixels as areas, where the release aligns corners. The largest is taken of logits
    at the image's size, as the paper says; the release takes it of scores at stride 8, and interpolates then. Side
    heads of the segmenter itself are left out.

    Args:
        model: the segmenter; its attributes ``encoder``, ``in_channels`` and ``num_classes`` show through.
        scales: of the image's sides, above 0; sizes are rounded up, as 321 pixels to 161 and 241.

    Raises:
        ArgumentError: when there is no scale, or one is not above 0.

    Example:
        >>> class Width(nn.Module):
        ...     in_channels, num_classes = 1, 1
        ...
        ...     def forward(self, images):
        ...         return SemanticOutputs(torch.full_like(images, images.shape[-1]))
        >>> MultiScaleInputs(Width(), (0.5, 1.0, 1.5))(torch.zeros(1, 1, 1, 4)).logits.tolist()
        [[[[6.0, 6.0, 6.0, 6.0]]]]
    """

    def __init__(self, model: nn.Module, scales: Sequence[float | int] = (0.5, 0.75, 1.0)) -> None:
        super().__init__()
        require(
            len(scales) > 0 and all(scale > 0 for scale in scales), "scales", "be above 0, at least one", list(scales)
        )
        attributes: Any = model
        self.model = model
        self.in_channels: int = attributes.in_channels
        self.num_classes: int = attributes.num_classes
        # as ratios of whole numbers, so that sizes stay symbolic in an exported graph
        self.scales = tuple(Fraction(scale).limit_denominator(1000) for scale in scales)

    @property
    def encoder(self) -> nn.Module:
        """The segmenter's, which learns at a rate of its own."""
        return self.model.get_submodule("encoder")

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """The largest logits at the size of ``images``; in training also those of every scale, in their order."""
        logits = [self._at(images, scale) for scale in self.scales]
        fused = reduce(torch.maximum, logits)
        return SemanticOutputs(fused, auxiliary=tuple(logits) if self.training and len(logits) > 1 else ())

    def _at(self, images: Tensor, scale: Fraction) -> Tensor:
        if scale == 1:
            outputs: SemanticOutputs = self.model(images)
            return outputs.logits
        # rounded up, so that a single pixel stays one
        size = [(side * scale.numerator + scale.denominator - 1) // scale.denominator for side in images.shape[-2:]]
        resized = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        return F.interpolate(self.model(resized).logits, size=images.shape[-2:], mode="bilinear", align_corners=False)

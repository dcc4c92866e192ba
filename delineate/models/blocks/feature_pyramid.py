"""The feature pyramid: coarse features, which know what is there, added to fine ones, which know where."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class FeaturePyramid(nn.Module):
    """Each feature plus the coarser one, interpolated; from the coarsest down.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 3.
    Differs: nothing with 1x1 ``laterals``, 3x3 ``outputs`` and "nearest".

    Args:
        laterals: one a feature, finest first: bring it to the pyramid's width.
        outputs: one a feature, finest first: what a level returns, computed from its sum.
        mode: of the interpolation, "nearest" or "bilinear" (half a pixel at the corners, as resized images).
    """

    def __init__(self, laterals: Sequence[nn.Module], outputs: Sequence[nn.Module], *, mode: str = "nearest") -> None:
        super().__init__()
        self.laterals = nn.ModuleList(laterals)
        self.outputs = nn.ModuleList(outputs)
        self.mode = mode

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Tensor]:
        """As many features, finest first, all of the pyramid's width."""
        sums = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        for level in range(len(sums) - 2, -1, -1):
            sums[level] = sums[level] + F.interpolate(sums[level + 1], size=sums[level].shape[-2:], mode=self.mode)
        return [output(feature) for output, feature in zip(self.outputs, sums, strict=True)]

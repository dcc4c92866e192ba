"""What turns regions into features of one size: from the level of a pyramid that suits each, or from one map."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float, Int64
from torch import Tensor

from delineate.ops.roi_align import pyramid_roi_align
from delineate.ops.roi_pool import roi_pool

Pool = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]


class PyramidPool:
    """RoIAlign of each region from the level that suits its size, two samples a bin and a side.

    Args:
        strides: of the levels.
        size: bins a side.
    """

    def __init__(self, strides: Sequence[int], size: int) -> None:
        self.strides = tuple(strides)
        self.size = size

    def __call__(
        self, levels: Sequence[Tensor], boxes: Float[Tensor, "R 4"], images: Int64[Tensor, " R"]
    ) -> Float[Tensor, "R C S S"]:
        """The pooled features."""
        return pyramid_roi_align(
            levels, boxes, images, strides=self.strides, output_size=self.size, sampling_ratio=2, aligned=False
        )


class FeaturePool:
    """Max-pooling of each region of one map, on a grid of whole pixels.

    Args:
        stride: of the map.
        size: bins a side.
    """

    def __init__(self, stride: int, size: int) -> None:
        self.stride = stride
        self.size = size

    def __call__(
        self, levels: Sequence[Tensor], boxes: Float[Tensor, "R 4"], images: Int64[Tensor, " R"]
    ) -> Float[Tensor, "R C S S"]:
        """The pooled features."""
        return roi_pool(levels[0], boxes, images, output_size=self.size, spatial_scale=1 / self.stride)

"""Max-pooling that remembers where, and its reverse: values return to the pixels they were taken from.

PyTorch's own kernels are the fastest here in both memory formats, so they serve wherever they can. While a model is
exported, forms take their place that need no guess about odd and even sizes and that ONNX has; the values are the same.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional


def max_pool(
    features: Float[Tensor, "B C H W"],
) -> tuple[Float[Tensor, "B C h w"], Int64[Tensor, "B C h w"]]:
    """The maximum of each 2 x 2 window, and where it was; an odd last row or column makes windows of its own.

    Args:
        features: of any size from 1 x 1.

    Returns:
        Maxima at half the size, rounded up; indices (row * W + column) into the plane they were taken from.

    Example:
        >>> values, indices = max_pool(torch.tensor([[[[1.0, 5.0, 2.0]]]]))
        >>> values.tolist(), indices.tolist()
        ([[[[5.0, 2.0]]]], [[[[1, 2]]]])
    """
    if not torch.compiler.is_exporting():
        values, indices = functional.max_pool2d(features, 2, ceil_mode=True, return_indices=True)
        return values, indices
    height, width = features.shape[2], features.shape[3]
    even_height, even_width = 2 * ((height + 1) // 2), 2 * ((width + 1) // 2)
    padded = functional.pad(features, (0, even_width - width, 0, even_height - height), value=float("-inf"))
    values, indices = functional.max_pool2d(padded, 2, return_indices=True)
    rows = indices // even_width
    return values, indices - rows * (even_width - width)


def max_unpool(
    features: Float[Tensor, "B C h w"], indices: Int64[Tensor, "B C h w"], size: torch.Size | tuple[int, int]
) -> Float[Tensor, "B C H W"]:
    """Zeros of the given size, with each value at the pixel that its index names.

    Source: Zeiler et al., "Adaptive Deconvolutional Networks for Mid and High Level Feature Learning", ICCV 2011; the
        decoder of SegNet (Badrinarayanan et al., PAMI 2017).
    Differs: nothing; equal to ``torch.nn.functional.max_unpool2d``. That has no ONNX form and no deterministic CUDA
        form, so there the same values are scattered.

    Args:
        features: pooled, or computed from what was pooled.
        indices: from :func:`max_pool`, or ``max_pool2d(..., return_indices=True)`` of any kernel and stride. An
            index that occurs twice (overlapping windows) keeps one of its values.
        size: (height, width) of what was pooled.

    Example:
        >>> values, indices = max_pool(torch.tensor([[[[1.0, 5.0, 2.0]]]]))
        >>> max_unpool(values, indices, (1, 3)).tolist()
        [[[[0.0, 5.0, 2.0]]]]
    """
    deterministic_cuda = features.is_cuda and torch.are_deterministic_algorithms_enabled()
    if torch.compiler.is_exporting() or deterministic_cuda:
        batch, channels = features.shape[:2]
        height, width = size
        flat = features.new_zeros(batch, channels, height * width)
        return flat.scatter(2, indices.flatten(2), features.flatten(2)).view(batch, channels, height, width)
    # what functional.max_unpool2d calls once its kernel and stride have checked the size against a default one
    unpooled: Tensor = torch.ops.aten.max_unpool2d(features, indices, size)
    return unpooled

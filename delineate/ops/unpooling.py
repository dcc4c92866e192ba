"""Max-unpooling: values return to the pixels their pooling took them from."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


def max_unpool(
    features: Float[Tensor, "B C h w"], indices: Int64[Tensor, "B C h w"], size: tuple[int, int]
) -> Float[Tensor, "B C H W"]:
    """Zeros of the given size, with each value at the pixel that its index names.

    Source: Zeiler et al., "Adaptive Deconvolutional Networks for Mid and High Level Feature Learning", ICCV 2011; the
        decoder of SegNet (Badrinarayanan et al., PAMI 2017).
    Differs: nothing; equal to ``torch.nn.functional.max_unpool2d``, which serves wherever it can: PyTorch's own kernel is
        the fastest here, in both memory formats. It has no ONNX form and no deterministic CUDA form, so there the same
        values are scattered. Takes pooling with and without ``ceil_mode``, since the size is given.

    Args:
        features: pooled, or computed from what was pooled.
        indices: from ``max_pool2d(..., return_indices=True)``: row * W + column of each maximum. An index that occurs
            twice (overlapping windows) keeps one of its values.
        size: (height, width) of what was pooled.

    Example:
        >>> image = torch.tensor([[[[1.0, 5.0, 2.0]]]])
        >>> pooled, indices = F.max_pool2d(image, (1, 2), ceil_mode=True, return_indices=True)
        >>> max_unpool(pooled, indices, (1, 3)).tolist()
        [[[[0.0, 5.0, 2.0]]]]
    """
    deterministic_cuda = features.is_cuda and torch.are_deterministic_algorithms_enabled()
    if torch.compiler.is_exporting() or deterministic_cuda:
        batch, channels = features.shape[:2]
        height, width = size
        flat = features.new_zeros(batch, channels, height * width)
        return flat.scatter(2, indices.flatten(2), features.flatten(2)).view(batch, channels, height, width)
    # kernel and stride only fix a default size, which the given one replaces
    batch, channels = features.shape[:2]
    return torch.ops.aten.max_unpool2d(features, indices, list(size))

"""What a convolution says of the anchors of each place, as rows."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def anchor_rows(values: Float[Tensor, "B _ h w"], each: int) -> Float[Tensor, "B A V"]:
    """A map with several anchors a place, ``each`` numbers an anchor, as rows: place by place, row by row of the map.

    Example:
        >>> import torch
        >>> values = torch.arange(8.0).reshape(1, 4, 1, 2)  # two anchors of two numbers at two places
        >>> anchor_rows(values, 2).tolist()
        [[[0.0, 2.0], [4.0, 6.0], [1.0, 3.0], [5.0, 7.0]]]
    """
    return values.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, each))

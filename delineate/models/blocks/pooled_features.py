"""An encoder's last feature as one vector, for images of any size: means over a grid of bins, then linear layers."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.ops.pooling import average_over_bins


class PooledFeatures(nn.Module):
    """Means over bins, and fully connected layers with ReLU, each behind a dropout.

    Args:
        channels: of the feature.
        bins: a side. One forgets where things are; a few keep it.
        hidden: of each fully connected layer; none for the means themselves.
        dropout: the share that is left out.

    Attributes:
        width: of the vector.

    Raises:
        ArgumentError: when ``bins`` or a width is below 1, or ``dropout`` not from 0 to below 1.

    Example:
        >>> import torch
        >>> pooled = PooledFeatures(8, bins=2, hidden=(16,))
        >>> tuple(pooled(torch.zeros(1, 8, 5, 3)).shape)
        (1, 16)
    """

    def __init__(self, channels: int, *, bins: int, hidden: Sequence[int] = (), dropout: float | int = 0) -> None:
        super().__init__()
        require(bins >= 1, "bins", "be at least 1", bins)
        require(all(width >= 1 for width in hidden), "hidden", "be widths of at least 1", list(hidden))
        require(0 <= dropout < 1, "dropout", "be at least 0 and below 1", dropout)
        layers: list[nn.Module] = []
        width = channels * bins * bins
        for wider in hidden:
            layer = nn.Linear(width, wider)
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
            layers += [nn.Dropout(dropout), layer, nn.ReLU(inplace=True)]
            width = wider
        self.bins = bins
        self.layers = nn.Sequential(*layers)
        self.width = width

    def forward(self, feature: Float[Tensor, "B C h w"]) -> Float[Tensor, "B F"]:
        """The vector of each image."""
        pooled: Tensor = self.layers(average_over_bins(feature, self.bins).flatten(1))
        return pooled


def small_linear(inputs: int, outputs: int) -> nn.Linear:
    """A last layer that at first says little of its inputs: weights of deviation 0.01, biases 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer

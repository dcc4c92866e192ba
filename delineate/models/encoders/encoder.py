"""What an encoder is: a module that says how many channels it returns, and how far apart its pixels are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class Encoder(nn.Module):
    """A feature extractor. Decoders read its ``channels`` and ``strides`` and never its name.

    For an input whose height and width are multiples of ``strides[-1]``, feature ``i`` is exactly
    ``(H / strides[i], W / strides[i])``; other sizes are the caller's to pad, unless the
    encoder ``rounds_up``.

    Attributes:
        in_channels: channels of the images it takes.
        channels: channels of each feature, finest first.
        strides: input pixels between neighbouring feature pixels, finest first; never decreasing.
        rounds_up: whether it takes images of every size, unpadded: feature ``i`` is then ``(ceil(H / strides[i]),
            ceil(W / strides[i]))``, and its pixels lie on every ``strides[i]``-th pixel of the image from the first on.
    """

    in_channels: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    rounds_up: bool = False

    @abstractmethod
    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """The features, finest first, one for each entry of ``channels``."""


def first_coarse_feature(strides: Sequence[int], *, finest: int = 4) -> int:
    """The place of the first feature that a pyramid takes; finer ones cost much and say little of the classes.

    Args:
        strides: of the encoder's features, finest first.
        finest: the smallest stride to take; where no feature has it or a larger one, the last is taken.

    Example:
        >>> first_coarse_feature((2, 4, 8, 16, 32)), first_coarse_feature((4, 8)), first_coarse_feature((1, 2))
        (1, 0, 1)
    """
    return next((place for place, stride in enumerate(strides) if stride >= finest), len(strides) - 1)

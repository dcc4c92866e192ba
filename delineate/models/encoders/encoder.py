"""What an encoder is: a module that says how many channels it returns, and how far apart its pixels are."""

from __future__ import annotations

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Encoder(nn.Module):
    """A feature extractor. Decoders read its ``channels`` and ``strides`` and never its name.

    For an input whose height and width are multiples of ``strides[-1]``, feature ``i`` is exactly
    ``(H / strides[i], W / strides[i])``; other sizes are the caller's to pad.

    Attributes:
        in_channels: channels of the images it takes.
        channels: channels of each feature, finest first.
        strides: input pixels between neighbouring feature pixels, finest first; never decreasing.
    """

    in_channels: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @abstractmethod
    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """The features, finest first, one for each entry of ``channels``."""

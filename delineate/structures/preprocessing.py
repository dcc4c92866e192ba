"""How pixel values become a model's input; stored with the weights, so that prediction repeats training exactly."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from delineate.checks import require

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Pixels 0..255 to floats: ``(x / 255 - mean) / std``, channel by channel.

    Args:
        mean: one value a channel, in units of the full range 0..1; one channel means images are read as greyscale.
        std: as ``mean``, positive.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        require(
            len(self.mean) == len(self.std) > 0,
            "std",
            f"have as many channels as mean ({len(self.mean)})",
            len(self.std),
        )
        require(all(v > 0 for v in self.std), "std", "be positive", self.std)

    @property
    def channels(self) -> int:
        """The number of image channels the model takes."""
        return len(self.mean)

    @classmethod
    def for_channels(cls, channels: int) -> Preprocessing:
        """ImageNet statistics for three channels; their mean over channels, repeated, for any other number."""
        if channels == 3:
            return cls()
        mean, std = sum(IMAGENET_MEAN) / 3, sum(IMAGENET_STD) / 3
        return cls((mean,) * channels, (std,) * channels)

    def __call__(
        self, images: UInt8[Tensor, "*B C H W"], *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "*B C H W"]:
        """The model's input; on the device of ``images``, in the memory format they came in."""
        require(images.shape[-3] == self.channels, "images", f"have {self.channels} channels", images.shape[-3])
        mean = torch.tensor(self.mean, device=images.device).mul_(255).view(-1, 1, 1)
        scale = torch.tensor(self.std, device=images.device).mul_(255).reciprocal_().view(-1, 1, 1)
        return images.float().sub_(mean).mul_(scale).to(dtype)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of :meth:`to_dict`."""
        return cls(tuple(values["mean"]), tuple(values["std"]))

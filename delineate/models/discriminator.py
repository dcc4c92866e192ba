"""The adversary of adversarial segmentation: tells true label maps from predicted ones, window by window.

Source: Luc, Couprie, Chintala, Verbeek, "Semantic Segmentation using Adversarial Networks", NIPS Workshop on
Adversarial Training 2016 (arXiv:1611.08408): fields of view of 34 x 34 and of 18 x 18 positions of the label map.
Differs: only the fields of view are the paper's. Number and widths of the layers are ours; means for poolings and leaky
ReLU (0.2), as in later discriminators, pass a gradient to every pixel.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.registry import unknown_name

FIELDS = {"large": 34, "small": 18}
LEAST_SIDE = 4  # two poolings of two


class Discriminator(nn.Module):
    """Six convolutions with two poolings; the last scores whether the window it sees is true.

    Args:
        in_channels: of the label map and what goes with it.
        field: "large", 34 x 34 positions, or "small", 18 x 18.
        width: channels of the first layer; the others have twice and four times as many.

    Raises:
        UnknownNameError: on another field.

    Example:
        >>> from delineate.explain.receptive_field import receptive_field
        >>> receptive_field(Discriminator(11, field="small"), in_channels=11, size=(64, 64)).size
        (18, 18)
    """

    def __init__(self, in_channels: int, *, field: str = "large", width: int = 64) -> None:
        super().__init__()
        if field not in FIELDS:
            raise unknown_name("field", field, FIELDS)
        require(width >= 1, "width", "be at least 1", width)
        last = 3 if field == "large" else 1

        def layer(before: int, after: int, kernel_size: int) -> list[nn.Module]:
            convolution = nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2)
            nn.init.kaiming_normal_(convolution.weight, a=0.2)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            return [convolution, nn.LeakyReLU(0.2, inplace=True)]

        self.layers = nn.Sequential(
            *layer(in_channels, width, 5),
            *layer(width, width, 3),
            nn.AvgPool2d(2),
            *layer(width, 2 * width, 3),
            *layer(2 * width, 2 * width, 3),
            nn.AvgPool2d(2),
            *layer(2 * width, 4 * width, last),
            nn.Conv2d(4 * width, 1, last, padding=last // 2),
        )

    def forward(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 h w"]:
        """One score a window, at a quarter of the size (at least one): positive where it takes the map for true."""
        height, width = maps.shape[-2:]
        padding = (0, max(0, LEAST_SIDE - width), 0, max(0, LEAST_SIDE - height))
        scores: Tensor = self.layers(F.pad(maps, padding))
        return scores

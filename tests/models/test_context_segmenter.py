from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.models.context_segmenter import ContextSegmenter
from delineate.models.encoders.encoder import Encoder


class EveryFourthPixel(Encoder):
    """The image itself at strides 2 and 4, so that one can see where each pixel goes."""

    in_channels, channels, strides = 1, (1, 1), (2, 4)

    def __init__(self, rounds_up: bool) -> None:
        super().__init__()
        self.rounds_up = rounds_up
        self.seen: tuple[int, ...] = ()

    def forward(self, images: Tensor) -> list[Tensor]:
        self.seen = tuple(images.shape[-2:])
        if self.rounds_up:
            return [images[..., ::2, ::2], images[..., ::4, ::4]]
        return [F.avg_pool2d(images, 2), F.avg_pool2d(images, 4)]


def segmenter(*, rounds_up: bool, align_corners: bool, auxiliary: nn.Module | None = None) -> ContextSegmenter:
    return ContextSegmenter(
        EveryFourthPixel(rounds_up),
        nn.Identity(),
        nn.Identity(),
        num_classes=1,
        auxiliary=auxiliary,
        align_corners=align_corners,
    )


@pytest.mark.parametrize("size", [(1, 1), (9, 13), (10, 12), (11, 7)])
def test_aligned_corners_put_every_feature_on_its_pixel(size: tuple[int, int]) -> None:
    model = segmenter(rounds_up=True, align_corners=True)
    images = torch.rand(2, 1, *size)
    logits = model(images).logits
    assert logits.shape == images.shape
    torch.testing.assert_close(logits[..., ::4, ::4], images[..., ::4, ::4])
    assert [side % 4 for side in model.encoder.seen] == [1, 1]
    assert all(0 <= padded - side < 4 for padded, side in zip(model.encoder.seen, size, strict=True))


def test_a_ramp_stays_a_ramp() -> None:
    ramp = torch.arange(13.0).expand(1, 1, 5, 13)
    torch.testing.assert_close(segmenter(rounds_up=True, align_corners=True)(ramp).logits, ramp)
    # means of four pixels each, half a pixel from the border: the inner part is exact
    ramp = torch.arange(16.0).expand(1, 1, 4, 16)
    logits = segmenter(rounds_up=False, align_corners=True)(ramp).logits
    torch.testing.assert_close(logits[..., 2:-2], ramp[..., 2:-2])


@pytest.mark.parametrize(
    ("rounds_up", "seen"),
    [(True, (10, 13)), (False, (12, 16))],
)
def test_only_encoders_that_need_it_get_padding(rounds_up: bool, seen: tuple[int, int]) -> None:
    model = segmenter(rounds_up=rounds_up, align_corners=False)
    images = torch.rand(1, 1, 10, 13)
    assert model(images).logits.shape == images.shape
    assert model.encoder.seen == seen


def test_the_second_classifier_takes_the_stage_before_in_training() -> None:
    model = segmenter(rounds_up=True, align_corners=True, auxiliary=nn.Identity())
    images = torch.rand(1, 1, 9, 9)
    outputs = model.train()(images)
    (side,) = outputs.auxiliary
    torch.testing.assert_close(side[..., ::2, ::2], images[..., ::2, ::2])
    assert model.eval()(images).auxiliary == ()
    assert (model.in_channels, model.num_classes) == (1, 1)

from __future__ import annotations

import torch
from torch import Tensor, nn

from delineate.models.encoder_decoder import EncoderDecoder, SegmentationHead
from delineate.models.encoders.encoder import Encoder


class Pixels(Encoder):
    """Every eighth pixel; remembers what it was given."""

    channels, strides, in_channels = (2,), (8,), 2

    def forward(self, images: Tensor) -> list[Tensor]:
        self.seen = images
        return [images[..., ::8, ::8]]


class Last(nn.Module):
    def forward(self, features: list[Tensor]) -> Tensor:
        return features[-1]


def build(num_classes: int = 3) -> EncoderDecoder:
    return EncoderDecoder(Pixels(), Last(), SegmentationHead(2, num_classes, kernel_size=1, scale=8))


def test_pads_with_the_border_to_the_stride_and_crops_back() -> None:
    model = build()
    images = torch.randn(1, 2, 9, 15)
    assert model(images).logits.shape == (1, 3, 9, 15)
    seen = model.encoder.seen
    assert seen.shape == (1, 2, 16, 16)
    assert torch.equal(seen[..., :9, :15], images)
    assert torch.equal(seen[..., 9:, :15], images[..., 8:, :].expand(-1, -1, 7, -1))


def test_one_pixel_is_an_image() -> None:
    model = build()
    images = torch.randn(1, 2, 1, 1)
    expected = model.head.classify(images)
    torch.testing.assert_close(model(images).logits, expected)


def test_says_what_it_takes_and_returns() -> None:
    model = build(num_classes=7)
    assert (model.in_channels, model.num_classes) == (2, 7)


@torch.no_grad()
def test_head_interpolates_with_or_without_aligned_corners() -> None:
    for align_corners, expected in ((False, [0.0, 0.25, 0.75, 1.0]), (True, [0.0, 1 / 3, 2 / 3, 1.0])):
        head = SegmentationHead(1, 1, kernel_size=1, scale=2, align_corners=align_corners)
        head.classify.weight.fill_(1)
        row = head(torch.tensor([[[[0.0, 1.0]]]]))[0, 0, 0]
        torch.testing.assert_close(row, torch.tensor(expected))

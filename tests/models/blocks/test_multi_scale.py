from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.models.blocks.multi_scale import MultiScaleInputs
from delineate.structures.outputs import SemanticOutputs


class Scorer(nn.Module):
    """One convolution; remembers the sizes it was asked for."""

    in_channels, num_classes = 3, 4

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3, padding=1)
        self.sizes: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> SemanticOutputs:
        self.sizes.append(tuple(images.shape[-2:]))
        return SemanticOutputs(self.encoder(images))


def test_fuses_by_hand() -> None:
    model = Scorer()
    scaled = MultiScaleInputs(model, (0.5, 0.75, 1))
    images = torch.randn(2, 3, 21, 10)
    outputs = scaled.train()(images)
    assert model.sizes == [(11, 5), (16, 8), (21, 10)]
    expected = []
    for size in model.sizes:
        resized = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        expected.append(F.interpolate(model.encoder(resized), size=(21, 10), mode="bilinear", align_corners=False))
    torch.testing.assert_close(outputs.auxiliary, tuple(expected))
    torch.testing.assert_close(outputs.logits, torch.stack(expected).amax(0))
    assert scaled.eval()(images).auxiliary == ()


def test_sizes_of_the_release_at_321_pixels() -> None:
    model = Scorer()
    MultiScaleInputs(model)(torch.zeros(1, 3, 321, 321))
    assert [height for height, _ in model.sizes] == [161, 241, 321]


def test_one_scale_of_one_is_the_model_itself() -> None:
    model, images = Scorer(), torch.randn(1, 3, 1, 1)
    scaled = MultiScaleInputs(model, [1.0]).train()
    assert torch.equal(scaled(images).logits, model(images).logits)
    assert scaled(images).auxiliary == ()


def test_the_models_attributes_show_through() -> None:
    model = Scorer()
    scaled = MultiScaleInputs(model)
    assert scaled.encoder is model.encoder
    assert (scaled.in_channels, scaled.num_classes) == (3, 4)


@pytest.mark.parametrize("scales", [[], [1.0, 0.0]])
def test_refuses_scales_that_are_none(scales: list[float]) -> None:
    with pytest.raises(ArgumentError, match=r"scales must be above 0, at least one; got \["):
        MultiScaleInputs(Scorer(), scales)

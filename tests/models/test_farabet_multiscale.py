from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.models.farabet_multiscale import farabet_multiscale, laplacian_pyramid, locally_normalised, yuv
from tests.models.segmenter import SegmenterTests


class TestFarabetMultiscale(SegmenterTests):
    name = "farabet_multiscale"
    options = {"channels": [4, 8, 16], "hidden_channels": 32}
    published = [({"num_classes": 33}, 1_676_961)]  # by arithmetic, all maps connected


def test_yuv_of_the_primary_colours() -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]])[..., None, None]
    expected = torch.tensor([[0.299, -0.147, 0.615], [0.587, -0.289, -0.515], [0.114, 0.436, -0.1], [0.5, 0, 0]])
    torch.testing.assert_close(yuv(colours)[..., 0, 0], expected, atol=1e-3, rtol=0)


def test_the_pyramid_adds_up_to_the_image() -> None:
    images = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    fine, middle, coarse = laplacian_pyramid(images, 3)
    assert (middle.shape[2:], coarse.shape[2:]) == ((12, 20), (6, 10))

    def double(level):
        return F.interpolate(level, scale_factor=2, mode="bilinear", align_corners=False)

    torch.testing.assert_close(fine + double(middle + double(coarse)), images)


def test_the_pyramid_halves_with_its_filter() -> None:
    """Against NumPy: each coarser pixel is centred on four finer ones and weighs them 1 3 3 1 over 8."""
    image = np.random.default_rng(0).normal(size=(8, 6))
    _, coarse = laplacian_pyramid(torch.from_numpy(image)[None, None], 2)
    padded = np.pad(image, 1, mode="edge")
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    expected = [[(padded[2 * y : 2 * y + 4, 2 * x : 2 * x + 4] * taps).sum() for x in range(3)] for y in range(4)]
    np.testing.assert_allclose(coarse[0, 0].numpy(), expected)


def test_all_scales_see_a_ramp_at_the_same_place() -> None:
    """A linear ramp has nothing to add at the finer scales but at the border, and its coarse values are its means."""
    ramp = torch.arange(32.0, dtype=torch.float64).expand(1, 1, 16, 32)
    fine, coarse = laplacian_pyramid(ramp, 2)
    assert fine[..., 4:-4].abs().max() < 1e-12
    assert coarse[0, 0, 0, 3].item() == pytest.approx(6.5)


def test_local_normalisation_equals_a_loop() -> None:
    image = np.random.default_rng(1).normal(2.0, 3.0, size=(20, 17))
    found = locally_normalised(torch.from_numpy(image)[None, None])[0, 0].numpy()
    for row in range(20):
        for column in range(17):
            patch = image[max(0, row - 7) : row + 8, max(0, column - 7) : column + 8]
            assert found[row, column] == pytest.approx((image[row, column] - patch.mean()) / patch.std())


def test_local_normalisation_forgets_brightness_and_contrast() -> None:
    images = torch.randn(1, 2, 40, 40, dtype=torch.float64)
    torch.testing.assert_close(locally_normalised(5 * images - 3), locally_normalised(images))
    flat = locally_normalised(torch.full((1, 1, 30, 30), 1e3) + 1e-6)
    assert flat.abs().max() < 1e-3


def test_a_feature_sees_46_pixels_of_its_scale() -> None:
    network = farabet_multiscale(2, channels=[2, 2, 2]).network.double()
    for layer in network:
        if hasattr(layer, "weight"):
            torch.nn.init.constant_(layer.weight, 0.01)
    seen = torch.zeros(80, 80, dtype=torch.bool)
    for _ in range(40):  # a pooling passes the gradient to one pixel of four
        images = torch.rand(1, 3, 80, 80, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(network(images)[0, 0, 10, 10], images)
        seen |= gradient[0].any(0)
    rows = seen.any(1).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == 46


def test_scales_share_their_weights_and_are_joined_at_the_finest_size() -> None:
    model = farabet_multiscale(2, channels=[2, 3, 5], hidden_channels=7).double()
    images = torch.randn(1, 3, 32, 48, dtype=torch.float64)
    joined = model.features(images)
    assert joined.shape == (1, 15, 8, 12)
    for scale, level in enumerate(laplacian_pyramid(yuv(images), 3)):
        own = model.network(locally_normalised(level))
        assert own.shape[2:] == (8 >> scale, 12 >> scale)
        expected = F.interpolate(own, size=(8, 12), mode="bilinear", align_corners=False)
        torch.testing.assert_close(joined[:, 5 * scale : 5 * scale + 5], expected)


@torch.no_grad()
def test_only_three_channels_are_colours() -> None:
    model = farabet_multiscale(2, in_channels=1, channels=[2, 3, 4], hidden_channels=5, scales=1).double()
    images = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(model.features(images), model.network(locally_normalised(images)))


def test_errors() -> None:
    with pytest.raises(ArgumentError, match="scales must be at least 1; got 0"):
        farabet_multiscale(2, scales=0)
    with pytest.raises(ArgumentError, match=r"channels must hold three widths, one a stage; got \[8, 16\]"):
        farabet_multiscale(2, channels=[8, 16])
    with pytest.raises(ArgumentError, match="hidden_channels must be at least 1; got 0"):
        farabet_multiscale(2, hidden_channels=0)

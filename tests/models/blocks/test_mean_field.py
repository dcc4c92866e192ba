"""The layer against the equations of the dense CRF with exact Gaussians, and its gradients against differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.models.blocks.mean_field import MeanField


def exact_kernel(features: Tensor) -> Tensor:
    """Every pair of points; rows add up to 1."""
    kernel = torch.exp(-torch.cdist(features, features).square() / 2)
    return kernel / kernel.sum(1, keepdim=True)


def features_of(pixels: Tensor) -> tuple[Tensor, Tensor]:
    height, width = pixels.shape[-2:]
    places = torch.tensor([[x, y] for y in range(height) for x in range(width)], dtype=pixels.dtype)
    return places, pixels.flatten(1).T


def two_halves(height: int = 12, width: int = 16) -> tuple[Tensor, Tensor]:
    """A picture dark on the left and bright on the right, and logits that say so with much noise."""
    side = (torch.arange(width) >= width // 2).double().expand(height, width)
    pixels = 40 + 150 * side.expand(1, 3, height, width)
    signal = torch.stack([1 - side, side])[None]
    return pixels, signal + torch.randn(1, 2, height, width, dtype=torch.float64)


def test_is_near_the_mean_field_with_exact_gaussians():
    pixels, unary = two_halves()
    layer = MeanField(2, theta_alpha=20, theta_beta=10).double().eval()
    found = layer(unary, pixels).softmax(1)
    places, colours = features_of(pixels[0])
    spatial = exact_kernel(places / 3)
    bilateral = exact_kernel(torch.cat([places / 20, colours / 10], dim=1))
    scores = unary[0].flatten(1).T
    logits = scores
    for _ in range(10):
        q = logits.softmax(1)
        logits = scores + 3 * spatial @ q + 5 * bilateral @ q
    wanted = logits.softmax(1).T.unflatten(1, (12, 16))
    assert (found[0] - wanted).abs().mean() < 0.02
    assert (found[0].argmax(0) == wanted.argmax(0)).double().mean() > 0.97
    # and it did something: noise is gone, both halves are whole
    right = (torch.arange(16) >= 8).expand(12, 16)
    assert (unary[0].argmax(0) == right).double().mean() < 0.9
    assert (found[0].argmax(0) == right).double().mean() > 0.97


def test_one_iteration_by_hand_where_all_pixels_are_alike():
    layer = MeanField(2, iterations=1, spatial_weight=1, bilateral_weight=2).double().train()
    with torch.no_grad():
        layer.compatibility.copy_(
            torch.tensor([[0.0, 1.0], [0.5, 0.0]])
        )  # what a pixel pays for neighbours of the other
    unary = torch.zeros(1, 2, 3, 4, dtype=torch.float64)
    unary[:, 1] = torch.tensor(3.0).log()  # q = 1/4, 3/4 everywhere, so filters change nothing
    found = layer(unary, torch.full((1, 3, 3, 4), 7.0))
    assert torch.allclose(found[:, 0], torch.tensor(0 - 1.0 * 3 * 0.75, dtype=torch.float64))
    assert torch.allclose(found[:, 1], unary[:, 1] - 0.5 * 3 * 0.25)


def test_gradients_are_those_of_differences():
    layer = MeanField(3, iterations=2, theta_alpha=4, theta_beta=20, theta_gamma=2).double()
    unary = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    pixels = torch.rand(1, 3, 2, 3, dtype=torch.float64) * 100
    with torch.no_grad():
        for weights in layer.parameters():
            weights += 0.3 * torch.randn_like(weights)
    names = [name for name, _ in layer.named_parameters()]
    assert names == ["spatial_weights", "bilateral_weights", "compatibility"]

    def refined(unary: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (unary, pixels))

    weights = [weight.detach().clone().requires_grad_() for weight in layer.parameters()]
    assert torch.autograd.gradcheck(refined, (unary, *weights))


def test_double_and_single_precision_agree():
    pixels, unary = two_halves()
    layer = MeanField(2, theta_alpha=20, theta_beta=10).eval()
    single = layer(unary.float(), pixels.float())
    double = layer.double()(unary, pixels)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double.detach(), atol=1e-3, rtol=1e-3)


def test_training_and_evaluation_iterate_as_often_as_they_are_told():
    pixels, unary = two_halves()
    layer = MeanField(2, iterations=2, test_iterations=4).double()
    twice, often = layer.train()(unary, pixels), layer.eval()(unary, pixels)
    assert not torch.allclose(twice, often)
    layer.iterations = 4
    assert torch.equal(layer.train()(unary, pixels), often)


def test_without_weights_nothing_changes_and_images_of_a_batch_do_not_meet():
    pixels, unary = two_halves()
    idle = MeanField(2, spatial_weight=0, bilateral_weight=0).double()
    assert torch.equal(idle(unary, pixels), unary)
    layer = MeanField(2).double()
    other = torch.rand_like(pixels) * 255
    both = layer(torch.cat([unary, unary.flip(1)]), torch.cat([pixels, other]))
    torch.testing.assert_close(both[:1], layer(unary, pixels))
    torch.testing.assert_close(both[1:], layer(unary.flip(1), other))


def test_classes_may_be_renamed_and_a_constant_added():
    pixels, unary = two_halves()
    layer = MeanField(2).double()
    found = layer(unary, pixels)
    torch.testing.assert_close(layer(unary.flip(1), pixels).flip(1), found)
    torch.testing.assert_close(layer(unary + 5, pixels), found + 5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1)])
def test_small_images_of_any_channels(size):
    layer = MeanField(4)
    found = layer(torch.randn(1, 4, *size), torch.rand(1, 6, *size) * 255)
    assert found.shape == (1, 4, *size)
    assert found.isfinite().all()


def test_half_precision_is_computed_in_single():
    pixels, unary = two_halves()
    layer = MeanField(2).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(unary.bfloat16(), pixels.float())
    assert found.dtype == torch.float32
    assert torch.equal(found, layer(unary.bfloat16().float(), pixels.float()))


def test_learns_which_classes_go_together():
    """Label 1 is always seen as 2: only the compatibilities can say so where the unary logits are fixed."""
    pixels, _ = two_halves()
    unary = torch.zeros(1, 3, 12, 16)
    unary[:, 2] = 1
    target = torch.ones(1, 12, 16, dtype=torch.long)
    layer = MeanField(3).train()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(layer(unary, pixels.float()), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert (layer(unary, pixels.float()).argmax(1) == 1).all()


@pytest.mark.gpu
def test_a_gpu_gives_the_same():
    pixels, unary = two_halves()
    layer = MeanField(2).eval()
    expected = layer(unary.float(), pixels.float())
    found = layer.cuda()(unary.float().cuda(), pixels.float().cuda())
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"iterations": 0}, "iterations must be a whole number, at least 1; got 0"),
        ({"test_iterations": -1}, "test_iterations must be a whole number, at least 1; got -1"),
        ({"theta_alpha": 0}, "theta_alpha must be above 0; got 0"),
        ({"theta_beta": float("nan")}, "theta_beta must be above 0; got nan"),
        ({"theta_gamma": -3.0}, "theta_gamma must be above 0; got -3.0"),
    ],
)
def test_options_that_cannot_be(options, text):
    with pytest.raises(ArgumentError, match=text):
        MeanField(2, **options)


def test_images_that_do_not_fit_or_are_no_numbers():
    layer = MeanField(2)
    with pytest.raises(
        ArgumentError, match=r"pixels must be of the batch and size of unary, \(1, 4, 5\); got \(1, 5, 4\)"
    ):
        layer(torch.zeros(1, 2, 4, 5), torch.zeros(1, 3, 5, 4))
    with pytest.raises(ArgumentError, match="features must be finite"):
        layer(torch.zeros(1, 2, 4, 5), torch.full((1, 3, 4, 5), float("nan")))

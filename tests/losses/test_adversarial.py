from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.adversarial import (
    INPUTS,
    adversary_channels,
    adversary_input,
    deception_loss,
    discrimination_loss,
    scaled_label_map,
    true_label_map,
)


def test_true_map_by_hand() -> None:
    truth = true_label_map(torch.tensor([[[0, 2, 255]]]), 3)
    assert truth[0, :, 0].T.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_scaled_map_by_hand() -> None:
    truth = true_label_map(torch.tensor([[[0, 1, 255]]]), 3)
    probs = torch.tensor([[0.2, 0.6, 0.2], [0.02, 0.95, 0.03], [0.3, 0.3, 0.4]]).T[None, :, None]
    scaled = scaled_label_map(truth, probs, tau=0.9)[0, :, 0].T
    expected = [[0.9, 0.075, 0.025], [0.02, 0.95, 0.03], [0, 0, 0]]
    torch.testing.assert_close(scaled, torch.tensor(expected))


def test_scaled_map_is_the_nearest_distribution() -> None:
    """Among distributions that give the true class tau or more, none has a smaller divergence from the prediction."""
    torch.manual_seed(0)
    probs = torch.rand(1, 4, 1, 20).softmax(1).double()
    truth = true_label_map(torch.randint(0, 4, (1, 1, 20)), 4).double()
    scaled = scaled_label_map(truth, probs, tau=0.7)
    torch.testing.assert_close(scaled.sum(1), torch.ones(1, 1, 20, dtype=torch.float64))
    assert ((scaled * truth).sum(1) >= 0.7 - 1e-9).all()

    def divergence(other: torch.Tensor) -> torch.Tensor:
        return (other * (other / probs).log()).sum(1)

    for _ in range(50):
        other = torch.rand(1, 4, 1, 20, dtype=torch.float64) * (1 - truth)
        other = 0.3 * other / other.sum(1, keepdim=True) + 0.7 * truth
        assert (divergence(scaled) <= divergence(other) + 1e-12).all()


def test_a_sure_and_right_prediction_is_its_own_scaled_map() -> None:
    truth = true_label_map(torch.tensor([[[1]]]), 2)
    assert scaled_label_map(truth, truth.clone()).flatten().tolist() == [0, 1]


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs(kind: str) -> None:
    maps, images = torch.rand(2, 4, 3, 5), torch.rand(2, 3, 3, 5)
    shown = adversary_input(kind, maps, images)
    assert shown.shape[1] == adversary_channels(kind, 4, 3)
    if kind == "product":
        torch.testing.assert_close(shown[:, 3 * 2 + 1], maps[:, 2] * images[:, 1])
    else:
        torch.testing.assert_close(shown, torch.cat([maps, images], 1))


def test_losses_are_binary_cross_entropies() -> None:
    true, predicted = torch.randn(2, 1, 3, 4), torch.randn(2, 1, 3, 4)
    entropy = F.binary_cross_entropy_with_logits
    expected = entropy(true, torch.ones_like(true)) + entropy(predicted, torch.zeros_like(predicted))
    torch.testing.assert_close(discrimination_loss(true, predicted), expected)
    torch.testing.assert_close(deception_loss(predicted), entropy(predicted, torch.ones_like(predicted)))
    assert deception_loss(torch.full((1, 1, 1, 1), -1e4)).isfinite()


def test_errors() -> None:
    maps = torch.rand(1, 2, 3, 3)
    with pytest.raises(UnknownNameError, match=r"adversary input must be a known name; got 'basik'. Did you mean 'bas"):
        adversary_input("basik", maps, maps)
    with pytest.raises(ArgumentError, match=r"tau must be above 0 and at most 1; got 0"):
        scaled_label_map(maps, maps, tau=0)

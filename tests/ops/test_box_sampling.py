from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from delineate.errors import ArgumentError
from delineate.ops.box_sampling import hard_negatives, sample_balanced


def matches(seed, count, share=0.1):
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.rand(count, generator=generator)
    rows = torch.randint(0, 5, (count,), generator=generator)
    return torch.where(kinds < share, rows, torch.where(kinds < 0.8, -1, -2))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
@pytest.mark.parametrize(("count", "positive_share"), [(256, 0.5), (512, 0.25), (5000, 0.25)])
def test_draws_what_torchvision_draws(share, count, positive_share):
    some = matches(0, 2000, share)
    labels = torch.where(some >= 0, 1, torch.where(some == -1, 0, -1))
    torch.manual_seed(7)
    positives, negatives = BalancedPositiveNegativeSampler(count, positive_share)([labels])
    torch.manual_seed(7)
    sample = sample_balanced(some, count=count, positive_share=positive_share)
    assert torch.equal(sample.positives.sort().values, positives[0].nonzero()[:, 0])
    assert torch.equal(sample.negatives.sort().values, negatives[0].nonzero()[:, 0])


def test_background_fills_the_places_of_missing_positives():
    some = torch.tensor([-1] * 50 + [3] + [-2] * 20)
    sample = sample_balanced(some, count=20, positive_share=0.5)
    assert sample.positives.tolist() == [50]
    assert len(sample.negatives.unique()) == 19
    assert int(sample.negatives.max()) < 50
    only = sample_balanced(torch.full((9,), -2), count=20, positive_share=0.5)
    assert len(only.positives) == len(only.negatives) == 0
    assert len(sample_balanced(torch.zeros(0, dtype=torch.int64), count=4, positive_share=0.5).negatives) == 0


def test_every_anchor_has_its_turn():
    some = torch.tensor([0, 1, -1, -1, -1])
    samples = [sample_balanced(some, count=2, positive_share=0.5) for _ in range(60)]
    assert {int(sample.positives[0]) for sample in samples} == {0, 1}
    assert {int(sample.negatives[0]) for sample in samples} == {2, 3, 4}


def test_hard_negatives_by_hand():
    losses = torch.tensor([[5.0, 1, 4, 3, 2], [5, 1, 4, 3, 2], [5, 1, 4, 3, 2]])
    positive = torch.tensor([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]], dtype=torch.bool)
    found = hard_negatives(losses, positive, ratio=2)
    assert found.int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 1]]
    found = hard_negatives(losses, positive, ratio=2, least=3)
    assert found.int().tolist() == [[0, 0, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    ignored = torch.zeros_like(positive)
    ignored[:, 2] = True
    found = hard_negatives(losses, positive, ratio=1.5, ignored=ignored)
    assert found.int().tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 1]]


def test_hard_negatives_equal_the_ranking():
    """SSD's own way: rank by loss, keep ranks below three times the positives."""
    losses, positive = torch.rand(4, 300), torch.rand(4, 300) < 0.05
    found = hard_negatives(losses, positive)
    ranks = losses.masked_fill(positive, -torch.inf).sort(1, descending=True).indices.sort(1).indices
    assert torch.equal(found, ranks < 3 * positive.sum(1, keepdim=True))
    assert (found.sum(1) == 3 * positive.sum(1)).all()
    assert not (found & positive).any()


def test_equal_losses_and_empty_batches():
    positive = torch.zeros(1, 6, dtype=torch.bool)
    assert hard_negatives(torch.ones(1, 6), positive, least=2).int().tolist() == [[1, 1, 0, 0, 0, 0]]
    assert hard_negatives(torch.zeros(0, 6), torch.zeros(0, 6, dtype=torch.bool)).shape == (0, 6)
    assert hard_negatives(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), least=3).shape == (2, 0)


def test_errors():
    with pytest.raises(ArgumentError, match=r"count must be above 0; got 0"):
        sample_balanced(torch.tensor([0]), count=0, positive_share=0.5)
    with pytest.raises(ArgumentError, match=r"positive_share must lie between 0 and 1; got 25"):
        sample_balanced(torch.tensor([0]), count=4, positive_share=25)
    with pytest.raises(ArgumentError, match=r"ratio must be 0 or more; got -1"):
        hard_negatives(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool), ratio=-1)

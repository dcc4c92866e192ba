from __future__ import annotations

import math

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.cross_entropy import cross_entropy
from delineate.losses.ohem_cross_entropy import OhemCrossEntropy, hard_pixels, ohem_cross_entropy
from tests.losses.semantic_loss import SemanticLossTester, random_batch


class TestOhemCrossEntropy(SemanticLossTester):
    loss = OhemCrossEntropy
    variants = (
        {},
        {"threshold": 0.3, "min_share": 0.5, "class_weights": [0.5, 2.0, 0.0, 1.0]},
        {"threshold": 0, "min_share": 0.25},
    )
    split_variants = ({"min_share": 0}, {"min_share": 0, "threshold": 0.2, "class_weights": [0.5, 2.0, 0.5, 1.0]})


def probabilities(*values: float) -> torch.Tensor:
    """Logits of two classes, the first with these probabilities."""
    first = torch.tensor(values, dtype=torch.float64)
    return torch.stack([first, 1 - first]).log().reshape(1, 2, 1, -1)


@pytest.mark.parametrize(
    ("threshold", "min_share", "kept"),
    [
        (0.7, 0, (0.2, 0.5)),
        (0.7, 0.5, (0.2, 0.5)),
        (0.7, 0.51, (0.2, 0.5, 0.8)),  # of four, a share of 0.51 is three
        (0, 0.25, (0.2,)),
        (0.1, 0, ()),
        (0.1, 0.01, (0.2,)),
        (1, 0, (0.2, 0.5, 0.8, 0.9)),
    ],
)
def test_by_hand(threshold: float, min_share: float, kept: tuple[float, ...]):
    logits = torch.cat([probabilities(0.9, 0.2, 0.8, 0.5), probabilities(0.01)], dim=3)
    target = torch.tensor([[[0, 0, 0, 0, 255]]])
    value = ohem_cross_entropy(logits, target, threshold=threshold, min_share=min_share)
    expected = -sum(math.log(p) for p in kept) / max(len(kept), 1)
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_weights_count_above_and_below_the_line():
    logits, target = probabilities(0.2, 0.6, 0.9), torch.tensor([[[0, 1, 0]]])  # p_t = 0.2, 0.4, 0.9
    value = ohem_cross_entropy(logits, target, min_share=0, class_weights=torch.tensor([1.0, 3.0]))
    assert value.item() == pytest.approx(-(math.log(0.2) + 3 * math.log(0.4)) / 4, rel=1e-9)


@pytest.mark.parametrize("options", [{"threshold": 1}, {"threshold": 0, "min_share": 1}])
def test_keeping_everything_is_cross_entropy(options):
    logits, target = random_batch()
    torch.testing.assert_close(ohem_cross_entropy(logits, target, **options), cross_entropy(logits, target))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_the_top_share_equals_topk(share: float):
    logits, target = random_batch()
    values = torch.nn.functional.cross_entropy(logits, target, ignore_index=255, reduction="none")[target != 255]
    expected = values.topk(math.ceil(share * len(values))).values.mean()
    torch.testing.assert_close(ohem_cross_entropy(logits, target, threshold=0, min_share=share), expected)


def test_ties_are_kept_together():
    counted = torch.tensor([True, True, True, False])
    kept = hard_pixels(torch.tensor([2.0, 2.0, 1.0, 0.0]), counted, threshold=0, min_share=0.1)
    assert kept.tolist() == [True, True, False, False]


def test_easy_pixels_get_no_gradient():
    logits = probabilities(0.9, 0.2, 0.8, 0.5).requires_grad_()
    ohem_cross_entropy(logits, torch.zeros(1, 1, 4, dtype=torch.long)).backward()
    assert (logits.grad[0, 0, 0] != 0).tolist() == [False, True, False, True]


def test_errors():
    with pytest.raises(ArgumentError, match=r"threshold must lie in 0\.\.1; got 1\.5"):
        OhemCrossEntropy(threshold=1.5)
    with pytest.raises(ArgumentError, match=r"min_share must lie in 0\.\.1; got 100000"):
        OhemCrossEntropy(min_share=100_000)
    with pytest.raises(ArgumentError, match=r"min_share must be above 0 where threshold is 0; got 0"):
        OhemCrossEntropy(threshold=0, min_share=0)

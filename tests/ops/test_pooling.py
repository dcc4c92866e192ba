from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.ops.pooling import average_over_bins, products_over_bins

FORMS = (average_over_bins, products_over_bins)


@pytest.mark.parametrize("form", FORMS)
def test_by_hand(form) -> None:
    # five rows in two bins: rows 0-2 and 2-4; three columns in two: 0-1 and 1-2
    feature = torch.tensor([[0.0, 0, 6], [0, 0, 6], [3, 0, 0], [0, 0, 0], [0, 9, 0]])[None, None]
    expected = torch.tensor([[3 / 6, 12 / 6], [12 / 6, 9 / 6]])
    torch.testing.assert_close(form(feature, 2)[0, 0], expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (6, 6), (60, 61), (90, 13)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6, 7])
def test_equals_adaptive_average_pooling_and_its_gradient(size: tuple[int, int], bins: int) -> None:
    feature = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(2, 3, bins, bins, dtype=torch.float64)
    ours, theirs = products_over_bins(feature, bins), F.adaptive_avg_pool2d(feature, bins)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad((pooled * direction).sum(), feature)[0] for pooled in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("form", FORMS)
def test_means_of_a_constant_stay_exact_in_half_precision(form) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        feature = torch.full((1, 1, 200, 200), 100.0, dtype=dtype)  # a sum of 40,000 of them is beyond float16
        assert torch.equal(form(feature, 3), torch.full((1, 1, 3, 3), 100.0, dtype=dtype))


@pytest.mark.parametrize("form", FORMS)
def test_memory_format_and_autocast_change_little(form) -> None:
    feature = torch.randn(2, 8, 13, 17)
    expected = form(feature, 6)
    torch.testing.assert_close(form(feature.to(memory_format=torch.channels_last), 6), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(form(feature, 6).float(), expected, atol=1e-2, rtol=1e-2)


def test_bins_are_counted_from_one() -> None:
    with pytest.raises(ArgumentError, match="bins must be at least 1; got 0"):
        average_over_bins(torch.zeros(1, 1, 2, 2), 0)

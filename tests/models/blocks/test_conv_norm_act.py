from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from delineate.models.blocks.conv_norm_act import ConvNormAct, SeparableConvNormAct


@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (3, 4), (5, 2)])
def test_the_size_stays(kernel_size: int, dilation: int) -> None:
    block = ConvNormAct(2, 4, kernel_size, dilation=dilation)
    assert block(torch.randn(2, 2, 7, 9)).shape == (2, 4, 7, 9)
    assert block[0].bias is None


def test_stride_and_groups() -> None:
    block = ConvNormAct(4, 8, stride=2, groups=4)
    assert block(torch.randn(2, 4, 8, 6)).shape == (2, 8, 4, 3)
    assert block[0].weight.shape == (8, 1, 3, 3)


@torch.no_grad()
def test_is_convolution_then_norm_then_relu() -> None:
    block = ConvNormAct(2, 3).eval()
    block[1].running_mean.normal_()
    images = torch.randn(1, 2, 5, 5)
    convolved = F.conv2d(images, block[0].weight, padding=1)
    expected = ((convolved - block[1].running_mean[:, None, None]) / (1 + block[1].eps) ** 0.5).clamp(min=0)
    torch.testing.assert_close(block(images), expected)


def test_separable_has_a_kernel_a_channel_and_a_choice_of_norms() -> None:
    full, bare = SeparableConvNormAct(4, 8, dilation=2), SeparableConvNormAct(4, 8, norm_between=False)
    # 4 kernels of 9, 4 x 8 pointwise, two numbers for each normalised channel
    assert sum(p.numel() for p in full.parameters()) == 36 + 8 + 32 + 16
    assert sum(p.numel() for p in bare.parameters()) == 36 + 32 + 16
    assert full[0][0].dilation == (2, 2)
    assert full(torch.randn(2, 4, 6, 6)).shape == (2, 8, 6, 6)

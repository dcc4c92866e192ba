from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from delineate.models.blocks.bilinear import BilinearTransposedConv, bilinear_kernel


def test_kernels_by_hand() -> None:
    # caffe's surgery.upsample_filt: 1 - |x - centre| / factor
    torch.testing.assert_close(bilinear_kernel(3), torch.tensor([0.5, 1, 0.5]).outer(torch.tensor([0.5, 1, 0.5])))
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(bilinear_kernel(4), row.outer(row))


@pytest.mark.parametrize(("kernel_size", "stride"), [(4, 2), (16, 8), (32, 16), (64, 32)])
def test_inside_it_is_bilinear_interpolation(kernel_size: int, stride: int) -> None:
    image = torch.randn(1, 2, 5, 6)
    upsampled = BilinearTransposedConv(2, kernel_size, stride)(image)
    expected = F.interpolate(image, scale_factor=stride, mode="bilinear", align_corners=False)
    edge = stride // 2  # the transposed convolution returns this much more on each side, and fades there
    middle = slice(edge + stride, -edge - stride)
    inner = slice(stride, -stride)
    torch.testing.assert_close(upsampled[..., middle, middle], expected[..., inner, inner], atol=1e-5, rtol=1e-4)


def test_odd_kernels_interpolate_between_corners() -> None:
    upsampled = BilinearTransposedConv(1, 63, 32)(torch.tensor([[[[0.0, 32.0], [0.0, 32.0]]]]))
    # from the first pixel's centre at 31 to the second's at 63, one a step
    assert upsampled[0, 0, 40, 31:64].tolist() == pytest.approx(list(range(33)), abs=1e-4)


def test_channels_do_not_mix_and_learning_is_a_choice() -> None:
    layer = BilinearTransposedConv(3, 4, 2, learned=False)
    assert not layer.weight.requires_grad
    weight = layer.weight.clone()
    weight[range(3), range(3)] = 0
    assert not weight.any()
    assert layer.bias is None

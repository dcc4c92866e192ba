from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from delineate.ops.unpooling import max_pool, max_unpool

SIZES = [(1, 1), (1, 4), (3, 5), (6, 8), (45, 61)]


def test_by_hand():
    image = torch.tensor([[[[1.0, 9.0, 2.0], [3.0, 4.0, 5.0], [7.0, 6.0, 8.0]]]])
    values, indices = max_pool(image)
    assert values.tolist() == [[[[9.0, 5.0], [7.0, 8.0]]]]
    assert indices.tolist() == [[[[1, 5], [6, 8]]]]
    assert max_unpool(values, indices, (3, 3)).tolist() == [[[[0.0, 9.0, 0.0], [0.0, 0.0, 5.0], [7.0, 0.0, 8.0]]]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_torch(size: tuple[int, int], memory_format: torch.memory_format, dtype: torch.dtype):
    images = torch.randn(2, 3, *size).to(dtype).contiguous(memory_format=memory_format)
    values, indices = max_pool(images)
    expected, expected_indices = functional.max_pool2d(images, 2, ceil_mode=True, return_indices=True)
    assert torch.equal(values, expected)
    assert torch.equal(indices, expected_indices)
    other = torch.randn_like(values)
    unpooled = max_unpool(other, indices, size)
    assert torch.equal(unpooled, functional.max_unpool2d(other, indices, 2, 2, output_size=size))
    assert unpooled.is_contiguous(memory_format=memory_format)
    assert unpooled.dtype == dtype


@pytest.mark.parametrize("size", SIZES)
def test_the_forms_for_export_equal_the_others(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    images = torch.randn(2, 3, *size)
    images[0, 0] = 1.0  # ties go to the first pixel, also against the padding
    values, indices = max_pool(images)
    unpooled = max_unpool(values, indices, size)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    again, same_indices = max_pool(images)
    assert torch.equal(again, values)
    assert torch.equal(same_indices, indices)
    assert torch.equal(max_unpool(again, same_indices, size), unpooled)


def test_gradient_is_that_of_finite_differences():
    images = torch.randperm(2 * 2 * 3 * 5).double().reshape(2, 2, 3, 5).requires_grad_()

    weights = torch.rand(3, 5, dtype=torch.float64)

    def there_and_back(x: torch.Tensor) -> torch.Tensor:
        values, indices = max_pool(x)
        return max_unpool(values, indices, (3, 5)) * weights

    assert torch.autograd.gradcheck(there_and_back, (images,), eps=1e-3)


def test_pooling_again_takes_back_what_was_unpooled():
    images = torch.rand(1, 2, 7, 6) + 1
    values, indices = max_pool(images)
    again, same_indices = max_pool(max_unpool(values, indices, (7, 6)))
    assert torch.equal(again, values)
    assert torch.equal(same_indices, indices)


class PoolUnpool(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values, indices = max_pool(images)
        return max_unpool(values * 2, indices, images.shape[2:])


def test_exports_with_dynamic_size():
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {"images": {0: dynamic, 2: dynamic, 3: dynamic}}
    exported = torch.export.export(PoolUnpool(), (torch.randn(2, 3, 5, 7),), dynamic_shapes=shapes).module()
    for size in [(6, 8), (9, 4), (5, 7)]:
        images = torch.randn(3, 3, *size)
        assert torch.equal(exported(images), PoolUnpool()(images))

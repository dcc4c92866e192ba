from __future__ import annotations

import pytest
import torch

from delineate.losses.precision import full_precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_becomes_single(dtype: torch.dtype):
    values = torch.tensor([0.5, -3.0], dtype=dtype)
    assert full_precision(values).dtype == torch.float32
    assert full_precision(values).tolist() == [0.5, -3.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_stays(dtype: torch.dtype):
    values = torch.ones(2, dtype=dtype)
    assert full_precision(values) is values

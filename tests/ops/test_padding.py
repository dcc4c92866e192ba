from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import ArgumentError
from delineate.ops.padding import crop_to_size, pad_to_multiple


def test_border_pixels_are_repeated_at_the_bottom_and_the_right() -> None:
    images = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    expected = torch.tensor([[1.0, 2, 3, 3], [1, 2, 3, 3]])
    assert torch.equal(pad_to_multiple(images, 2)[0, 0], expected)


def test_zeros_when_asked() -> None:
    assert pad_to_multiple(torch.ones(1, 1, 1, 3), 2, mode="constant")[0, 0].tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 33))
def test_cropping_undoes_padding(height: int, width: int, multiple: int) -> None:
    images = torch.arange(float(height * width)).view(1, 1, height, width)
    padded = pad_to_multiple(images, multiple)
    assert all(side % multiple == 0 for side in padded.shape[-2:])
    assert padded.shape[-2] - height < multiple
    assert padded.shape[-1] - width < multiple
    assert torch.equal(crop_to_size(padded, (height, width)), images)


def test_a_fitting_size_stays_and_so_does_the_memory_format() -> None:
    images = torch.randn(2, 3, 32, 64).to(memory_format=torch.channels_last)
    padded = pad_to_multiple(images, 32)
    assert torch.equal(padded, images)
    assert padded.is_contiguous(memory_format=torch.channels_last)
    assert pad_to_multiple(images[..., 1:, :], 32).is_contiguous(memory_format=torch.channels_last)


def test_crop_starts_at_the_offset() -> None:
    images = torch.arange(12.0).view(1, 1, 3, 4)
    assert crop_to_size(images, (2, 2), offset=(1, 2))[0, 0].tolist() == [[6, 7], [10, 11]]


def test_multiple_is_positive() -> None:
    with pytest.raises(ArgumentError, match="multiple must be at least 1; got 0"):
        pad_to_multiple(torch.ones(1, 1, 2, 2), 0)

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from delineate.ops.mirroring import mirror_pad, mirrored_positions


def test_by_hand():
    image = torch.tensor([[[[1, 2], [3, 4]]]])
    assert mirror_pad(image, (1, 2, 0, 1)).tolist() == [[[[2, 1, 2, 1, 2], [4, 3, 4, 3, 4], [2, 1, 2, 1, 2]]]]


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_positions_equal_numpys_repeated_reflection(length: int):
    expected = np.pad(np.arange(length), (11, 17), mode="reflect")
    assert mirrored_positions(length, 11, 17).tolist() == expected.tolist()


def test_equals_torch_where_torch_can():
    images = torch.randn(2, 3, 6, 9)
    padding = (8, 3, 0, 5)
    assert torch.equal(mirror_pad(images, padding), functional.pad(images, padding, mode="reflect"))


def test_a_single_pixel_is_repeated():
    assert torch.equal(mirror_pad(torch.full((1, 1, 1, 1), 7.0), (2, 3, 1, 0)), torch.full((1, 1, 2, 6), 7.0))


def test_no_padding_changes_nothing():
    images = torch.randint(0, 255, (1, 2, 3, 4), dtype=torch.uint8)
    assert torch.equal(mirror_pad(images, (0, 0, 0, 0)), images)

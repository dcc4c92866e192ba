from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.models.blocks.image_statistics import require_several_images


def test_two_images_are_enough_and_one_is_not() -> None:
    require_several_images(torch.zeros(2, 1, 1, 1))
    with pytest.raises(ArgumentError, match=r"batch size must be at least 2 in training.*got 1. Use a larger batch"):
        require_several_images(torch.zeros(1, 1, 1, 1))

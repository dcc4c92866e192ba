from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from delineate.errors import ArgumentError
from delineate.ops.pixels import check_pixels, pixel_array


def test_pictures_of_any_form_become_one() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(pixel_array(pixels), pixels)
    assert np.array_equal(pixel_array(Image.fromarray(pixels)), pixels)
    assert np.array_equal(pixel_array(pixels[..., 0])[..., 0], pixels[..., 0])


@pytest.mark.parametrize("image", [np.zeros((2, 2, 3)), np.zeros((2, 2, 3), np.int64), np.zeros(4, np.uint8)])
def test_other_numbers_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match=r"image must be uint8 pixels of 0 to 255, .*; got .* Scale 0 to 1 by 255"):
        pixel_array(image)


def test_batches() -> None:
    check_pixels(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    with pytest.raises(ArgumentError, match=r"images must be uint8 pixels .*; got float32 of shape \(1, 3, 2, 2\)"):
        check_pixels(torch.zeros(1, 3, 2, 2))

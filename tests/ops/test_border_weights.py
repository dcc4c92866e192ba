from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from delineate.errors import ArgumentError
from delineate.ops.border_weights import border_weights


def naive(target: np.ndarray, *, sigma: float, background: int | None, ignore_index: int) -> np.ndarray:
    """One distance transform an object."""
    maps = []
    for label in np.unique(target):
        if label in (background, ignore_index):
            continue
        objects, count = ndimage.label(target == label)
        for number in range(1, count + 1):
            inside = objects == number
            border = inside & ~ndimage.binary_erosion(inside, border_value=1)
            if border.any():
                maps.append(ndimage.distance_transform_edt(~border))
    if len(maps) < 2:
        return np.zeros(target.shape)
    nearest = np.sort(np.stack(maps), axis=0)
    return np.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))


def test_two_squares_by_hand():
    target = torch.zeros(1, 5, 9, dtype=torch.long)
    target[0, 1:4, 1:4], target[0, 1:4, 5:8] = 1, 1  # a gap of one pixel
    weights = border_weights(target, sigma=5)[0]
    assert weights[2, 4].item() == pytest.approx(np.exp(-4 / 50))  # 1 + 1
    assert weights[2, 3].item() == pytest.approx(np.exp(-4 / 50))  # 0 + 2
    assert weights[2, 2].item() == pytest.approx(np.exp(-16 / 50))  # inside the first: 1 out of it + 3
    assert weights[0, 4].item() == pytest.approx(np.exp(-8 / 50))  # sqrt(2) twice
    assert weights[2, 0].item() == pytest.approx(np.exp(-36 / 50))  # 1 + 5
    torch.testing.assert_close(weights, weights.flip(0))
    torch.testing.assert_close(weights, weights.flip(1))


@pytest.mark.parametrize(("background", "ignore_index"), [(0, 255), (None, 255), (2, 1)])
def test_equals_one_distance_transform_an_object(background: int | None, ignore_index: int):
    generator = np.random.default_rng(0)
    target = np.where(generator.random((3, 30, 40)) < 0.05, generator.integers(1, 3, (3, 30, 40)), 0)
    target = ndimage.grey_dilation(target, (1, 4, 3))
    target[:, :3, :5] = 255 if ignore_index == 255 else 1
    weights = border_weights(torch.from_numpy(target), sigma=4, background=background, ignore_index=ignore_index)
    for image, expected in zip(weights.numpy(), target, strict=True):
        reference = naive(expected, sigma=4, background=background, ignore_index=ignore_index)
        np.testing.assert_allclose(image, reference, atol=2e-8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_type(dtype: torch.dtype):
    target = torch.tensor([[[1, 0, 2, 255]]], dtype=dtype)
    assert border_weights(target).dtype == torch.float32
    torch.testing.assert_close(border_weights(target), border_weights(target.long()))


def test_touching_objects_of_two_classes_are_two_and_corners_do_not_join():
    assert border_weights(torch.tensor([[[1, 2]]])).min() > 0.9
    assert border_weights(torch.tensor([[[1, 0], [0, 1]]])).min() > 0.9
    assert border_weights(torch.tensor([[[1, 1], [0, 1]]])).max() == 0


def test_one_object_or_none_weighs_nothing():
    assert border_weights(torch.zeros(2, 4, 4, dtype=torch.long)).max() == 0
    assert border_weights(torch.full((1, 3, 3), 255)).max() == 0
    assert border_weights(torch.zeros(0, 4, 4, dtype=torch.long)).shape == (0, 4, 4)


def test_errors():
    with pytest.raises(ArgumentError, match=r"sigma must be a positive number of pixels; got 0"):
        border_weights(torch.zeros(1, 2, 2, dtype=torch.long), sigma=0)

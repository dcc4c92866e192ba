from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from delineate.ops.signed_distances import signed_distances


def test_a_square_by_hand():
    target = torch.zeros(1, 5, 5, dtype=torch.long)
    target[0, 1:4, 1:4] = 1
    inside = signed_distances(target, num_classes=2)[0, 1]
    assert inside[2].tolist() == [0.5, -0.5, -1.5, -0.5, 0.5]
    assert inside[0, 0].item() == pytest.approx(np.sqrt(2) - 0.5)


def test_equals_scipys_transforms():
    labels = np.random.default_rng(0).integers(0, 3, (2, 12, 9))
    maps = signed_distances(torch.from_numpy(labels), num_classes=3)
    for image, target in zip(maps.numpy(), labels, strict=True):
        for label in range(3):
            inside = target == label
            expected = np.where(inside, 0.5 - distance_transform_edt(inside), distance_transform_edt(~inside) - 0.5)
            np.testing.assert_allclose(image[label], expected, rtol=1e-6)


def test_two_classes_are_each_others_negative():
    target = torch.from_numpy(np.random.default_rng(1).integers(0, 2, (1, 7, 8)))
    maps = signed_distances(target, num_classes=2)[0]
    assert torch.equal(maps[0], -maps[1])


def test_unknown_pixels_make_no_outline():
    target = torch.tensor([[[1, 1, 255, 0, 0]]], dtype=torch.uint8)
    maps = signed_distances(target, num_classes=2)[0]
    assert maps[1, 0].tolist() == [-2.5, -1.5, 0.5, 1.5, 2.5]
    assert maps[0, 0].tolist() == [2.5, 1.5, 0.5, -1.5, -2.5]


@pytest.mark.parametrize(
    "target", [torch.full((1, 3, 3), 255), torch.ones(1, 3, 3).long(), torch.zeros(0, 3, 3).long()]
)
def test_without_an_outline_all_is_zero(target: torch.Tensor):
    maps = signed_distances(target, num_classes=2)
    assert maps.shape == (len(target), 2, 3, 3)
    assert not maps.any()

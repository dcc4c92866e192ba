"""The displacement field against torch's own bicubic, its inverse, and sampling against scipy and a naive twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from delineate.data.elastic import (
    cubic_weights,
    displacement_field,
    displacements_at,
    sample_image,
    sample_labels,
    undeformed,
)
from delineate.errors import ArgumentError


@pytest.mark.parametrize(("grid", "size"), [(3, (33, 47)), (2, (8, 8)), (5, (64, 20)), (3, (1, 9))])
def test_the_field_equals_torch_bicubic(grid, size):
    coarse = torch.randn(2, grid, grid) * 10
    expected = torch.nn.functional.interpolate(coarse[None], size=size, mode="bicubic", align_corners=True)[0]
    torch.testing.assert_close(displacement_field(coarse, size), expected, atol=1e-4, rtol=1e-5)


def test_the_field_passes_through_its_control_vectors():
    coarse = torch.randn(2, 3, 3) * 10
    field = displacement_field(coarse, (41, 21))
    torch.testing.assert_close(field[:, ::20, ::10], coarse, atol=1e-5, rtol=0)


def test_weights_by_hand():
    # Keys with a = -0.75 half-way: (-3/32, 19/32, 19/32, -3/32); the value before the first repeats the first
    weights = cubic_weights(torch.tensor([0.0, 0.5, 1.5, 9.0]), 3)
    expected = [[1, 0, 0], [16 / 32, 19 / 32, -3 / 32], [-3 / 32, 19 / 32, 16 / 32], [0, 0, 1]]
    torch.testing.assert_close(weights, torch.tensor(expected), atol=1e-6, rtol=0)
    torch.testing.assert_close(cubic_weights(torch.rand(50) * 4, 5).sum(1), torch.ones(50))


def test_single_points_agree_with_the_field_and_come_back():
    size = (60, 80)
    coarse = torch.randn(2, 3, 3) * 4
    field = displacement_field(coarse, size)
    found = torch.stack([torch.randint(10, 50, (30,)), torch.randint(10, 70, (30,))], 1).float()
    moved = displacements_at(coarse, found, size)
    torch.testing.assert_close(moved, field[:, found[:, 0].long(), found[:, 1].long()].T, atol=1e-4, rtol=0)
    torch.testing.assert_close(undeformed(coarse, found + moved, size), found, atol=1e-2, rtol=0)


def places(size, shift):
    rows = torch.arange(size[0], dtype=torch.float32)[:, None].expand(size) + shift[0]
    columns = torch.arange(size[1], dtype=torch.float32)[None, :].expand(size) + shift[1]
    return rows.contiguous(), columns.contiguous()


def test_images_agree_with_scipy_inside():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (2, 30, 40), dtype=np.uint8)
    rows = generator.uniform(0, 29, (25, 35)).astype(np.float32)
    columns = generator.uniform(0, 39, (25, 35)).astype(np.float32)
    got = sample_image(torch.from_numpy(image), torch.from_numpy(rows), torch.from_numpy(columns), (0, 0)).numpy()
    for channel in (0, 1):
        expected = ndimage.map_coordinates(image[channel].astype(np.float64), [rows, columns], order=1)
        assert np.abs(got[channel] - expected).max() <= 0.51


def test_no_shift_is_the_identity():
    image = torch.randint(0, 256, (3, 37, 53), dtype=torch.uint8)
    assert torch.equal(sample_image(image, *places((37, 53), (0, 0)), (1, 2, 3)), image)
    assert torch.equal(sample_labels(image, *places((37, 53), (0, 0)), 255), image)


def test_outside_is_filled_and_not_blended():
    image = torch.full((1, 4, 4), 200, dtype=torch.uint8)
    got = sample_image(image, *places((4, 4), (0.4, -2)), (7.0,))
    assert got[0].tolist() == [[7, 7, 200, 200]] * 4
    labels = sample_labels(image[0], *places((4, 4), (-1, 0.4)), 255)
    assert labels.tolist() == [[255] * 4] + [[200] * 4] * 3


def test_labels_equal_a_naive_twin():
    labels = torch.randint(0, 300, (2, 9, 11), dtype=torch.int32)
    rows, columns = torch.rand(6, 7) * 13 - 2, torch.rand(6, 7) * 15 - 2
    got = sample_labels(labels, rows, columns, -1)
    for row in range(6):
        for column in range(7):
            y, x = (int(np.floor(place[row, column].item() + 0.5)) for place in (rows, columns))
            inside = 0 <= y < 9 and 0 <= x < 11
            assert got[:, row, column].tolist() == (labels[:, y, x].tolist() if inside else [-1, -1])
    assert sample_labels(labels[:0], rows, columns, 0).shape == (0, 6, 7)


def test_a_grid_of_the_wrong_shape_is_refused():
    with pytest.raises(ArgumentError, match=r"coarse must be \(2, G, G\); got \(3, 3\)"):
        displacement_field(torch.zeros(3, 3), (4, 4))

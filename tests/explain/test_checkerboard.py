from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from delineate.errors import ArgumentError
from delineate.explain.checkerboard import checkerboard_energy, overlap_map, resize_overlap_map

ROWS, COLUMNS = torch.arange(16.0)[:, None].expand(16, 16), torch.arange(16.0).expand(16, 16)
BOARD = (ROWS + COLUMNS) % 2


def test_a_kernel_of_three_at_stride_two_by_hand() -> None:
    counted = overlap_map(3, 2, size=3)
    row = torch.tensor([1.0, 1, 2, 1, 2, 1, 1])  # windows at 0-2, 2-4 and 4-6
    assert torch.equal(counted, row.outer(row))
    inside = overlap_map(3, 2, size=8)[2:-3, 2:-3]
    assert inside[:2, :2].flatten().tolist() == [4, 2, 2, 1]
    assert torch.equal(inside[2:, 2:], inside[:-2, :-2])  # and so on


@pytest.mark.parametrize(("kernel_size", "stride"), [(4, 2), (2, 2), (6, 3), (3, 1), (8, 4)])
def test_multiples_of_the_stride_are_even_inside(kernel_size: int, stride: int) -> None:
    inside = overlap_map(kernel_size, stride)[kernel_size:-kernel_size, kernel_size:-kernel_size]
    assert inside.unique().tolist() == [(kernel_size // stride) ** 2]


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 2), (5, 2), (5, 3), (7, 4)])
def test_counts_equal_those_of_a_loop(kernel_size: int, stride: int) -> None:
    size = 5
    counted = np.zeros(((size - 1) * stride + kernel_size,) * 2)
    for row in range(size):
        for column in range(size):
            counted[row * stride : row * stride + kernel_size, column * stride : column * stride + kernel_size] += 1
    assert np.array_equal(overlap_map(kernel_size, stride, size=size).numpy(), counted)
    inside = counted[kernel_size:-kernel_size, kernel_size:-kernel_size]
    assert len(np.unique(inside)) > 1


@pytest.mark.parametrize(("kernel_size", "scale"), [(3, 2), (5, 2), (3, 3), (4, 2), (1, 2)])
def test_resizing_first_is_even_inside_whatever_the_kernel(kernel_size: int, scale: int) -> None:
    counted = resize_overlap_map(kernel_size, scale)
    assert len(counted) == 8 * scale - (kernel_size % 2 == 0)
    inside = counted[kernel_size:-kernel_size, kernel_size:-kernel_size]
    assert inside.unique().tolist() == [kernel_size**2]


def test_energy_by_hand() -> None:
    """Stripes of rows, and a pixel that disturbs them, on the 6 x 6 that leave 4 x 4."""
    stripes = torch.arange(6.0)[:, None].expand(6, 6) % 2
    assert checkerboard_energy(stripes) == pytest.approx(1)
    disturbed = stripes.clone()
    disturbed[2, 2] += 16
    # by the definition, pixel by pixel: weights 1 2 1 in each direction are the mean over 2 x 2 pixels, taken twice
    values, weights = disturbed.double().numpy(), np.outer([1, 2, 1], [1, 2, 1]) / 16
    fine = np.array(
        [
            [values[y, x] - (weights * values[y - 1 : y + 2, x - 1 : x + 2]).sum() for x in range(1, 5)]
            for y in range(1, 5)
        ]
    )
    fine -= fine.mean()
    means = np.array([[fine[y::2, x::2].mean() for x in range(2)] for y in range(2)])
    expected = (means**2).mean() / (fine**2).mean()
    assert 0.1 < expected < 0.9
    assert checkerboard_energy(disturbed).item() == pytest.approx(expected)


@pytest.mark.parametrize("pattern", [BOARD, ROWS % 2, COLUMNS % 2, (ROWS % 2) * (COLUMNS % 2)])
def test_what_repeats_is_one_on_any_ramp_and_at_any_scale(pattern: torch.Tensor) -> None:
    for output in (pattern, -3 * pattern + 7, 0.01 * pattern + 5 * ROWS - 2 * COLUMNS):
        assert checkerboard_energy(output).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8])
def test_what_is_smooth_is_nothing(dtype: torch.dtype) -> None:
    for output in (torch.zeros(9, 9), torch.full((9, 9), 113), 3 * ROWS[:9, :9] + 5 * COLUMNS[:9, :9]):
        assert checkerboard_energy(output.to(dtype)).item() == 0


def test_ramps_that_cannot_be_written_exactly_are_smooth() -> None:
    for rows, columns in ((ROWS, COLUMNS), (ROWS.double(), COLUMNS.double())):
        ramp = 0.1 * rows + columns / 3 + 1000
        assert checkerboard_energy(ramp).item() == 0
        assert checkerboard_energy(ramp, period=3).item() == 0


def test_noise_has_hardly_any() -> None:
    noise = torch.randn(400, 34, 34)
    energy = checkerboard_energy(noise)
    assert ((energy >= 0) & (energy <= 1)).all()
    # 3 of the 32 x 32 pixels' degrees of freedom, a little more for what smoothing takes from slow changes
    assert 3 / 1024 <= energy.mean() <= 2 * 3 / 1024


def test_invariant_to_scale_shift_and_ramps() -> None:
    output = torch.randn(3, 20, 24).double() + torch.arange(24) % 2
    expected = checkerboard_energy(output)
    rows, columns = torch.arange(20.0)[:, None], torch.arange(24.0)
    torch.testing.assert_close(checkerboard_energy(-4 * output + 9 + 2 * rows - columns), expected)
    torch.testing.assert_close(checkerboard_energy(output.mT), expected)
    assert 0.3 < expected.mean() < 0.9


def test_periods_are_told_apart() -> None:
    four = ((ROWS // 2 + COLUMNS // 2) % 2).repeat(2, 2)
    assert checkerboard_energy(four, period=4).item() == pytest.approx(1)
    assert checkerboard_energy(four).item() == pytest.approx(0, abs=1e-4)  # 30 pixels are no multiple of 4
    assert checkerboard_energy(BOARD, period=4).item() == pytest.approx(1)  # what repeats every 2 repeats every 4
    assert checkerboard_energy(BOARD, period=3).item() < 0.1


def test_every_plane_has_its_own_and_arrays_are_taken() -> None:
    planes = torch.stack([BOARD, ROWS, BOARD + ROWS, COLUMNS]).view(2, 2, 16, 16)
    assert checkerboard_energy(planes.numpy()).tolist() == [[1, 0], [1, 0]]
    assert checkerboard_energy(torch.zeros(0, 3, 16, 16)).shape == (0, 3)
    assert checkerboard_energy(torch.full((16, 16), torch.nan)).isnan()


def test_a_transposed_convolution_draws_what_its_overlap_promises() -> None:
    image = torch.rand(1, 1, 20, 20) + 1
    for kernel_size, uneven in ((3, True), (4, False)):
        layer = nn.ConvTranspose2d(1, 1, kernel_size, stride=2, bias=False)
        nn.init.ones_(layer.weight)
        energy = checkerboard_energy(layer(image)).item()  # with its gradient, which is left alone
        assert (energy > 0.5) is uneven


def test_errors_say_what_is_needed() -> None:
    with pytest.raises(ArgumentError, match="stride must be a whole number of at least 1; got 0"):
        overlap_map(3, 0)
    with pytest.raises(ArgumentError, match="scale must be a whole number of at least 1; got 0"):
        resize_overlap_map(3, 0)
    with pytest.raises(ArgumentError, match="period must be a whole number of at least 2; got 1"):
        checkerboard_energy(BOARD, period=1)
    with pytest.raises(
        ArgumentError, match=r"output must have at least 14 x 14 pixels for a period of 4; got shape \(13, 14\)"
    ):
        checkerboard_energy(torch.zeros(13, 14), period=4)

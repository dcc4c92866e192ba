"""Convolutions with fewer multiplications against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv2d

from delineate.errors import ArgumentError
from delineate.ops.winograd import winograd_conv2d, winograd_filters


@pytest.mark.parametrize(
    ("shape", "results", "padding"),
    [
        ((1, 3, 6, 9), 5, 1),
        ((2, 4, 13, 5), 7, 1),
        ((3, 5, 3, 3), 2, 0),
        ((2, 8, 17, 30), 16, 0),
        ((1, 1, 1, 1), 1, 1),
        ((1, 64, 33, 1), 64, 1),
        ((0, 3, 8, 8), 4, 1),
        ((1, 600, 40, 44), 8, 1),  # in more than one piece
        ((2, 2, 1, 9), 600, 1),
    ],
)
@pytest.mark.parametrize("channels_last", [True, False])
def test_equals_conv2d(shape: tuple[int, ...], results: int, padding: int, *, channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=generator)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(results, shape[1], 3, 3, generator=generator) / (3 * shape[1] ** 0.5)
    bias = torch.randn(results, generator=generator)
    found = winograd_conv2d(images, winograd_filters(weight), bias, padding=padding)
    expected = conv2d(images.double(), weight.double(), bias.double(), padding=padding)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)
    without = winograd_conv2d(images, winograd_filters(weight), padding=padding)
    torch.testing.assert_close(without + bias[:, None, None], found, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "results", "padding"),
    [
        ((1, 3, 6, 9), 5, 1),
        ((2, 64, 13, 5), 7, 1),
        ((3, 5, 3, 3), 2, 0),
        ((1, 1, 1, 1), 1, 1),
        ((1, 300, 60, 62), 8, 1),
    ],
)
def test_bfloat16_is_a_convolution_of_what_bfloat16_holds(shape: tuple[int, ...], results: int, padding: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=generator).bfloat16()
    weight = torch.randn(results, shape[1], 3, 3, generator=generator) / (3 * shape[1] ** 0.5)
    bias = torch.randn(results, generator=generator)
    filters = winograd_filters(weight, torch.bfloat16)
    found = winograd_conv2d(images, filters, bias, padding=padding)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = conv2d(images.double(), weight.double(), bias.double(), padding=padding)
    torch.testing.assert_close(found.double(), expected, atol=0.01 * float(expected.abs().max()), rtol=0)
    rectified = winograd_conv2d(images, filters, bias.bfloat16().float(), padding=padding, least=0.0)
    torch.testing.assert_close(rectified.double(), expected.relu(), atol=0.02 * float(expected.abs().max()), rtol=0)
    assert float(rectified.min()) >= 0


def test_a_pixel_that_is_not_a_number_shows() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = torch.nan
    for dtype in (torch.float32, torch.bfloat16):
        filters = winograd_filters(torch.ones(1, 1, 3, 3), dtype)
        found = winograd_conv2d(image.to(dtype), filters, least=0.0)[0, 0]
        assert found[3:6, 3:6].isnan().all()
        assert not found[0].isnan().any()


def test_whole_numbers_by_hand() -> None:
    """A filter that takes the pixel to the right."""
    image = torch.arange(20.0).view(1, 1, 4, 5)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 2] = 1
    found = winograd_conv2d(image, winograd_filters(weight))[0, 0]
    torch.testing.assert_close(found[:, :4], image[0, 0, :, 1:], atol=1e-4, rtol=0)
    assert float(found[:, 4].abs().max()) < 1e-4


def test_a_later_call_does_not_change_earlier_results() -> None:
    weight = winograd_filters(torch.randn(4, 3, 3, 3))
    image = torch.randn(1, 3, 20, 20)
    first = winograd_conv2d(image, weight)
    kept = first.clone()
    winograd_conv2d(torch.randn(2, 3, 24, 9), weight)
    assert torch.equal(first, kept)
    assert torch.equal(winograd_conv2d(image, weight), kept)


def test_threads_do_not_change_results() -> None:
    weight, image = winograd_filters(torch.randn(8, 8, 3, 3)), torch.randn(2, 8, 37, 21)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = winograd_conv2d(image, weight)
        torch.set_num_threads(2)
        two = winograd_conv2d(image, weight)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "channels", "padding", "message"),
    [
        ((1, 2, 5, 5), 3, 1, r"filters must be \(36, 2, K\)"),
        ((1, 3, 5, 5), 3, 2, "padding must be 0 or 1"),
        ((1, 3, 2, 5), 3, 0, "at least 3 pixels a side"),
    ],
)
def test_what_does_not_fit_is_said(shape: tuple[int, ...], channels: int, padding: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        winograd_conv2d(torch.zeros(shape), winograd_filters(torch.zeros(2, channels, 3, 3)), padding=padding)


def test_other_numbers_and_filters_are_refused() -> None:
    with pytest.raises(ArgumentError, match="float32 on the CPU"):
        winograd_conv2d(torch.zeros(1, 3, 5, 5).double(), winograd_filters(torch.zeros(2, 3, 3, 3)))
    with pytest.raises(ArgumentError, match=r"images must be bfloat16 on the CPU; got torch\.float32"):
        winograd_conv2d(torch.zeros(1, 3, 5, 5), winograd_filters(torch.zeros(2, 3, 3, 3), torch.bfloat16))
    with pytest.raises(ArgumentError, match="dtype must be"):
        winograd_filters(torch.zeros(2, 3, 3, 3), torch.float16)
    with pytest.raises(ArgumentError, match=r"weight must be \(K, C, 3, 3\)"):
        winograd_filters(torch.zeros(2, 3, 5, 5))

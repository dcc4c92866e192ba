"""Pixels to a model's input, against torchvision's own normalisation."""

from __future__ import annotations

import json

import pytest
import torch
from torchvision.transforms import v2

from delineate.errors import ArgumentError
from delineate.structures.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def test_by_hand():
    found = Preprocessing((0.5,), (0.25,))(torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8))
    assert found.flatten().tolist() == pytest.approx([-2, 2, -1.2])


def test_it_is_torchvisions_normalisation():
    images = pixels(2, 3, 17, 5)
    reference = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))]
    )
    assert torch.allclose(Preprocessing()(images), reference(images), atol=1e-5)


def test_one_image_without_a_batch():
    images = pixels(3, 4, 5)
    assert torch.equal(Preprocessing()(images), Preprocessing()(images[None])[0])


def test_images_are_not_changed():
    images = pixels(1, 3, 4, 4)
    before = images.clone()
    Preprocessing()(images)
    assert torch.equal(images, before)


def test_the_memory_format_stays():
    images = pixels(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    assert Preprocessing()(images).is_contiguous(memory_format=torch.channels_last)
    assert Preprocessing()(images.contiguous()).is_contiguous()


def test_another_dtype():
    images = pixels(1, 3, 4, 4)
    half = Preprocessing()(images, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, Preprocessing()(images).bfloat16())


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_numbers_of_channels_take_the_mean(channels):
    preprocessing = Preprocessing.for_channels(channels)
    assert preprocessing.channels == channels
    assert preprocessing.mean == pytest.approx((sum(IMAGENET_MEAN) / 3,) * channels)
    assert preprocessing.std == pytest.approx((sum(IMAGENET_STD) / 3,) * channels)
    assert preprocessing(pixels(1, channels, 2, 2)).shape == (1, channels, 2, 2)


def test_three_channels_are_imagenets():
    assert Preprocessing.for_channels(3) == Preprocessing(IMAGENET_MEAN, IMAGENET_STD)


def test_a_trip_through_json_changes_no_bit():
    preprocessing = Preprocessing((0.1, 1 / 3), (2 / 7, 1e-3))
    again = Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict())))
    assert again == preprocessing
    images = pixels(1, 2, 3, 3)
    assert torch.equal(again(images), preprocessing(images))


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        ((0.5, 0.5), (0.2,), r"std must have as many channels as mean \(2\); got 1"),
        ((), (), "std must have as many channels"),
        ((0.5,), (0.0,), r"std must be positive; got \(0.0,\)"),
        ((0.5,), (-0.2,), "std must be positive"),
        ((0.5,), (float("nan"),), "std must be positive"),
    ],
)
def test_what_cannot_be_is_refused(mean, std, text):
    with pytest.raises(ArgumentError, match=text):
        Preprocessing(mean, std)


def test_another_number_of_channels_is_refused():
    with pytest.raises(ArgumentError, match="images must have 3 channels; got 1"):
        Preprocessing()(pixels(2, 1, 3, 3))

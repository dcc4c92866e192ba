from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from delineate.errors import ArgumentError
from delineate.report.pictures import (
    data_uri,
    error_map,
    label_overlay,
    shrunk,
    shrunk_labels,
    visible_image,
)

RED, GREEN = (255, 0, 0), (0, 255, 0)


def decoded(uri: str) -> np.ndarray:
    kind, text = uri.split(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 2), (4, 5, 3), (4, 5, 7)])
def test_any_number_of_channels_becomes_visible(shape: tuple[int, ...]):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    seen = visible_image(image)
    assert seen.shape == (4, 5, 3)
    assert (seen[:, :, 0] == (image if image.ndim == 2 else image[:, :, 0])).all()
    with pytest.raises(ArgumentError, match=r"image must be \(H, W\) or \(H, W, C\); got shape \(4,\)\."):
        visible_image(np.zeros(4, np.uint8))


def test_shrinking_keeps_the_shape_of_things_and_leaves_small_pictures_alone():
    picture = np.zeros((300, 1000, 3), np.uint8)
    labels = np.zeros((300, 1000), np.uint8)
    labels[150:] = 7
    assert shrunk(picture, 100).shape == (30, 100, 3)
    small = shrunk_labels(labels, 100)
    assert small.shape == (30, 100)
    assert (small[:15] == 0).all()
    assert (small[15:] == 7).all()
    assert shrunk(picture, 1000) is picture
    assert (shrunk_labels(labels, 1000) == labels).all()
    assert shrunk(np.zeros((1, 5000, 3), np.uint8), 640).shape == (1, 640, 3)


def test_overlay_by_hand():
    image = np.full((5, 5, 3), 100, np.uint8)
    labels = np.ones((5, 5), np.uint8)
    labels[:, 4] = 0
    overlay = label_overlay(image, labels, (GREEN, RED), background=0, alpha=0.6)
    assert (overlay[:, 4] == 100).all()  # background untinted
    assert (overlay[:, 3] == RED).all()  # outline
    assert (overlay[:, :3] == (193, 40, 40)).all()  # 0.4 * 100 + 0.6 * 255
    labels[:] = 255
    assert (label_overlay(image, labels, (GREEN, RED)) == round(0.4 * 100 + 0.6 * 128)).all()


def test_error_map_by_hand():
    image = np.zeros((1, 4, 3), np.uint8)
    target, prediction = np.array([[1, 1, 255, 0]]), np.array([[1, 0, 0, 255]])
    right, wrong, ignored, outside = error_map(image, target, prediction)[0]
    assert right.tolist() == [140, 140, 140]
    assert wrong[0] > 200 > 80 > wrong[1]
    assert ignored.tolist() == [128, 128, 128]
    assert outside.tolist() == wrong.tolist()


def test_data_uri_keeps_single_pixels_of_small_pictures_and_bounds_large_ones():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (96, 96, 3), np.uint8)
    assert (decoded(data_uri(small)) == small).all()
    smooth = np.linspace(0, 255, 640 * 480 * 3).reshape(480, 640, 3).astype(np.uint8)
    assert len(data_uri(smooth)) < 30_000
    assert np.abs(decoded(data_uri(smooth)).astype(int) - smooth).mean() < 4

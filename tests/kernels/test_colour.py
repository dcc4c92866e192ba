"""RGB to L*a*b*: published values, the formulas pixel by pixel, greys."""

import numpy as np
import pytest

from delineate.kernels.colour import XYZ_OF_RGB, lab_of_rgb, linear_light

# by the CIE's formulas under D65 (B. Lindbloom's calculator), sRGB's corners
CORNERS = {
    (255, 0, 0): (53.2408, 80.0925, 67.2032),
    (0, 255, 0): (87.7347, -86.1827, 83.1793),
    (0, 0, 255): (32.2970, 79.1875, -107.8602),
    (255, 255, 0): (97.1393, -21.5537, 94.4780),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 255, 255): (100.0, 0.0, 0.0),
}


@pytest.mark.parametrize(("rgb", "lab"), CORNERS.items())
def test_published_values(rgb, lab):
    found = lab_of_rgb(np.array([[rgb]], np.uint8))[0, 0]
    assert found == pytest.approx(lab, abs=2e-3)


def formula(rgb):
    """One pixel, straight from the standards."""
    light = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.asarray(rgb) / 255]
    shares = [float(np.dot(row, light) / sum(row)) for row in XYZ_OF_RGB]
    x, y, z = (t ** (1 / 3) if t > (6 / 29) ** 3 else t / 3 * (29 / 6) ** 2 + 4 / 29 for t in shares)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_every_pixel_equals_the_formula():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image[0] //= 16  # dark ones take the straight part of both curves
    found = lab_of_rgb(image)
    assert found.dtype == np.float32
    expected = np.array([[formula(pixel) for pixel in row] for row in image])
    assert np.abs(found - expected).max() < 2e-5


def test_greys_have_no_colour_and_become_lighter():
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    lab = lab_of_rgb(greys)[0]
    assert np.abs(lab[:, 1:]).max() < 1e-5
    assert (np.diff(lab[:, 0]) > 0).all()
    assert linear_light()[[0, 255]].tolist() == [0, 1]


def test_views_and_empty_images():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    assert (lab_of_rgb(image[::-1, ::2]) == lab_of_rgb(image)[::-1, ::2]).all()
    assert lab_of_rgb(image[:0]).shape == (0, 6, 3)

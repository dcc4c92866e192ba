"""SLIC: a twin of the paper's loop, connected superpixels of like size, edges that are kept."""

import math

import numpy as np
import pytest
from scipy import ndimage

from delineate.kernels.superpixels import slic_clusters, slic_grid, slic_segments


def twin(features, segments, compactness, iterations):
    """The paper's loop, one pixel at a time, in the kernel's precision."""
    one = np.float32
    features = features.astype(one)
    height, width, channels = features.shape
    rows, columns = slic_grid(height, width, segments)
    spacing = math.sqrt(height * width / (rows * columns))
    centres = []
    labels = np.array(
        [[y * rows // height * columns + x * columns // width for x in range(width)] for y in range(height)]
    )
    for i, j in np.ndindex(rows, columns):
        y, x = (2 * i + 1) * height // (2 * rows), (2 * j + 1) * width // (2 * columns)
        if spacing >= 3:
            near = [
                (b, a) for b in range(y - 1, y + 2) for a in range(x - 1, x + 2) if 0 <= b < height and 0 <= a < width
            ]

            def gradient(place):
                b, a = place
                across = features[b, min(a + 1, width - 1)] - features[b, max(a - 1, 0)]
                along = features[min(b + 1, height - 1), a] - features[max(b - 1, 0), a]
                total = one(0)
                for c in range(channels):
                    total += across[c] * across[c] + along[c] * along[c]
                return total

            y, x = min(near, key=gradient)
        centres.append([one(y), one(x), *features[y, x]])
    weight = one((compactness / spacing) ** 2)
    for _ in range(iterations):
        nearest = np.full((height, width), np.inf, one)
        for k, centre in enumerate(centres):
            for y, x in np.ndindex(height, width):
                if abs(y - centre[0]) > one(spacing) or abs(x - centre[1]) > one(spacing):
                    continue
                distance = ((one(x) - centre[1]) ** 2 + (one(y) - centre[0]) ** 2) * weight
                for c in range(channels):
                    distance += (features[y, x, c] - centre[c + 2]) * (features[y, x, c] - centre[c + 2])
                if distance < nearest[y, x]:
                    nearest[y, x], labels[y, x] = distance, k
        for k in range(len(centres)):
            inside = np.argwhere(labels == k)
            if len(inside):
                values = [[y, x, *features[y, x].astype(float)] for y, x in inside]
                centres[k] = [one(sum(column) / len(values)) for column in zip(*values, strict=True)]
    return labels


@pytest.mark.parametrize(
    ("shape", "segments", "compactness"), [((14, 17, 3), 9, 10.0), ((11, 23, 1), 4, 0.5), ((7, 6, 2), 20, 40.0)]
)
def test_clusters_equal_the_twin(shape, segments, compactness):
    noise = np.random.default_rng(0).random(shape)
    features = ndimage.gaussian_filter(noise, (1, 1, 0)) * 100
    found = slic_clusters(features, segments=segments, compactness=compactness, iterations=4)
    assert (found == twin(features, segments, compactness, 4)).all()


def test_without_colour_they_are_the_grid():
    segments = slic_segments(np.zeros((20, 30, 3)), segments=6)
    expected = np.repeat(np.repeat([[0, 1, 2], [3, 4, 5]], 10, axis=0), 10, axis=1)
    assert (segments == expected).all()


def test_an_edge_is_followed():
    """A bright half with a slanting edge: no superpixel lies on both sides of it."""
    rows, columns = np.mgrid[:60, :60]
    bright = columns > 25 + rows / 5
    segments = slic_segments(np.where(bright, 80.0, 20.0)[..., None], segments=36, compactness=10)
    dark, light = set(segments[~bright]), set(segments[bright])
    assert not dark & light
    assert 25 < len(dark | light) < 50


@pytest.mark.parametrize("seed", range(3))
def test_superpixels_are_connected_numbered_and_not_tiny(seed):
    noise = np.random.default_rng(seed).random((50, 70, 3)) * 100  # clusters of noise fall to pieces
    clusters = slic_clusters(noise, segments=40)
    segments = slic_segments(noise, segments=40)
    sizes = np.bincount(segments.ravel())
    assert sizes.min() >= 50 * 70 / 40 / 4
    firsts = [np.flatnonzero(segments == k)[0] for k in range(len(sizes))]
    assert firsts == sorted(firsts)
    assert all(ndimage.label(segments == k)[1] == 1 for k in range(len(sizes)))
    assert any(ndimage.label(clusters == k)[1] > 1 for k in np.unique(clusters))


def test_a_compact_grid_is_straighter():
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((60, 60, 3)), (2, 2, 0)) * 500
    outline = []
    for compactness in (1.0, 10.0, 1000.0):
        segments = slic_segments(noise, segments=36, compactness=compactness)
        outline.append((np.diff(segments, axis=0) != 0).sum() + (np.diff(segments, axis=1) != 0).sum())
    assert outline[0] > outline[1] > outline[2]
    assert outline[2] < 1.1 * 2 * 5 * 60


@pytest.mark.parametrize(
    ("size", "segments", "grid"),
    [
        ((360, 480), 200, (12, 17)),
        ((10, 10), 1, (1, 1)),
        ((3, 4), 12, (3, 4)),
        ((1, 9), 3, (1, 3)),
        ((9, 1), 3, (3, 1)),
        ((2, 2), 99, (2, 2)),
    ],
)
def test_the_grid(size, segments, grid):
    assert slic_grid(*size, segments) == grid


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (1, 7), (3, 2)])
@pytest.mark.parametrize("segments", [1, 1000])
def test_small_images(shape, segments):
    found = slic_segments(np.random.default_rng(0).random((*shape, 3)), segments=segments)
    assert found.shape == shape
    assert found.dtype == np.int32
    if segments == 1:
        assert not found.any()

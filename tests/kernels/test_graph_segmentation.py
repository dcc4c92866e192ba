"""Felzenszwalb and Huttenlocher's segments: a twin of sets, and the property that the paper proves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

from delineate.kernels.graph_segmentation import gaussian_smoothed, graph_segments

STEPS = ((0, 1), (1, 0), (1, 1), (-1, 1))


def grid_edges(features):
    """(weight, number, pixel, pixel), lightest first."""
    height, width = features.shape[:2]
    edges = []
    for y, x in np.ndindex(height, width):
        for direction, (i, j) in enumerate(STEPS):
            if 0 <= y + i < height and x + j < width:
                total = np.float32(0)
                for step in features[y, x] - features[y + i, x + j]:
                    total += step * step
                pixel = y * width + x
                edges.append((float(np.sqrt(total)), 4 * pixel + direction, pixel, (y + i) * width + x + j))
    return sorted(edges)


def twin(features, scale, min_size):
    """The paper's algorithm with sets of pixels; Int is the weight of the edge that joined a segment last."""
    features = np.asarray(features, np.float32)
    home = {pixel: frozenset([pixel]) for pixel in range(features.shape[0] * features.shape[1])}
    largest_step = dict.fromkeys(home.values(), 0.0)
    edges = grid_edges(features)
    for weight, _, p, q in edges:
        a, b = home[p], home[q]
        if a != b and weight <= min(largest_step[a] + scale / len(a), largest_step[b] + scale / len(b)):
            largest_step[a | b] = weight
            home |= dict.fromkeys(a | b, a | b)
    for _, _, p, q in edges:
        a, b = home[p], home[q]
        if a != b and min(len(a), len(b)) < min_size:
            home |= dict.fromkeys(a | b, a | b)
    firsts = [min(home[pixel]) for pixel in sorted(home)]
    return np.unique(firsts, return_inverse=True)[1].reshape(features.shape[:2])


images = st.tuples(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 7), st.integers(1, 7)), st.sampled_from([1, 3]))


def drawn(seed, shape, channels, *, whole=False):
    generator = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(generator.random((*shape, channels)), (0.8, 0.8, 0)) * 100
    return image.round() if whole else image


@settings(deadline=None, max_examples=40)
@given(images, st.sampled_from([0.0, 5.0, 40.0, 1e6]), st.integers(0, 6), st.booleans())
def test_equals_the_twin(drawing, scale, min_size, whole):
    image = drawn(*drawing, whole=whole)  # whole numbers: many equal edges, whose order is fixed
    assert (graph_segments(image, scale=scale, min_size=min_size) == twin(image, scale, min_size)).all()


@settings(deadline=None, max_examples=20)
@given(images, st.sampled_from([5.0, 40.0]))
def test_is_not_too_fine_as_theorem_1_says(drawing, scale):
    """Between two segments even the smallest step is larger than Int + scale/size of one, Int from a spanning tree."""
    image = drawn(*drawing).astype(np.float32)
    segments = graph_segments(image, scale=scale, min_size=1).ravel()
    edges = grid_edges(image)
    pixels = segments.size
    weight, _, p, q = (np.array(side) for side in zip(*edges, strict=True)) if edges else (np.zeros(0),) * 4
    p, q = p.astype(int), q.astype(int)
    limits = {}
    for segment in np.unique(segments):
        inside = (segments[p] == segment) & (segments[q] == segment)
        tree = minimum_spanning_tree(csr_matrix((weight[inside], (p[inside], q[inside])), shape=(pixels, pixels)))
        limits[segment] = tree.data.max(initial=0.0) + scale / (segments == segment).sum()
    for w, a, b in zip(weight, segments[p], segments[q], strict=True):
        assert a == b or w > min(limits[a], limits[b])


def test_by_hand():
    """Steps of 1, 9 and 2: with scale 4 the first and the last pair join, the step between them stays."""
    row = np.array([[[0.0], [1.0], [10.0], [12.0]]])
    assert graph_segments(row, scale=4, min_size=1).tolist() == [[0, 0, 1, 1]]
    # 9 <= 2 + scale/2 and 9 <= 1 + scale/2 from scale 16 on
    assert graph_segments(row, scale=15.9, min_size=1).tolist() == [[0, 0, 1, 1]]
    assert graph_segments(row, scale=16, min_size=1).tolist() == [[0, 0, 0, 0]]
    assert graph_segments(row, scale=4, min_size=3).tolist() == [[0, 0, 0, 0]]


def test_a_corner_connects_and_every_segment_keeps_its_size():
    image = np.zeros((6, 6, 1))
    image[[0, 1, 2], [0, 1, 2]] = 100
    assert np.unique(graph_segments(image, scale=1, min_size=1)).tolist() == [
        0,
        1,
    ]  # the diagonal is one, and so is the rest
    noise = np.random.default_rng(0).random((30, 40, 3))
    segments = graph_segments(noise, scale=0.5, min_size=12)
    assert np.bincount(segments.ravel()).min() >= 12
    for segment in np.unique(segments):
        assert ndimage.label(segments == segment, np.ones((3, 3)))[1] == 1


def test_a_larger_scale_and_one_colour():
    noise = gaussian_smoothed(np.random.default_rng(0).random((40, 40, 3)), sigma=0.8)
    counts = [graph_segments(noise, scale=scale, min_size=1).max() for scale in (0.01, 0.1, 1.0, 100.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 100
    assert counts[-1] == 0
    assert not graph_segments(np.full((5, 5, 3), 7.0), scale=0, min_size=1).any()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1), (1, 5), (5, 1)])
def test_thin_and_empty_images(shape):
    segments = graph_segments(np.zeros((*shape, 3)), scale=1, min_size=1)
    assert segments.shape == shape
    assert not segments.any()


@pytest.mark.parametrize("sigma", [0.5, 0.8, 2.0])
def test_smoothing_equals_scipys(sigma):
    image = np.random.default_rng(0).random((9, 13, 2)) * 255
    reach = int(np.ceil(4 * sigma))
    expected = ndimage.gaussian_filter(image, sigma, axes=(0, 1), mode="nearest", radius=reach)
    found = gaussian_smoothed(image, sigma=sigma)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4


def test_no_smoothing_is_a_copy():
    image = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
    same = gaussian_smoothed(image, sigma=0)
    assert (same == image).all()
    assert same is not image
    assert gaussian_smoothed(image[:0], sigma=1).shape == (0, 5, 3)

from unittest.mock import patch

import numpy as np
import pytest

from delineate.kernels import permutohedral
from delineate.kernels.mean_field import PairwiseKernel, mean_field, pixel_features
from delineate.kernels.permutohedral import build_lattice, filter_values


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


def naive(logits, matrices, potentials, *, iterations, normalisation):
    """Mean field with every kernel as a full matrix over pixels and every potential as one over labels."""
    probs = softmax(logits.astype(float))
    for _ in range(iterations):
        scores = logits.astype(float)
        for matrix, potential in zip(matrices, potentials, strict=True):
            n = matrix.sum(axis=1)
            before, after = {
                "symmetric": (n**-0.5, n**-0.5),
                "before": (1 / n, 1),
                "after": (1, 1 / n),
                "none": (1, 1),
            }[normalisation]
            message = ((probs * before) @ matrix.T) * after
            scores = scores + (np.diag(potential) if potential.ndim == 1 else potential) @ message
        probs = softmax(scores)
    return probs


def scene(height=18, width=23, labels=3, seed=0):
    """A photograph's stand-in: two flat halves with noise, and logits that follow them badly."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    side = rows + columns > (height + width) // 2
    image = (60 + 120 * side[..., None] + generator.normal(0, 6, (height, width, 3))).clip(0, 255).astype(np.uint8)
    logits = generator.normal(0, 1.5, (labels, height * width)).astype(np.float32)
    logits[0] += 1.5 * ~side.ravel()
    logits[labels - 1] += 1.5 * side.ravel()
    return image, logits


def lattices(image):
    flat = image[..., :0]
    return [
        build_lattice(pixel_features(flat, sigma=3.0)),
        build_lattice(pixel_features(image, sigma=20.0, sigma_colour=13.0)),
    ]


@pytest.mark.parametrize("normalisation", ["symmetric", "before", "after", "none"])
@pytest.mark.parametrize("kind", ["potts", "weighted", "table"])
def test_equals_mean_field_with_the_lattices_as_matrices(normalisation, kind):
    image, logits = scene()
    weight = 0.02 if normalisation == "none" else 2.0
    potentials = {
        "potts": [np.full(3, 3, np.float32), np.full(3, 10, np.float32)],
        "weighted": [np.array([1, 2, 3], np.float32), np.array([9, 0, 2], np.float32)],
        "table": [np.diag([1, 2, 3]).astype(np.float32), -np.array([[0, 1, 4], [1, 0, 2], [4, 2, 0]], np.float32)],
    }[kind]
    potentials = [np.float32(weight) * potential for potential in potentials]
    found_lattices = lattices(image)
    identity = np.eye(logits.shape[1], dtype=np.float32)
    matrices = [filter_values(lattice, identity).astype(float) for lattice in found_lattices]
    kernels = [PairwiseKernel(*pair) for pair in zip(found_lattices, potentials, strict=True)]
    found = mean_field(logits, kernels, iterations=4, normalisation=normalisation)
    expected = naive(logits, matrices, potentials, iterations=4, normalisation=normalisation)
    assert np.abs(found - expected).max() < 2e-4
    assert np.abs(found - softmax(logits)).max() > 0.1
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_near_mean_field_with_exact_gaussians(seed):
    """The lattice approximates: seen here are 0.0016 on average and 0.024 at most, and 99.87 % of the labels equal."""
    image, logits = scene(24, 32, 4, seed)
    potentials = [np.full(4, 1, np.float32), np.full(4, 2, np.float32)]
    kernels = [PairwiseKernel(*pair) for pair in zip(lattices(image), potentials, strict=True)]
    found = mean_field(logits, kernels, iterations=5, normalisation="symmetric")
    matrices = []
    for features in (pixel_features(image[..., :0], sigma=3.0), pixel_features(image, sigma=20.0, sigma_colour=13.0)):
        squared = ((features[:, None] - features[None]).astype(float) ** 2).sum(axis=2)
        matrices.append(np.exp(-squared / 2))
    expected = naive(logits, matrices, potentials, iterations=5, normalisation="symmetric")
    assert np.abs(found - expected).mean() < 0.004
    assert np.abs(found - expected).max() < 0.05
    assert (found.argmax(axis=0) == expected.argmax(axis=0)).mean() > 0.995
    assert (logits.argmax(axis=0) == expected.argmax(axis=0)).mean() < 0.9


def test_without_kernels_or_iterations_it_is_the_softmax():
    image, logits = scene(labels=11)
    expected = softmax(logits.astype(float))
    kernel = PairwiseKernel(lattices(image)[0], np.ones(11, np.float32))
    for kernels, iterations in (((), 3), ((kernel,), 0)):
        found = mean_field(logits, kernels, iterations=iterations, normalisation="symmetric")
        assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("labels", [1, 2, 8, 23, 24, 25, 2000])
def test_any_number_of_labels(labels):
    image, logits = scene(5, 6, labels)
    lattice = lattices(image)[1]
    matrix = filter_values(lattice, np.eye(30, dtype=np.float32)).astype(float)
    potential = np.full(labels, 3, np.float32)
    found = mean_field(logits, [PairwiseKernel(lattice, potential)], iterations=2, normalisation="symmetric")
    expected = naive(logits, [matrix], [potential], iterations=2, normalisation="symmetric")
    assert np.abs(found - expected).max() < 1e-4


def test_labels_may_be_renamed_and_logits_shifted():
    image, logits = scene(labels=5)
    kernels = [PairwiseKernel(lattice, np.full(5, 4, np.float32)) for lattice in lattices(image)]
    found = mean_field(logits, kernels, iterations=3, normalisation="symmetric")
    renamed = mean_field(logits[::-1], kernels, iterations=3, normalisation="symmetric")
    assert np.allclose(renamed[::-1], found, atol=1e-5)
    shift = np.linspace(-50, 50, logits.shape[1], dtype=np.float32)
    shifted = mean_field(logits + shift, kernels, iterations=3, normalisation="symmetric")
    assert np.allclose(shifted, found, atol=1e-3)


def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr(permutohedral, "_BAND", 64)
    image, logits = scene(30, 40, 9)
    results = []
    for threads in (1, 3):
        with patch("delineate.kernels.threads.thread_count", lambda threads=threads: threads):
            kernels = [PairwiseKernel(lattice, np.full(9, 5, np.float32)) for lattice in lattices(image)]
            assert len(kernels[0].lattice.bands) > 3
            results.append(mean_field(logits, kernels, iterations=3, normalisation="after"))
    assert np.array_equal(*results)


def test_no_pixels():
    empty = np.empty((0, 5, 3), np.uint8)
    kernel = PairwiseKernel(build_lattice(pixel_features(empty, sigma=3.0)), np.ones(2, np.float32))
    found = mean_field(np.empty((2, 0), np.float32), [kernel], iterations=2, normalisation="symmetric")
    assert found.shape == (2, 0)


def test_features_of_pixels():
    image = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
    found = pixel_features(image, sigma=2.0, sigma_colour=4.0)
    assert found.dtype == np.float32
    assert found.reshape(2, 3, 4)[1, 2].tolist() == [1.0, 0.5, 10 / 4, 11 / 4]
    assert found[:, 0].tolist() == [0, 0.5, 1, 0, 0.5, 1]

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from delineate.errors import ArgumentError
from delineate.postprocess.tiling import predict_tiled, tile_starts, tile_weights, tile_windows


def pointwise(tiles: Tensor) -> Tensor:
    """Three classes, each pixel for itself."""
    values = tiles.float().mean(dim=1)
    return torch.stack([values / 50 - 2, (values - 100).abs() / 40 - 1, torch.cos(values)], dim=1)


def whole(image: np.ndarray, infer) -> tuple[np.ndarray, np.ndarray]:
    probs = infer(torch.from_numpy(image).permute(2, 0, 1)[None]).softmax(dim=1)[0]
    scores, labels = probs.max(dim=0)
    return labels.numpy(), scores.numpy()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def test_weights_by_hand():
    # tiles 0..7 and 4..11 share 4..7: pixel 4 belongs to the first, 7 to the second, 5 and 6 to both
    weights = tile_weights([0, 4], 8, 12)
    high, low = (2 + 2**0.5) / 4, (2 - 2**0.5) / 4
    assert weights[0].tolist() == pytest.approx([1, 1, 1, 1, 1, high, low, 0])
    assert weights[1].tolist() == pytest.approx([0, low, high, 1, 1, 1, 1, 1])


@given(size=st.integers(1, 300), tile=st.integers(1, 80), share=st.floats(0, 0.99))
@settings(max_examples=80, deadline=None)
def test_tiles_cover_every_pixel_and_weights_sum_to_one(size: int, tile: int, share: float):
    overlap = min(int(tile * share), tile - 1)
    starts = tile_starts(size, tile, overlap)
    tile = min(tile, size)
    assert starts[0] == 0
    assert starts[-1] + tile == size
    assert all(0 < right - left <= tile - overlap for left, right in pairwise(starts))
    total = torch.zeros(size)
    for start, weight in zip(starts, tile_weights(starts, tile, size), strict=True):
        total[start : start + tile] += weight
    assert torch.allclose(total, torch.ones(size), atol=1e-6)


def test_windows_by_hand():
    assert tile_windows((5, 12), tile=8, overlap=4) == [(0, 0, 5, 8), (0, 4, 5, 12)]
    assert tile_windows((12, 5), tile=8, overlap=4) == [(0, 0, 8, 5), (4, 0, 12, 5)]
    assert tile_windows((5, 12), tile=6, overlap=0) == [(0, 0, 5, 6), (0, 6, 5, 12)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 5)}, r"size must be a positive \(height, width\); got \(0, 5\)"),
        ({"tile": 0}, "tile must be a positive number of pixels; got 0"),
        ({"overlap": -1}, "overlap must not be negative; got -1"),
        ({"overlap": 8}, r"overlap must be smaller than tile \(8\); got 8. Pass overlap=1 or a larger tile"),
    ],
)
def test_windows_that_cannot_be(options, message):
    with pytest.raises(ArgumentError, match=message):
        tile_windows(**{"size": (20, 20), "tile": 8, "overlap": 4, **options})


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    tile=st.integers(1, 40),
    share=st.floats(0, 0.99),
    batch_size=st.integers(1, 5),
)
@settings(max_examples=50, deadline=None)
def test_pointwise_model_is_as_on_the_whole_image(height: int, width: int, tile: int, share: float, batch_size: int):
    image = noise(height, width, seed=height * 71 + width)
    result = predict_tiled(
        image, pointwise, num_classes=3, tile=tile, overlap=min(int(tile * share), tile - 1), batch_size=batch_size
    )
    labels, scores = whole(image, pointwise)
    assert result.labels.dtype == np.uint8
    assert np.abs(result.scores - scores).max() <= 1e-5
    assert (result.labels == labels)[scores < 0.999].all()
    assert (result.labels != labels).sum() == 0 or scores[result.labels != labels].max() < 0.51


def test_convolution_whose_reach_is_a_quarter_of_the_overlap_is_as_on_the_whole_image():
    kernel = torch.randn(4, 3, 9, 9) * 0.01  # reaches 4 pixels, with the zero padding that makes rims wrong

    def convolve(tiles: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(tiles.float(), kernel, padding=4)

    image = noise(130, 97)
    labels, scores = whole(image, convolve)
    good = predict_tiled(image, convolve, num_classes=4, tile=48, overlap=16)
    assert np.abs(good.scores - scores).max() < 1e-5
    assert (good.labels == labels).mean() > 0.999
    seams = predict_tiled(image, convolve, num_classes=4, tile=48, overlap=0)
    assert np.abs(seams.scores - scores).max() > 0.01  # the test can tell


def test_blend_passes_smoothly_from_one_tile_to_the_next():
    calls = iter([4.0, -4.0])

    def constant_a_tile(tiles: Tensor) -> Tensor:
        value = torch.stack([torch.full(tiles.shape[2:], next(calls)) for _ in tiles])
        return torch.stack([value, torch.zeros_like(value)], dim=1)

    image = np.zeros((8, 28, 1), np.uint8)  # tiles at 0 and 12, shared 12..15
    result = predict_tiled(image, constant_a_tile, num_classes=2, tile=16, overlap=4)
    assert (result.labels == ([0] * 14 + [1] * 14)).all()
    mixed = 4 * (2 + 2**0.5) / 4 - 4 * (2 - 2**0.5) / 4
    assert result.scores[0, [0, 13, 27]].tolist() == pytest.approx(
        [1 / (1 + np.exp(-4)), 1 / (1 + np.exp(-mixed)), 1 / (1 + np.exp(-4))], abs=1e-6
    )


def test_image_within_one_tile_goes_through_whole():
    seen = []

    def infer(tiles: Tensor) -> Tensor:
        seen.append(tuple(tiles.shape))
        return pointwise(tiles)

    result = predict_tiled(noise(20, 33), infer, num_classes=3, tile=64, overlap=8)
    assert seen == [(1, 3, 20, 33)]
    assert result.labels.shape == (20, 33)


def test_batches_progress_and_dtypes():
    batches, progress = [], []

    def infer(tiles: Tensor) -> Tensor:
        assert tiles.dtype == torch.uint8
        batches.append(len(tiles))
        return pointwise(tiles).to(torch.bfloat16)

    result = predict_tiled(
        noise(50, 50),
        infer,
        num_classes=3,
        tile=20,
        overlap=5,
        batch_size=4,
        score_dtype="float16",
        progress=lambda done, total: progress.append((done, total)),
    )
    assert batches == [4, 4, 1]
    assert progress == [(4, 9), (8, 9), (9, 9)]
    assert result.scores.dtype == np.float16
    assert predict_tiled(noise(9, 9), pointwise, num_classes=3, score_dtype=None).scores is None


def test_more_than_255_classes_are_int32():
    def last_class(tiles: Tensor) -> Tensor:
        logits = torch.zeros(len(tiles), 300, *tiles.shape[2:])
        logits[:, 299] = 1
        return logits

    labels = predict_tiled(noise(12, 12), last_class, num_classes=300, tile=8, overlap=2).labels
    assert labels.dtype == np.int32
    assert (labels == 299).all()


def test_reads_a_memory_map_on_disk(tmp_path: Path):
    image = noise(60, 45)
    image.tofile(tmp_path / "image.raw")
    mapped = np.memmap(tmp_path / "image.raw", np.uint8, "r", shape=image.shape)
    result = predict_tiled(mapped, pointwise, num_classes=3, tile=32, overlap=8)
    assert (result.labels == predict_tiled(image, pointwise, num_classes=3).labels).mean() > 0.99


def test_memory_grows_with_the_overlap_and_not_with_the_height():
    def zeros(tiles: Tensor) -> Tensor:
        return torch.zeros(len(tiles), 40, *tiles.shape[2:])

    allocated = 0
    plain = torch.Tensor.new_zeros

    def counted(self: Tensor, *shape: int) -> Tensor:
        nonlocal allocated
        allocated += int(np.prod(shape))
        return plain(self, *shape)

    image = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1500, 700, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "new_zeros", counted)
        tracemalloc.start()
        predict_tiled(image, zeros, num_classes=40, tile=64, overlap=8, score_dtype=None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert allocated <= 40 * 16 * 700  # the evenly spread overlap, never the 64 rows of a band
    assert peak < 1500 * 700 + 1_000_000  # NumPy holds the labels and a few tiles


@pytest.mark.slow
def test_ten_thousand_squared_stays_under_four_gibibytes(tmp_path: Path):
    script = f"""
import resource, numpy as np, torch
from delineate.postprocess.tiling import predict_tiled
image = np.memmap({str(tmp_path / "image.raw")!r}, np.uint8, "w+", shape=(10_000, 10_000, 3))
image[5_000:] = 200
weight = torch.linspace(-1, 1, 11)[:, None, None]
result = predict_tiled(image, lambda tiles: tiles[:, :1].float() / 100 * weight - weight, num_classes=11)
assert result.labels[0, 0] == 0 and result.labels[-1, -1] == 10, result.labels
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 4 * 2**30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tile": 64, "overlap": 64},
            "overlap must be smaller than tile (64); got 64. Pass overlap=8 or a larger tile.",
        ),
        ({"overlap": -1}, "overlap must not be negative; got -1."),
        ({"tile": 0}, "tile must be a positive number of pixels; got 0."),
        ({"batch_size": 0}, "batch_size must be positive; got 0."),
        ({"score_dtype": "int8"}, "score_dtype must be 'float32', 'float16' or None; got int8."),
        ({"num_classes": 4}, "infer must return logits of shape (1, 4, 10, 12); got shape (1, 3, 10, 12)."),
    ],
)
def test_errors_say_what_to_do(options: dict, message: str):
    with pytest.raises(ArgumentError) as error:
        predict_tiled(noise(10, 12), pointwise, **{"num_classes": 3, **options})
    assert str(error.value) == message


def test_empty_image_is_refused():
    with pytest.raises(ArgumentError, match="image must have pixels and channels"):
        predict_tiled(np.zeros((0, 5, 3), np.uint8), pointwise, num_classes=3)

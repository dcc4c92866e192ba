import io

import numpy as np
import pytest
from PIL import Image

from delineate.data import fingerprints
from delineate.data.fingerprints import file_hash, hamming_distance, near_pairs, perceptual_hash, pixel_hash


def photo(seed, size=(90, 120)):
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))


def distance(first, second):
    return hamming_distance(perceptual_hash(first), perceptual_hash(second))


def test_perceptual_hash_agrees_with_scipy():
    """The same thumbnail through SciPy's DCT."""
    from scipy.fft import dctn

    thumbnail = photo(0, (32, 32))[..., 0]
    low = dctn(thumbnail.astype(float), norm="ortho")[:8, :8].ravel()
    bits = "".join("1" if value > np.median(low[1:]) else "0" for value in low)
    assert perceptual_hash(thumbnail) == int(bits, 2)


def test_copies_look_alike_and_others_do_not():
    image = photo(1)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=60)
    small = np.asarray(Image.fromarray(image).resize((60, 45)))
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    for copy in (np.asarray(Image.open(stream)), small, image // 2 + 20, opaque):
        assert distance(image, copy) <= 6
    assert min(distance(photo(a), photo(b)) for a in range(8) for b in range(a)) > 12


def test_a_flat_picture_has_no_look():
    assert perceptual_hash(np.full((50, 50, 3), 200, np.uint8)) is None
    assert perceptual_hash(np.full((1, 1), 7, np.uint8)) is None


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels(channels):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, channels), dtype=np.uint8)
    assert perceptual_hash(image) is not None


def test_hashes_of_files_and_pixels(tmp_path):
    image = photo(2)
    for name, level in (("a.png", 1), ("b.png", 9)):
        Image.fromarray(image).save(tmp_path / name, compress_level=level)
    assert file_hash(tmp_path / "a.png") != file_hash(tmp_path / "b.png")
    assert (
        pixel_hash(image)
        == pixel_hash(np.asfortranarray(image))
        == pixel_hash(np.asarray(Image.open(tmp_path / "b.png")))
    )
    assert pixel_hash(image) != pixel_hash(image.reshape(120, 90, 3))


def test_near_pairs_equal_a_double_loop(monkeypatch):
    monkeypatch.setattr("delineate.data.fingerprints._ROWS_AT_ONCE", 50)
    generator = np.random.default_rng(0)
    first = generator.integers(0, 2**64, 23, dtype=np.uint64)
    second = np.concatenate([first[::2] ^ np.uint64(0b101), generator.integers(0, 2**64, 9, dtype=np.uint64)])
    expected = [
        (i, j, hamming_distance(int(a), int(b)))
        for i, a in enumerate(first)
        for j, b in enumerate(second)
        if hamming_distance(int(a), int(b)) <= 20
    ]
    assert list(near_pairs(first, second, 20)) == expected
    assert len(expected) >= 12
    assert list(near_pairs(first[:0], second, 20)) == []


def test_rounding_decides_no_bit_of_a_picture_with_few_frequencies(monkeypatch):
    ramp = np.arange(0, 128, 2, dtype=np.uint8).repeat(64).reshape(64, 64)
    plain = perceptual_hash(ramp)
    noise = np.random.default_rng(0).normal(scale=1e-14, size=fingerprints._COSINES.shape)
    monkeypatch.setattr(fingerprints, "_COSINES", fingerprints._COSINES + noise)
    assert perceptual_hash(ramp) == plain

"""Fingerprints of files and pictures, by which copies and near copies are found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

_SIDE, _KEPT = 32, 8  # thumbnail, and the low frequencies of it that make the hash
_FLAT = 2.0  # grey levels: pictures that vary less have no pattern to compare
_ROWS_AT_ONCE = 1 << 22


def file_hash(path: str | Path) -> str:
    """A hash of a file's bytes; raises OSError when it cannot be read."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def pixel_hash(image: np.ndarray) -> str:
    """A hash of a picture's size and pixels, the same for a lossless copy in another file format."""
    digest = hashlib.blake2b(repr((image.shape, image.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def perceptual_hash(image: np.ndarray) -> int | None:
    """64 bits that hardly change when a picture is scaled, recompressed or made brighter.

    Source: the "pHash" of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010: the signs
    of the 8x8 lowest frequencies of a 32x32 grey thumbnail, about their median.
    Differs: the constant term is left out of the median.

    Args:
        image: ``(H, W)`` or ``(H, W, C)`` uint8.

    Returns:
        None for a picture that is nearly of one colour, whose hash would be noise.

    Example:
        >>> ramp = np.arange(0, 128, 2, dtype=np.uint8).repeat(64).reshape(64, 64)
        >>> hamming_distance(perceptual_hash(ramp), perceptual_hash(ramp[::2, ::2] + 40)) <= 4
        True
    """
    plane = image if image.ndim == 2 else image[..., 0] if image.shape[2] not in (3, 4) else image[..., :3]
    grey = Image.fromarray(np.ascontiguousarray(plane)).convert("L")
    thumbnail = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    if thumbnail.std() < _FLAT:
        return None
    # what is zero but for rounding, as most of a ramp's, is zero on every processor
    frequencies = (_COSINES @ thumbnail @ _COSINES.T).ravel().round(6)
    bits = frequencies > np.median(frequencies[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming_distance(first: int, second: int) -> int:
    """The number of bits in which two hashes differ.

    Example:
        >>> hamming_distance(0b1010, 0b0110)
        2
    """
    return (first ^ second).bit_count()


def near_pairs(first: np.ndarray, second: np.ndarray, most: int) -> Iterator[tuple[int, int, int]]:
    """(i, j, distance) of every pair of hashes (uint64) of which at most ``most`` bits differ, in order of i."""
    if not len(first) or not len(second):
        return
    step = max(1, _ROWS_AT_ONCE // len(second))
    for start in range(0, len(first), step):
        distances = np.bitwise_count(first[start : start + step, None] ^ second[None, :])
        for i, j in np.argwhere(distances <= most):
            yield start + int(i), int(j), int(distances[i, j])


def _cosines() -> np.ndarray:
    """The first rows of the orthonormal DCT-II matrix."""
    frequency, place = np.arange(_KEPT)[:, None], np.arange(_SIDE)[None, :]
    rows = np.cos(np.pi * (2 * place + 1) * frequency / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    rows[0] /= np.sqrt(2)
    return rows


_COSINES = _cosines()

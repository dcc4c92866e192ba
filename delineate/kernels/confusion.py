"""Counting of (target, prediction) pairs: one pass over two label maps.

Label maps are made of long runs of one label, where a histogram stalls: each addition waits for the one before it to
the same cell. So eight pixels are compared at a time, and a word in which both maps are constant is one addition; the
pixels of the other words go to four histograms in turn, a few cache lines apart so that they do not evict each other.
The histogram is addressed by the two bytes themselves, which leaves no comparison in the loop: what lies outside the
classes is cut off at the end.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.threads import run_pieces, thread_count

_ROWS = np.uint64(8)  # the target byte is the row: shifted by 8 bits
_BYTE = np.uint64(255)
_SPREAD = np.uint64(0x0101010101010101)  # times a byte: that byte eight times
_PAIRS = 1 << 16
_STRIDE = np.uint64(_PAIRS + 64)  # 64 cells more than a power of two, else the four histograms share cache sets
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)
_SMALL = 1 << 18  # pixels below which a second thread costs more than it brings


@njit(nogil=True, cache=True)
def _count_words(target_words, prediction_words, target, prediction, histograms):
    for word in range(target_words.size):
        row = target_words[word] & _BYTE
        column = prediction_words[word] & _BYTE
        if (target_words[word] ^ (row * _SPREAD)) | (prediction_words[word] ^ (column * _SPREAD)) == 0:
            histograms[np.uint64(word & 3) * _STRIDE + ((row << _ROWS) | column)] += 8
        else:
            for i in range(word * 8, word * 8 + 8, 4):
                histograms[(np.uint64(target[i]) << _ROWS) | np.uint64(prediction[i])] += 1
                histograms[_STRIDE + ((np.uint64(target[i + 1]) << _ROWS) | np.uint64(prediction[i + 1]))] += 1
                histograms[_TWO * _STRIDE + ((np.uint64(target[i + 2]) << _ROWS) | np.uint64(prediction[i + 2]))] += 1
                histograms[_THREE * _STRIDE + ((np.uint64(target[i + 3]) << _ROWS) | np.uint64(prediction[i + 3]))] += 1
    for i in range(target_words.size * 8, target.size):
        histograms[(np.uint64(target[i]) << _ROWS) | np.uint64(prediction[i])] += 1


@njit(nogil=True, cache=True)
def _narrow(values, num_classes, out):
    for i in range(values.size):
        out[i] = values[i] if 0 <= values[i] < num_classes else 255


@njit(nogil=True, cache=True)
def _count_pairs(target, prediction, num_classes, ignore_index, counts, missed):
    for i in range(target.size):
        row = target[i]
        if row < 0 or row >= num_classes or row == ignore_index:
            continue
        column = prediction[i]
        if 0 <= column < num_classes:
            counts[row, column] += 1
        else:
            missed[row] += 1


def confusion_counts(
    target: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_index: int = 255
) -> tuple[np.ndarray, np.ndarray]:
    """The confusion matrix of two label maps of one shape and any integer type.

    Args:
        target: true labels; pixels outside ``0 .. num_classes - 1``, or equal to ``ignore_index``, are not counted.
        prediction: predicted labels.
        num_classes: rows and columns of the result.
        ignore_index: a target label that is not counted even where it lies inside the classes.

    Returns:
        ``(num_classes, num_classes)`` int64, rows the target and columns the prediction; and ``(num_classes,)`` int64,
        the pixels of each target class whose prediction lies outside the classes (they are in no cell).
    """
    target, prediction = np.asarray(target).reshape(-1), np.asarray(prediction).reshape(-1)
    wide = target.dtype != np.uint8 or prediction.dtype != np.uint8
    if wide and num_classes > 255:  # no byte is left over to mean "outside"
        counts = np.zeros((num_classes, num_classes), np.int64)
        missed = np.zeros(num_classes, np.int64)
        _count_pairs(
            frozen(target, np.int64),
            frozen(prediction, np.int64),
            num_classes,
            np.int64(ignore_index),
            counts,
            missed,
        )
        return counts, missed
    threads = thread_count() if target.size >= 2 * _SMALL else 1
    step = -(-target.size // threads // 8) * 8 + 8  # whole words a thread
    pieces = [slice(start, start + step) for start in range(0, target.size, step)]

    def count(piece: slice) -> np.ndarray:
        return _histogram(_as_bytes(target[piece], num_classes), _as_bytes(prediction[piece], num_classes), size)

    size = min(num_classes, 256)
    pairs = sum(run_pieces(count, pieces), np.zeros((size, 256), np.int64))
    if 0 <= ignore_index < size:
        pairs[ignore_index] = 0
    counts = np.zeros((num_classes, num_classes), np.int64)
    counts[:size, :size] = pairs[:size, :size]
    missed = np.zeros(num_classes, np.int64)
    missed[:size] = pairs[:size, size:].sum(axis=1)
    return counts, missed


def _histogram(target: np.ndarray, prediction: np.ndarray, rows: int) -> np.ndarray:
    """``(rows, 256)`` counts of two contiguous byte arrays."""
    histograms = np.zeros(4 * int(_STRIDE), np.int64)  # 2 MiB of address space, of which only the cells in use are real
    whole = target.size // 8 * 8
    _count_words(
        frozen(target[:whole].view(np.uint64)),
        frozen(prediction[:whole].view(np.uint64)),
        frozen(target),
        frozen(prediction),
        histograms,
    )
    return histograms.reshape(4, -1)[:, : rows * 256].sum(axis=0).reshape(rows, 256)


def _as_bytes(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Contiguous bytes on a word boundary; labels of a wider type that lie outside the classes become 255."""
    if labels.dtype != np.uint8:
        out = np.empty(labels.size, np.uint8)
        _narrow(frozen(labels), num_classes, out)
        return out
    labels = np.ascontiguousarray(labels)
    return labels if labels.ctypes.data % 8 == 0 else labels.copy()

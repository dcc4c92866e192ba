"""Run lengths of a tile's masks moved into the picture that the tile is part of, run by run: no pixel is ever made."""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen
from delineate.kernels.rle import _to_text
from delineate.kernels.rle_masks import _LONGEST, _grown, _read, written


@njit(nogil=True, cache=True)
def _most_pieces(ends, runs, height):
    """Where the picture is higher than the tile, a run falls apart into one for each column it passes."""
    most = 0
    for run in range(1, runs, 2):
        if ends[run] > ends[run - 1]:
            most += (ends[run] - 1) // height - ends[run - 1] // height + 1
    return most


@njit(nogil=True, cache=True)
def _moved(ends, runs, tile_height, x, y, clip, height, pixels, counts):
    """The runs in the picture, into ``counts``; their number."""
    found, last = 0, np.int64(0)
    for run in range(1, runs, 2):
        start, stop = np.int64(ends[run - 1]), np.int64(ends[run])
        if start == stop:
            continue
        first, final = start // tile_height, (stop - 1) // tile_height
        for column in range(max(first, clip[0] - x), min(final, clip[2] - x - 1) + 1):
            above = start - first * tile_height if column == first else 0
            below = stop - final * tile_height if column == final else tile_height
            above, below = max(above + y, clip[1]), min(below + y, clip[3])
            if above >= below:
                continue
            begin = (column + x) * height + above
            if found > 0 and begin == last:
                counts[found - 1] += below - above
            else:
                counts[found], counts[found + 1] = begin - last, below - above
                found += 2
            last = begin + below - above
    if found == 0 or last < pixels:
        counts[found] = pixels - last
        found += 1
    return found


@njit(nogil=True, cache=True)
def _move(text, offsets, sizes, corners, clips, height, width, first, last, lengths):
    moved, used = np.empty(4096, np.uint8), 0
    ends, counts = np.empty(1024, np.int32), np.empty(1024, np.int64)
    for i in range(first, last):
        begin, end = offsets[i], offsets[i + 1]
        ends = _grown(ends, 0, end - begin)
        runs = _read(text, begin, end, ends)
        counts = _grown(counts, 0, 2 * _most_pieces(ends, runs, sizes[i, 0]) + 1)
        x, y = corners[i, 0], corners[i, 1]
        found = _moved(ends, runs, np.int64(sizes[i, 0]), x, y, clips[i], height, height * width, counts)
        moved = _grown(moved, used, used + _LONGEST * found)
        lengths[i] = _to_text(counts[:found], moved[used:])
        used += lengths[i]
    return moved[:used]


def moved_texts(
    text: np.ndarray,
    offsets: np.ndarray,
    sizes: np.ndarray,
    corners: np.ndarray,
    clips: np.ndarray,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """COCO's texts back to back, and their offsets, of masks moved into a picture and cut to a part of it.

    Args:
        text: ``(C,)`` uint8, the compressed texts of masks that were checked, back to back.
        offsets: ``(N + 1,)`` int64, where each begins, and where the last ends.
        sizes: ``(N, 2)`` int32 height and width of each.
        corners: ``(N, 2)`` int64 x, y in the picture of each mask's upper left corner; may lie outside.
        clips: ``(N, 4)`` int64 xyxy; of each mask what lies in it is kept. Inside the picture.
        size: (height, width) of the picture, less than 2**31 pixels.

    Example:
        >>> text, offsets, sizes = np.frombuffer(b"04", np.uint8), np.array([0, 2]), np.array([[2, 2]])
        >>> moved_texts(text, offsets, sizes, np.array([[1, 0]]), np.array([[0, 0, 3, 3]]), (3, 3))[0].tobytes()
        b'32100'
    """
    text, offsets, sizes = frozen(text, np.uint8), frozen(offsets, np.int64), frozen(sizes, np.int32)
    corners, clips = frozen(corners, np.int64), frozen(clips, np.int64)
    height, width = int(size[0]), int(size[1])

    def move(first: int, last: int, lengths: np.ndarray) -> np.ndarray:
        return _move(text, offsets, sizes, corners, clips, height, width, first, last, lengths)

    return written(move, np.diff(offsets))

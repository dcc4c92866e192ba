"""Rows of words and numbers in text files, read fast, with the file and the line of the first that is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Bool, Float64, Int64

from delineate.data.formats.layout import Problem
from delineate.data.objects.class_names import NameIndex
from delineate.data.objects.defects import RecordError
from delineate.errors import DataError
from delineate.structures.annotations import Annotations

LARGEST = 1e12  # of any number: what is larger is damage, and its square must stay finite
_FARTHEST = 2.0  # image sizes that a relative coordinate may lie off: a box in pixels is farther out
_BLOCK = 4 << 20
_LONGEST_LINE = 64 << 20
_BATCH = 50_000  # rows that become arrays at once: many small files share the cost


@dataclass(frozen=True, eq=False)
class TextRows:
    """The rows of many text files, one after the other; blank lines are no rows.

    Args:
        files: in the order of the rows.
        counts: how many rows each file has.
        codes: the index of each row's first word, where it is a name; else empty.
        numbers: all other words, row after row.
        lengths: how many numbers each row has.
        ranks: which of its file's rows each one is, from 0; None where all rows of all files are there.
    """

    files: Sequence[Path]
    counts: Int64[np.ndarray, " F"]
    codes: Int64[np.ndarray, " N"]
    numbers: Float64[np.ndarray, " M"]
    lengths: Int64[np.ndarray, " N"]
    ranks: Int64[np.ndarray, " N"] | None = None

    def refuse(self, wrong: Bool[np.ndarray, " N"], condition: str, advice: str = "", kind: str = "malformed") -> None:
        """Raise a RecordError for the wrong rows, with the text, file and line of each."""
        if wrong.any():
            lines = _Lines()
            files, ranks = self.file_of_row(), self.rank_of_row()

            def described(row: int) -> str:
                place, text = lines.place(self.files[files[row]], int(ranks[row]))
                return f"{condition}; got '{_shortened(text)}' in {place}.{' ' + advice if advice else ''}"

            raise RecordError(np.flatnonzero(wrong), described, kind, lambda row: str(self.files[files[row]]))

    def file_of_row(self) -> Int64[np.ndarray, " N"]:
        """The index of the file that each row is from."""
        return np.repeat(np.arange(len(self.files)), self.counts)

    def rank_of_row(self) -> Int64[np.ndarray, " N"]:
        """Which of its file's rows each row is, from 0."""
        if self.ranks is not None:
            return self.ranks
        return np.arange(len(self.lengths)) - np.repeat(np.cumsum(self.counts) - self.counts, self.counts)

    def select(self, rows: Int64[np.ndarray, " M"]) -> TextRows:
        """Some of the rows, which must ascend; all of them have numbers only."""
        kept = np.zeros(len(self.lengths), bool)
        kept[rows] = True
        counts = np.bincount(self.file_of_row()[rows], minlength=len(self.files)).astype(np.int64)
        numbers = self.numbers[np.repeat(kept, self.lengths)]
        return TextRows(self.files, counts, self.codes, numbers, self.lengths[rows], self.rank_of_row()[rows])


def read_rows(
    files: Sequence[Path],
    accepts: Callable[[Int64[np.ndarray, " N"]], Bool[np.ndarray, " N"]],
    layout: str,
    names: NameIndex | None = None,
) -> TextRows:
    """The rows of text files: words between blanks, a name first where ``names`` are given, else numbers only.

    Args:
        files: read in this order, in blocks.
        accepts: which numbers of words a row may have.
        layout: what a row should be, for an error's text.
        names: what the first word may be.

    Raises:
        DataError: naming file and line.
    """
    counts: list[int] = []
    pending: list[list[str]] = []
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    converted = 0

    def convert() -> None:
        nonlocal converted
        widths = np.fromiter(map(len, pending), np.int64, len(pending))
        fail = _Refusal(files, counts, converted, layout)
        fail.first(~accepts(widths))
        codes = np.zeros(0, np.int64)
        if names is not None:
            first = [row.pop(0) for row in pending]
            codes = names.find(first)
            if (codes < 0).any():
                row = int(np.argmax(codes < 0))
                raise DataError(f"{names.problem(first[row])}, in {fail.place(row)}.")
            widths -= 1
        parts.append((codes, _numbers(pending, fail), widths))
        converted += len(pending)
        pending.clear()

    for path in files:
        counts.append(0)
        for text in _text_blocks(path):
            rows = [row for row in map(str.split, text.split("\n")) if row]
            counts[-1] += len(rows)
            pending += rows
            if len(pending) >= _BATCH:
                convert()
    convert()
    codes, numbers, lengths = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return TextRows(files, np.array(counts, np.int64), codes, numbers, lengths)


def read_sound_rows(
    files: Sequence[Path],
    accepts: Callable[[Int64[np.ndarray, " N"]], Bool[np.ndarray, " N"]],
    layout: str,
    problems: list[Problem],
) -> TextRows:
    """The rows of text files without names as :func:`read_rows` reads them, but for those that it refuses.

    Args:
        files: in the order of the rows; one that cannot be read has none.
        accepts: which numbers of words a row may have.
        layout: what a row should be, for a problem's text.
        problems: receives an error for each file and each row that is left out.
    """
    try:
        return read_rows(files, accepts, layout)
    except DataError:
        pass  # one of them is bad, so that each is looked at
    kept: list[list[str]] = []
    counts, ranks = [0] * len(files), []
    for number, path in enumerate(files):
        try:
            lines = [line for text in _text_blocks(path) for line in text.removesuffix("\n").split("\n")]
        except DataError as error:
            problems.append(Problem("error", "unreadable", str(path), str(error)))
            continue
        rank = -1
        for at, words in enumerate(map(str.split, lines), 1):
            rank += bool(words)
            if words and accepts(np.array([len(words)]))[0] and all(plain_number(word) is not None for word in words):
                kept.append(words)
                ranks.append(rank)
                counts[number] += 1
            elif words:
                finite = not any(word.lower().lstrip("+-") in ("nan", "inf", "infinity") for word in words)
                wanted = f"line must be {layout}, all numbers finite, at most 1e12"
                message = f"{wanted}; got '{_shortened(' '.join(words))}' in {path}, line {at}."
                problems.append(Problem("error", "malformed" if finite else "not-finite", str(path), message))
    lengths = np.fromiter(map(len, kept), np.int64, len(kept))
    numbers = np.fromiter(map(float, chain.from_iterable(kept)), np.float64, int(lengths.sum()))
    return TextRows(
        files, np.array(counts, np.int64), np.zeros(0, np.int64), numbers, lengths, np.array(ranks, np.int64)
    )


def plain_number(text: str) -> float | None:
    """The number that a text is, or None: digits of other scripts, underscores, NaN and what is huge are none.

    Example:
        >>> plain_number("1e3"), plain_number("1_000"), plain_number("nan")
        (1000.0, None, None)
    """
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return None
    return value if abs(value) <= LARGEST else None  # also false for NaN


def sizes_of_rows(truth: Annotations, images: Int64[np.ndarray, " N"], rows: TextRows) -> Float64[np.ndarray, "N 2"]:
    """(width, height) of each row's image; DataError where the size is not known."""
    sizes = truth.image_sizes[:, ::-1].astype(np.float64)
    advice = "Relative boxes need image sizes; the true annotations state none for this image."
    rows.refuse((sizes[images] <= 0).any(axis=1), "image must have a known size", advice)
    return sizes[images]


def pixel_boxes(
    relative: Float64[np.ndarray, "N 4"], sizes: Float64[np.ndarray, "N 2"], rows: TextRows
) -> Float64[np.ndarray, "N 4"]:
    """x, y, width, height in pixels of centre and size as fractions of images of these (width, height).

    Raises:
        DataError: on the first box too far out to be relative.
    """
    require_relative(np.abs(relative).max(axis=1, initial=0), rows)
    boxes = np.empty_like(relative)
    boxes[:, :2] = (relative[:, :2] - relative[:, 2:] / 2) * sizes
    boxes[:, 2:] = relative[:, 2:] * sizes
    return boxes


def require_relative(farthest: Float64[np.ndarray, " N"], rows: TextRows) -> None:
    """DataError for the first row whose farthest coordinate is no fraction of an image."""
    advice = "Coordinates in pixels are read as xyxy or xywh."
    rows.refuse(farthest > _FARTHEST, "coordinates must be fractions of the image, 0 to 1", advice)


def line_blocks(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The content of an open file in blocks of some MB that end where lines end.

    Raises:
        DataError: on a line too long to be a record.
    """
    rest = b""
    while chunk := file.read(_BLOCK):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield rest + chunk[:end]
            rest = chunk[end:]
        else:
            rest += chunk
        if len(rest) > _LONGEST_LINE:
            raise DataError(f"line must hold one record; got one of more than {_LONGEST_LINE >> 20} MiB in {path}.")
    if rest:
        yield rest


def _text_blocks(path: Path) -> Iterator[str]:
    lines = 0
    try:
        with path.open("rb") as file:
            for block in line_blocks(file, path):
                try:
                    yield block.decode("utf-8-sig" if lines == 0 else "utf-8")
                except UnicodeDecodeError as error:
                    line = lines + block.count(b"\n", 0, error.start) + 1
                    raise DataError(f"file must be UTF-8 text; got a foreign byte in {path}, line {line}.") from None
                lines += block.count(b"\n")
    except OSError as error:
        raise DataError(f"file must be readable; got {path} ({error.strerror}).") from None


@dataclass(frozen=True)
class _Refusal:
    """Names the place of a wrong row while rows are still being read."""

    files: Sequence[Path]
    counts: Sequence[int]
    start: int
    layout: str

    def first(self, wrong: np.ndarray, what: str = "") -> None:
        if wrong.any():
            row = self.start + int(np.argmax(wrong))
            raise _row_error(f"line must be {self.layout}{what}", self.files, self.counts, row)

    def place(self, row: int) -> str:
        return _place(self.files, self.counts, self.start + row)[0]


def _numbers(rows: list[list[str]], fail: _Refusal) -> np.ndarray:
    words = list(chain.from_iterable(rows))
    joined = " ".join(words)
    try:
        plain = joined.isascii() and "_" not in joined
        numbers = np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        plain, numbers = False, np.zeros(0)
    if not (plain and (np.abs(numbers) <= LARGEST).all()):  # also false for NaN
        wrong = [any(plain_number(word) is None for word in row) for row in rows]
        fail.first(np.array(wrong), ", all numbers finite, at most 1e12")
    return numbers


def _row_error(condition: str, files: Sequence[Path], counts: Sequence[int] | np.ndarray, row: int) -> DataError:
    place, text = _place(files, counts, row)
    return DataError(f"{condition}; got '{_shortened(text)}' in {place}.")


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _place(files: Sequence[Path], counts: Sequence[int] | np.ndarray, row: int) -> tuple[str, str]:
    """Where a row stands, "file, line 3", and its text."""
    ends = np.cumsum(counts)
    number = int(np.searchsorted(ends, row, side="right"))
    return _Lines().place(files[number], row - (int(ends[number - 1]) if number else 0))


class _Lines:
    """Where rows stand in their file, which is read once more, as blank lines are not counted."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.rows: list[tuple[int, str]] = []

    def place(self, path: Path, rank: int) -> tuple[str, str]:
        """The place in words ("file, line 3") and the text of that line."""
        if path != self.path:
            lines = (line for text in _text_blocks(path) for line in text.removesuffix("\n").split("\n"))
            filled = ((number, " ".join(line.split())) for number, line in enumerate(lines, 1))
            self.path, self.rows = path, [(number, text) for number, text in filled if text]
        if rank >= len(self.rows):  # the file has changed
            return str(path), ""
        return f"{path}, line {self.rows[rank][0]}", self.rows[rank][1]

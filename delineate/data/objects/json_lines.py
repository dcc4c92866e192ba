"""Detections as JSON Lines, a record a line, plain or gzipped: read in blocks, however long the file is."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from delineate.checks import require
from delineate.data.objects.class_names import NameIndex, class_index, class_index_beside, image_index, is_numbered
from delineate.data.objects.coco_json import Box, Columns, prediction_columns
from delineate.data.objects.plausible import require_pixels
from delineate.data.objects.segmentations import Segmentation
from delineate.data.objects.text_rows import line_blocks
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MISNOMERS = {  # what other tools call a field
    "image_id": ("image", "file_name", "filename", "image_name", "img", "img_id", "path"),
    "category": ("class", "class_name", "category_name", "label", "name", "class_id", "label_id", "cls"),
    "score": ("confidence", "conf", "probability", "scores"),
    "bbox": ("box", "boxes", "bounding_box"),
}


class _Record(msgspec.Struct, gc=False, kw_only=True):
    """What every record has: one of ``category_id`` and ``category``."""

    image_id: int | str
    score: float
    category_id: int | None = None
    category: str | None = None


class BoxRecord(_Record, gc=False):
    """A predicted box."""

    bbox: Box


class MaskRecord(_Record, gc=False):
    """A predicted mask."""

    segmentation: Segmentation


class KeypointRecord(_Record, gc=False):
    """A predicted person."""

    keypoints: list[float]


RECORDS: dict[Columns, type[_Record]] = {"boxes": BoxRecord, "masks": MaskRecord, "keypoints": KeypointRecord}


def read_predictions(path: str | Path, truth: Annotations, *, columns: Columns = "boxes") -> Objects:
    """The detections of a ``.jsonl`` or ``.jsonl.gz`` file.

    A line is a COCO result: ``{"image_id": 7, "category_id": 1, "bbox": [x, y, width, height], "score": 0.9}``, with
    ``segmentation`` or ``keypoints`` in place of ``bbox``. ``image_id`` may also be an image's name (no other field is
    read as one), and ``category`` a class's name in place of ``category_id``. Where the truth does not number its
    classes (VOC XML), ``category_id`` counts the names of ``data.yaml``, ``classes.txt`` or a ``.names`` file in the
    folder of the file or the one above it. Empty lines are passed over.

    Args:
        path: the file.
        truth: the images and classes that the detections refer to.
        columns: what to read.

    Returns:
        The detections; ``ids`` are record numbers from 0.

    Raises:
        DataError: naming file and line, as :func:`prediction_blocks`.
    """
    blocks = list(prediction_blocks(path, truth, columns=columns))
    return Objects.concatenate(blocks) if len(blocks) > 1 else blocks[0]


def prediction_blocks(path: str | Path, truth: Annotations, *, columns: Columns = "boxes") -> Iterator[Objects]:
    """The detections of :func:`read_predictions` in parts of some ten thousand, in order; one at least.

    Raises:
        DataError: naming file and line, on a record of another form, an unknown image or class, a damaged mask, a
            number that is not finite, bytes that are no UTF-8; naming the file, when it is missing, its compression is
            damaged, or the boxes of its first part are all relative.
        ArgumentError: on other ``columns``.
    """
    require(columns in RECORDS, "columns", f"be one of {', '.join(RECORDS)}", f"'{columns}'")
    path = Path(path)
    images = image_index(truth)
    classes = class_index(truth) if is_numbered(truth) else class_index_beside(truth, path.parent)
    numbered = replace(truth, image_ids=tuple(range(truth.num_images)), class_ids=tuple(range(truth.num_classes)))
    decoder = msgspec.json.Decoder(RECORDS[columns])
    line = done = 0
    for block in _blocks(path):
        place = _places(block, line, path)
        records = _decoded(block, decoder, place)
        _number(records, images, classes, place, block)
        if records:
            objects = prediction_columns(records, numbered, columns=columns, place=place, folder=path.parent)
            if done == 0 and columns == "boxes":
                require_pixels(objects.boxes, truth.image_sizes[objects.images], path)
            yield replace(objects, ids=objects.ids + done)
        line += block.count(b"\n")
        done += len(records)
    if done == 0:
        yield prediction_columns([], numbered, columns=columns, place=str)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            unpacked: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
            first = True
            for block in line_blocks(unpacked, path):
                yield block.removeprefix(_BYTE_ORDER_MARK) if first else block
                first = False
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"file must be whole; got damaged compression in {path} ({error}).") from None
    except OSError as error:
        raise DataError(f"file must be readable; got {error.strerror or error} for {path}.") from None


def _places(block: bytes, before: int, path: Path) -> Callable[[int], str]:
    """What to call record i of a block: lines are only counted when one is wrong."""

    def place(record: int) -> str:
        lines = [number for number, line in enumerate(block.split(b"\n"), before + 1) if line.strip()]
        return f"{path}, line {lines[record]}"

    return place


def _decoded(block: bytes, decoder: msgspec.json.Decoder[Any], place: Callable[[int], str]) -> list[Any]:
    lines = list(filter(bytes.strip, block.split(b"\n")))  # decode_lines would take two records from one line
    try:
        return list(map(decoder.decode, lines))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        wrong = next(number for number, line in enumerate(lines) if not _decodes(line, decoder))
        listed = lines[wrong].lstrip().startswith(b"[")
        advice = " A file that is one JSON list is called .json." if listed else _renaming(lines[wrong])
        raise DataError(f"line must be a COCO result; got, in {place(wrong)}: {error}.{advice}") from None


def _renaming(line: bytes) -> str:
    """What to do about a record that lacks a field and has one that other tools write in its place; "" without one."""
    try:
        record = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(record, dict):
        return ""
    if isinstance(record.get("category_id"), str):
        return " A class's name belongs in category."
    if isinstance(record.get("category"), int):
        return " A class's number belongs in category_id."
    for field, names in _MISNOMERS.items():
        found = next((name for name in names if name in record), None)
        if found is not None and field not in record and not (field == "category" and "category_id" in record):
            numbered = field == "category" and isinstance(record[found], int)
            what = " (an id, or an image's name)" if field == "image_id" else ""
            return f" Call '{found}' {'category_id' if numbered else field}{what}."
    return ""


def _decodes(line: bytes, decoder: msgspec.json.Decoder[Any]) -> bool:
    try:
        decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _number(
    records: Sequence[_Record], images: NameIndex, classes: NameIndex, place: Callable[[int], str], block: bytes
) -> None:
    """Put the index of image and class in place of what the records call them."""
    names = [record.category if record.category_id is None else record.category_id for record in records]
    if None in names:
        wrong = names.index(None)
        advice = _renaming(list(filter(bytes.strip, block.split(b"\n")))[wrong])
        raise DataError(f"line must have category_id or category; got neither in {place(wrong)}.{advice}")
    columns = []
    for index, called in ((images, [record.image_id for record in records]), (classes, names)):
        found = index.find(called)
        if (found < 0).any():
            wrong = int(np.argmax(found < 0))
            raise DataError(f"{index.problem(called[wrong])}, in {place(wrong)}.")
        columns.append(found.tolist())
    for record, image, label in zip(records, *columns, strict=True):
        record.image_id, record.category_id = image, label

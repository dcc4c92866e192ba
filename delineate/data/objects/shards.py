"""Detections as NumPy columns: a folder of ``.npz`` files, for what is too large to be text."""

from __future__ import annotations

import ast
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from delineate.checks import require
from delineate.data.objects.class_names import (
    NameIndex,
    class_index,
    class_index_beside,
    class_list_beside,
    files_in,
    image_index,
    is_numbered,
)
from delineate.data.objects.coco_json import Columns
from delineate.errors import ArgumentError, DataError
from delineate.files import replaced_file
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle_masks import DamagedMaskError, RLEMasks

MOST_BYTES = 8 << 30  # of the arrays of one shard
_MOST_HEADER = 1 << 12
_MAGIC = b"\x93NUMPY"
_ALWAYS = ("image_ids", "labels", "scores")
_COLUMNS: dict[Columns, tuple[str, ...]] = {
    "boxes": ("boxes",),
    "masks": ("mask_text", "mask_offsets", "mask_sizes"),
    "keypoints": ("keypoints",),
}
_DTYPE = re.compile(r"[<>|=]?[iufU]\d{1,9}")
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    KeyError,
    OverflowError,
    RuntimeError,
    struct.error,
)


def read_predictions(path: str | Path, truth: Annotations, *, columns: Columns = "boxes") -> Objects:
    """The detections in a folder of ``.npz`` files, or in one, file after file by name.

    The arrays of a shard, a row a detection:

    =============  =====================================================================================
    ``image_ids``  (N,) whole numbers or text: the images' ids; with ``images``, the ids it points into
    ``images``     (N,) whole numbers, may be left out: places in ``image_ids``, which then has any length
    ``labels``     (N,) whole numbers: class ids (see below where the truth has none, as VOC's XML)
    ``scores``     (N,) numbers
    ``boxes``      (N, 4) numbers: x, y, width, height in pixels
    ``keypoints``  (N, P, 3) numbers: x, y, visibility
    ``mask_text``  (C,) uint8: COCO's compressed run lengths back to back, with ``mask_offsets`` (N + 1,) and
                   ``mask_sizes`` (N, 2), height and width
    =============  =====================================================================================

    Where the truth does not number its classes, labels count the names of ``data.yaml``, ``classes.txt`` or a
    ``.names`` file in the folder or the one above it; without such a list the truth's classes in alphabetical order, as
    :func:`write_shard` writes them.

    Nothing is unpickled, and an array is only unpacked when its header agrees with the size that the archive states.

    Args:
        path: the folder or file; a shard may have no rows.
        truth: the images and classes that the detections refer to.
        columns: what to read; other arrays may be there and are left alone.

    Returns:
        The detections; areas, and boxes of masks and keypoints, are computed from what is read.

    Raises:
        DataError: naming file, array and row, on an archive that is damaged or unpacks to more than 8 GiB, arrays of
            another shape or type, Python objects, numbers that are not finite, unknown images or classes, damaged
            masks or masks of another size than their image.
        ArgumentError: on other ``columns``.
    """
    files, parts = _files(path), list(prediction_blocks(path, truth, columns=columns))
    filled = [(file, part) for file, part in zip(files, parts, strict=True) if len(part)] or [(files[0], parts[0])]
    for file, part in filled if columns == "keypoints" else ():
        points, other = part.keypoints.shape[1], filled[0][1].keypoints.shape[1]  # type: ignore[union-attr]
        if points != other:
            raise DataError(
                f"keypoints must be as many in every shard; got {points} in {file}, {other} in {filled[0][0]}."
            )
    whole = Objects.concatenate([part for _, part in filled])
    return replace(whole, ids=np.arange(len(whole), dtype=np.int64))


def prediction_blocks(path: str | Path, truth: Annotations, *, columns: Columns = "boxes") -> Iterator[Objects]:
    """The detections of :func:`read_predictions` a shard at a time, in order; ``ids`` start anew in each."""
    require(columns in _COLUMNS, "columns", f"be one of {', '.join(_COLUMNS)}", f"'{columns}'")
    files = _files(path)
    listed = not is_numbered(truth) and class_list_beside(files[0].parent, truth) is not None
    images, labels = image_index(truth), class_index_beside(truth, files[0].parent) if listed else class_index(truth)
    for file in files:
        yield _objects(_Shard(file, _arrays(file, columns)), truth, images, labels, columns)


def _files(path: str | Path) -> list[Path]:
    return [Path(path)] if Path(path).is_file() else files_in(path, ".npz", "predictions")


def write_shard(path: str | Path, objects: Objects, truth: Annotations) -> None:
    """Write detections as one shard, whole or not at all, with the columns that they have.

    Args:
        path: the file, ``.npz``.
        objects: detections, with scores.
        truth: the images and classes that they refer to.

    Raises:
        ArgumentError: on another suffix, objects without scores, or an image or class that ``truth`` does not have.

    Example:
        >>> import tempfile
        >>> truth = Annotations.of(("a", "b"), ("cat",), Objects.of([], [], []))
        >>> file = Path(tempfile.mkdtemp()) / "0000.npz"
        >>> write_shard(file, Objects.of([1], [0], [[0, 0, 4, 5]], scores=[0.5]), truth)
        >>> read_predictions(file, truth).boxes
        array([[0., 0., 4., 5.]])
    """
    path = Path(path)
    require(path.suffix == ".npz", "path", "end in .npz", path.name)
    require(objects.scores is not None, "objects", "have scores", "none", "A shard holds predictions.")
    for name, column, limit in (
        ("images", objects.images, truth.num_images),
        ("labels", objects.labels, truth.num_classes),
    ):
        require(
            not len(column) or int(column.max()) < limit, f"objects.{name}", f"be below {limit}", column.max(initial=0)
        )
    used, places = np.unique(objects.images, return_inverse=True)
    ids = [truth.image_ids[image] for image in used.tolist()]
    arrays: dict[str, Any] = {
        "image_ids": np.array(ids, None if ids else np.int64),
        "images": places.astype(np.int64),
        "labels": np.array(truth.class_ids, np.int64)[objects.labels],
        "scores": objects.scores,
        "boxes": objects.boxes,
    }
    if objects.masks is not None:
        masks = objects.masks
        arrays |= {"mask_text": masks.text, "mask_offsets": masks.offsets, "mask_sizes": masks.sizes}
    if objects.keypoints is not None:
        arrays["keypoints"] = objects.keypoints
    with replaced_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


class _Shard:
    """The arrays of a file, each asked for by name, type and shape."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        self.path, self.arrays = path, arrays
        self.count = len(self.numbers("labels", "iu", (None,)))

    def numbers(self, name: str, kinds: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """An array of one of NumPy's kinds; None in its shape is any length."""
        array = self.arrays[name]
        fits = array.ndim == len(shape) and all(
            want is None or want == got for want, got in zip(shape, array.shape, strict=True)
        )
        if array.size == 0 and (0 in shape or shape == (None,)):  # np.array([]) is float64, of no rows as of no columns
            return array if fits else np.zeros([want or 0 for want in shape])
        if array.dtype.kind not in kinds or not fits:
            what = {"iu": "whole numbers", "iuU": "whole numbers or text", "iuf": "numbers"}[kinds]
            size = ", ".join("any" if want is None else str(want) for want in shape)
            raise DataError(f"{name} must be ({size}) {what}; got {array.shape} {array.dtype} in {self.path}.")
        return array

    def finite(self, name: str, *shape: int | None) -> np.ndarray:
        """Numbers as float64."""
        with np.errstate(over="ignore", invalid="ignore"):  # of wider types; the check follows
            values = self.numbers(name, "iuf", (self.count, *shape)).astype(np.float64)
        whole = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if not whole.all():
            raise DataError(f"{name} must be finite; got NaN or infinity in {self.path}, row {np.argmin(whole)}.")
        return values

    def found(self, name: str, rows: np.ndarray, names: NameIndex) -> np.ndarray:
        """The index of each id."""
        try:
            values = rows.tolist()
        except ValueError:
            raise DataError(f"{name} must be Unicode text; got other characters in {self.path}.") from None
        indices = names.find(values)
        if (indices < 0).any():
            row = int(np.argmax(indices < 0))
            raise DataError(f"{names.problem(values[row])}, in {self.path}, {name}[{row}].")
        return indices

    def images(self, names: NameIndex) -> np.ndarray:
        """The image of each row, by its id or by a place among ids."""
        if "images" not in self.arrays:
            return self.found("image_ids", self.numbers("image_ids", "iuU", (self.count,)), names)
        table = self.found("image_ids", self.numbers("image_ids", "iuU", (None,)), names)
        places = self.numbers("images", "iu", (self.count,))
        outside = (places < 0) | (places >= len(table))
        if outside.any():
            row = int(np.argmax(outside))
            raise DataError(
                f"images must point into the {len(table)} image_ids; got {places[row]} in {self.path}, row {row}."
            )
        return table[places.astype(np.int64)]

    def masks(self, sizes: np.ndarray) -> RLEMasks:
        """The masks, of the (height, width) of each row's image where that is known."""
        text = self.numbers("mask_text", "iu", (None,))
        offsets = self.numbers("mask_offsets", "iu", (self.count + 1,)).astype(np.int64)
        own = self.numbers("mask_sizes", "iu", (self.count, 2)).astype(np.int64)
        if len(text) and text.dtype != np.uint8:
            raise DataError(f"mask_text must be uint8; got {text.dtype} in {self.path}.")
        other = (own != sizes).any(axis=1) & (sizes > 0).all(axis=1)
        if other.any():
            row = int(np.argmax(other))
            size, got = tuple(sizes[row].tolist()), tuple(own[row].tolist())
            raise DataError(f"mask must be of its image's size {size}; got {got} in {self.path}, row {row}.")
        most = np.iinfo(np.int32).max
        try:
            return RLEMasks(text.astype(np.uint8), offsets, np.clip(own, -1, most).astype(np.int32))
        except DamagedMaskError as error:
            place = f"{self.path}, row {error.index}"
            raise DataError(f"mask must be COCO's run lengths; got, in {place}: {error.reason}.") from None
        except ArgumentError as error:
            raise DataError(f"masks must fit their arrays; got, in {self.path}: {error}") from None


def _objects(
    shard: _Shard, truth: Annotations, image_names: NameIndex, class_names: NameIndex, columns: Columns
) -> Objects:
    images = shard.images(image_names)
    labels = shard.found("labels", shard.arrays["labels"], class_names)
    scores = shard.finite("scores")
    masks = keypoints = areas = None
    if columns == "boxes":
        boxes = shard.finite("boxes", 4)
    elif columns == "masks":
        masks = shard.masks(truth.image_sizes[images])
        boxes, areas = masks.boxes(), masks.areas()
    else:
        points = None if truth.objects.keypoints is None else truth.objects.keypoints.shape[1]
        keypoints = shard.finite("keypoints", points, 3)
        boxes = np.zeros((shard.count, 4))
        if keypoints.size:
            places = keypoints[:, :, :2]
            boxes = np.concatenate([places.min(axis=1), np.ptp(places, axis=1)], axis=1)
    try:
        with np.errstate(over="ignore"):  # the area of a huge box; not finite, and so refused
            return Objects.of(images, labels, boxes, scores=scores, areas=areas, masks=masks, keypoints=keypoints)
    except ArgumentError as error:
        raise DataError(f"arrays must be detections; got, in {shard.path}: {error}") from None


def _arrays(path: Path, columns: Columns) -> dict[str, np.ndarray]:
    """The arrays that are needed, and ``images`` where it is there."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries: dict[str, zipfile.ZipInfo] = {}
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name in entries:
                    raise DataError(f"arrays must have different names; got '{name[:80]}' twice in {path}.")
                entries[name] = entry
            wanted = (*_ALWAYS, *_COLUMNS[columns])
            missing = [name for name in wanted if name not in entries]
            if missing:
                raise DataError(f"shard must hold {', '.join(wanted)}; got no {', '.join(missing)} in {path}.")
            wanted = (*wanted, *(name for name in ("images",) if name in entries))
            total = sum(entries[name].file_size for name in wanted)
            if total > MOST_BYTES:
                raise DataError(
                    f"shard must unpack to at most {MOST_BYTES >> 30} GiB; got {total / 2**30:.1f} GiB in {path}."
                )
            return {name: _array(archive, entries[name], name, path) for name in wanted}
    except OSError as error:
        raise DataError(f"shard must be readable; got {error.strerror or error} for {path}.") from None
    except DataError:
        raise
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"shard must be a whole .npz archive; got, in {path}: {reason or type(error).__name__}."
        ) from None


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, path: Path) -> np.ndarray:
    """One array of plain numbers or text, whose header and declared size agree before anything is unpacked."""
    with archive.open(entry) as file:
        start = file.read(8)
        wide = len(start) == 8 and start[6] >= 2  # version 2 has four bytes for the header's length
        length = file.read(4 if wide else 2)
        if len(length) < (4 if wide else 2) or start[:6] != _MAGIC or start[6] not in (1, 2, 3):
            raise DataError(f"{name} must be a NumPy array; got something else in {path}.")
        (size,) = struct.unpack("<I" if wide else "<H", length)
        if size > _MOST_HEADER:
            raise DataError(f"{name} must have a short header; got one of {size:,} bytes in {path}.")
        dtype, shape, fortran = _header(file.read(size), name, path)
        stated = entry.file_size - 8 - len(length) - size
        needed = dtype.itemsize
        for axis in shape:
            needed *= axis
        if needed != stated:
            raise DataError(
                f"{name} must be as large as its header says; got {stated:,} bytes for {shape} {dtype} in {path}."
            )
        content = file.read()
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _header(text: bytes, name: str, path: Path) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
        shape, description = header["shape"], header["descr"]
        whole = isinstance(shape, tuple) and all(type(axis) is int and 0 <= axis < 2**62 for axis in shape)
        dtype = np.dtype(description if whole and _DTYPE.fullmatch(str(description)) else object)
        fortran = header["fortran_order"] is True
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        raise DataError(f"{name} must have NumPy's header; got another one in {path}.") from None
    if dtype.kind not in "iufU" or dtype.itemsize == 0:
        got = str(description)[:80]
        raise DataError(f"{name} must hold plain numbers or text; got {got} in {path}. Python objects are not read.")
    return dtype, shape, fortran

"""Masks of COCO records in any mixture, as one column: polygons, run lengths, compressed ones, or a picture's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
import numpy as np

from delineate.data.image_io import read_map
from delineate.data.objects.defects import RecordError
from delineate.errors import DataError
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import DamagedMaskError, RLEMasks

Whole = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]  # what a column of 64 bits holds


class Runs(msgspec.Struct, gc=False):
    """Run lengths, compressed (text) or not."""

    size: tuple[Whole, Whole]
    counts: str | list[Whole]


Polygons = list[list[float]]
Segmentation = Runs | Polygons | str


def segmentation_masks(
    segmentations: Sequence[Segmentation | None],
    sizes: np.ndarray,
    place: Callable[[int], str],
    folder: Path | None = None,
) -> RLEMasks:
    """The masks that COCO records describe.

    Args:
        segmentations: one a record. A text, which COCO itself does not have, names a picture (PNG, ``.npy``) whose
            pixels above 0 are the mask.
        sizes: ``(N, 2)`` int64 (height, width) of each record's image; zeros where the file does not say.
        place: what to call record i in an error.
        folder: what names of pictures are relative to.

    Raises:
        DataError: naming the first record whose mask is missing, malformed or of another size than its image.
    """
    texts: list[int] = []
    lists: list[int] = []
    polygons: list[int] = []
    pictures: list[int] = []
    missing: list[int] = []
    for i, segmentation in enumerate(segmentations):
        if isinstance(segmentation, Runs):
            (texts if isinstance(segmentation.counts, str) else lists).append(i)
        elif isinstance(segmentation, str):
            pictures.append(i)
        elif segmentation:
            polygons.append(i)
        else:
            missing.append(i)
    if missing:
        wanted = "segmentation must be polygons or run lengths; got none in"
        raise RecordError(missing, lambda i: f"{wanted} {place(i)}.", "no-outline")
    masks: list[RLEMasks] = []
    rows: list[int] = []
    of_pictures = partial(_of_pictures, folder or Path())
    kinds = ((texts, _of_texts), (lists, _of_counts), (polygons, _of_polygons), (pictures, of_pictures))
    for kind, read in kinds:
        if kind:
            rows += kind
            masks.append(read(kind, segmentations, sizes, place))
    if not masks:
        return RLEMasks.from_texts([], np.zeros((0, 2), np.int32))
    if len(masks) == 1:
        return masks[0]
    return RLEMasks.concatenate(masks).select(np.argsort(np.asarray(rows)))


def _of_texts(
    rows: list[int], segmentations: Sequence[Any], sizes: np.ndarray, place: Callable[[int], str]
) -> RLEMasks:
    own = _own_sizes(rows, segmentations, sizes, place)
    return _built(lambda: RLEMasks.from_texts([segmentations[i].counts for i in rows], own), rows, place)


def _of_counts(
    rows: list[int], segmentations: Sequence[Any], sizes: np.ndarray, place: Callable[[int], str]
) -> RLEMasks:
    own = _own_sizes(rows, segmentations, sizes, place)
    lengths = [len(segmentations[i].counts) for i in rows]
    flat = np.fromiter(chain.from_iterable(segmentations[i].counts for i in rows), np.int64, sum(lengths))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return _built(lambda: RLEMasks.from_counts(flat, starts, own), rows, place)


def _of_polygons(
    rows: list[int], segmentations: Sequence[Any], sizes: np.ndarray, place: Callable[[int], str]
) -> RLEMasks:
    own = sizes[rows]
    unknown = np.flatnonzero((own <= 0).any(axis=1))
    if len(unknown):
        wanted = "image must have a height and a width to draw polygons; got none for"
        raise RecordError([rows[i] for i in unknown], lambda i: f"{wanted} {place(i)}.", "unknown-size")
    parts = np.fromiter((len(segmentations[i]) for i in rows), np.int64, len(rows))
    flat = list(chain.from_iterable(segmentations[i] for i in rows))
    lengths = np.fromiter(map(len, flat), np.int64, len(flat))
    mask_starts = np.concatenate([[0], np.cumsum(parts)])
    odd = np.flatnonzero((lengths < 6) | (lengths % 2 == 1))
    if len(odd):
        of_record = {rows[int(np.searchsorted(mask_starts, i, side="right")) - 1]: int(lengths[i]) for i in odd[::-1]}
        wanted = "polygon must be x, y of at least three corners; got"
        raise RecordError(
            sorted(of_record), lambda i: f"{wanted} {of_record[i]} coordinates in {place(i)}.", "bad-outline"
        )
    coordinates = np.fromiter(chain.from_iterable(flat), np.float64, int(lengths.sum()))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return _built(lambda: RLEMasks.from_polygons(coordinates, starts, mask_starts, own), rows, place)


def _of_pictures(
    folder: Path, rows: list[int], segmentations: Sequence[Any], sizes: np.ndarray, place: Callable[[int], str]
) -> RLEMasks:
    masks = []
    for i in rows:
        try:
            mask = _picture(folder, segmentations[i], place(i)) > 0
            stated = tuple(sizes[i].tolist())
            if all(stated) and mask.shape != stated:
                raise DataError(f"mask must be {stated}, as its image; got {mask.shape} in {place(i)}.")
        except DataError as error:
            raise RecordError([i], lambda _, text=str(error): text, "bad-outline") from None
        masks.append(RLE.encode(mask))
    return RLEMasks.from_rles(masks)


def _picture(folder: Path, name: str, place: str) -> np.ndarray:
    path = PurePosixPath(name.replace("\\", "/"))
    drive = any(part[1:2] == ":" for part in path.parts[:1])
    if drive or path.is_absolute() or ".." in path.parts or not path.name or not name.isprintable():
        got = f"{name[:80]!r} in {place}"
        raise DataError(f"segmentation must name a picture inside the folder of its file; got {got}.")
    try:
        return read_map(folder / path)
    except (DataError, OSError) as error:
        raise DataError(f"segmentation must name a picture; got {name[:80]!r} in {place}: {error}") from None


def _own_sizes(
    rows: list[int], segmentations: Sequence[Any], sizes: np.ndarray, place: Callable[[int], str]
) -> np.ndarray:
    """The sizes that the run lengths state, which must be those of their images."""
    own = np.array([segmentations[i].size for i in rows], np.int64)
    stated = sizes[rows]
    wrong = (own <= 0).any(axis=1) | ((own != stated).any(axis=1) & (stated > 0).all(axis=1))
    if wrong.any():

        def described(i: int) -> str:
            of_image = tuple(sizes[i].tolist()) if (sizes[i] > 0).all() else "a positive (height, width)"
            return f"size must be {of_image}, as the image's; got {segmentations[i].size} in {place(i)}."

        raise RecordError([rows[i] for i in np.flatnonzero(wrong)], described, "mask-size")
    return own


def _built(build: Callable[[], RLEMasks], rows: list[int], place: Callable[[int], str]) -> RLEMasks:
    try:
        return build()
    except DamagedMaskError as error:
        reason = error.reason
        row = rows[error.index]
        raise RecordError(
            [row], lambda i: f"segmentation must be a mask; got {reason} in {place(i)}.", "bad-outline"
        ) from None

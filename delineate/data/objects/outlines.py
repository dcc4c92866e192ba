"""The outlines that files of objects state, corner by corner, for what is to be written again.

A folder of objects is read to masks, since scores and training need pixels. Who converts COCO's polygons to LabelMe's
wants the very corners. They are looked up in the files once more, and a set of corners counts only where it draws the
very mask that was read: a wrong one can never be written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from delineate.data.formats.coco import json_files
from delineate.data.json_files import json_bytes
from delineate.data.objects.folder import ObjectFolder
from delineate.data.objects.labelme import LabelFile, Shape
from delineate.data.objects.segmentations import Polygons, Runs
from delineate.errors import DataError
from delineate.structures.rle_masks import DamagedMaskError, RLEMasks

DECIMALS = 6  # of a pixel, to which fractions are rounded back
_MOST_TRIED = 4  # outlines that go by one name
Key = tuple[str, int]  # a picture's number or name, and an object's number
Outlines = list[Polygons | None]


class _Record(msgspec.Struct, gc=False):
    image_id: int
    id: int = -1
    segmentation: Polygons | Runs | str | None = None


class _File(msgspec.Struct, gc=False):
    annotations: list[_Record]


def source_outlines(folder: ObjectFolder, path: Path) -> Outlines:
    """The polygons of each object, where its file states some and they draw its mask; else None.

    Args:
        folder: what was read.
        path: where from: the folder, or one COCO JSON file.
    """
    objects = folder.annotations.objects
    found: Outlines = [None] * len(objects)
    masks = objects.masks
    if masks is None or folder.format not in ("coco", "labelme", "yolo"):
        return found
    stated: dict[Key, list[Polygons]] = {}
    read = {"coco": _of_coco, "labelme": _of_labelme, "yolo": _of_yolo}[folder.format]
    for key, outline in read(folder, path):
        if all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in outline) and outline:
            stated.setdefault(key, []).append(outline)
    ids = objects.ids.tolist()
    keys = [_keys(folder, image) for image in range(folder.annotations.num_images)]
    candidates = [
        list(chain.from_iterable(stated.get((name, ids[row]), ()) for name in keys[image]))
        for row, image in enumerate(objects.images.tolist())
    ]
    for turn in range(_MOST_TRIED):
        rows = [row for row, several in enumerate(candidates) if found[row] is None and len(several) > turn]
        if not rows:
            break
        same = draws(masks.select(rows), [candidates[row][turn] for row in rows])
        for row, fits in zip(rows, same, strict=True):
            if fits:
                found[row] = candidates[row][turn]
    return found


def draws(masks: RLEMasks, outlines: Sequence[Polygons]) -> list[bool]:
    """Whether each outline, drawn, is the mask of its row.

    Example:
        >>> from delineate.structures.rle import RLE
        >>> masks = RLEMasks.from_rles([RLE.encode(np.ones((2, 2), bool))])
        >>> draws(masks, [[[0, 0, 2, 0, 2, 2, 0, 2]]]), draws(masks, [[[0, 0, 1, 0, 1, 1, 0, 1]]])
        ([True], [False])
    """
    polygons = list(chain.from_iterable(outlines))
    coordinates = np.fromiter(chain.from_iterable(polygons), np.float64)
    starts = np.append(0, np.cumsum([len(polygon) for polygon in polygons])).astype(np.int64)
    mask_starts = np.append(0, np.cumsum([len(outline) for outline in outlines])).astype(np.int64)
    try:
        drawn = RLEMasks.from_polygons(coordinates, starts, mask_starts, masks.sizes)
    except DamagedMaskError:  # a corner far away, say: one by one, so that the others are kept
        if len(outlines) == 1:
            return [False]
        return [draws(masks.select([i]), [outline])[0] for i, outline in enumerate(outlines)]
    return [np.array_equal(a, b) for a, b in zip(_texts(masks), _texts(drawn), strict=True)]


def _texts(masks: RLEMasks) -> Iterator[np.ndarray]:
    bounds = masks.offsets.tolist()
    return (masks.text[start:end] for start, end in pairwise(bounds))


def _keys(folder: ObjectFolder, image: int) -> list[str]:
    """What the files may call a picture."""
    path = folder.path(image)
    if folder.format == "coco":
        return [str(folder.annotations.image_ids[image])]
    return list(dict.fromkeys((path.name, path.stem)))


def _of_coco(folder: ObjectFolder, path: Path) -> Iterator[tuple[Key, Polygons]]:
    files = (
        [path] if path.is_file() else [*json_files(path).values(), *path.glob("annotations/person_keypoints_*.json")]
    )
    for file in files:
        try:
            records = msgspec.json.decode(json_bytes(file), type=_File).annotations
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, DataError):
            continue  # a file with bad records: its masks are traced
        for record in records:
            if isinstance(record.segmentation, list):
                yield (str(record.image_id), record.id), record.segmentation


def _of_labelme(folder: ObjectFolder, path: Path) -> Iterator[tuple[Key, Polygons]]:
    for file in path.rglob("*.json"):
        try:
            content = msgspec.json.decode(json_bytes(file), type=LabelFile)
            shapes = [msgspec.json.decode(raw, type=Shape) for raw in content.shapes or ()]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, DataError):
            continue
        parts: dict[tuple[str, int], tuple[int, Polygons]] = {}
        for number, shape in enumerate(shapes, 1):
            key = (shape.label, shape.group_id if shape.group_id is not None else -number)
            parts.setdefault(key, (number, []))[1].append(_corners(shape))
        picture = PurePosixPath((content.imagePath or file.stem).replace("\\", "/")).name
        for number, outline in parts.values():
            yield (picture, number), outline


def _corners(shape: Shape) -> list[float]:
    points = shape.points
    if shape.shape_type == "rectangle" and len(points) == 2:
        (left, right), (top, bottom) = sorted(x for x, _ in points), sorted(y for _, y in points)
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return [value for point in points for value in point]


def _of_yolo(folder: ObjectFolder, path: Path) -> Iterator[tuple[Key, Polygons]]:
    sizes = {folder.path(i).stem: size for i, size in enumerate(folder.annotations.image_sizes.tolist())}
    for file in path.rglob("*.txt"):
        if file.stem not in sizes:
            continue
        height, width = sizes[file.stem]
        lines = [line.split() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
        for number, words in enumerate(filter(None, lines), 1):
            try:
                relative = np.array(words[1:], np.float64)
            except ValueError:
                continue
            if len(relative) >= 6 and len(relative) % 2 == 0:
                corners = relative.reshape(-1, 2) * (width, height)
                closed = len(corners) > 3 and np.array_equal(corners[0], corners[-1])
                corners = corners[: len(corners) - closed].reshape(-1)
                # fractions rarely lead back to the last bit; rounding does, where it does not change the mask
                yield (file.stem, number), [np.round(corners, DECIMALS).tolist()]
                yield (file.stem, number), [corners.tolist()]

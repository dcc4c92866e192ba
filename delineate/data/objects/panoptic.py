"""COCO panoptic annotations and results: a JSON file, and a folder with one PNG an image.

The colour of a pixel is the id of its segment, R + 256 G + 65536 B, and 0 is void. Cityscapes' panoptic files, whose
images have names for ids, are of the same form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec
import numpy as np

from delineate.data.image_io import MAX_PIXELS, read_image
from delineate.data.json_files import decoded_json, json_bytes
from delineate.data.read_ahead import read_ahead
from delineate.errors import ArgumentError, DataError
from delineate.structures.panoptic import MAX_ID, PanopticAnnotations, PanopticClasses, PanopticMap, PanopticSegments

_WANTED = "annotations must be COCO panoptic JSON"
_GREY = 1 + 256 + 65536  # the id of grey 1

Length = Annotated[int, msgspec.Meta(ge=0)]
Flag = Annotated[int, msgspec.Meta(ge=0, le=1)] | bool
SegmentId = Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]


class PanopticImage(msgspec.Struct, gc=False):
    """An entry of "images"; a size of 0 means that only the PNG knows."""

    id: int | str
    height: Length = 0
    width: Length = 0


class PanopticCategory(msgspec.Struct, gc=False):
    """An entry of "categories"."""

    id: int
    name: str
    isthing: Flag


class PanopticSegmentInfo(msgspec.Struct, gc=False):
    """An entry of "segments_info"; areas and boxes are those of the pixels, whatever the file says."""

    id: SegmentId
    category_id: int
    iscrowd: Flag = 0


class PanopticAnnotation(msgspec.Struct, gc=False):
    """An entry of "annotations": one image."""

    image_id: int | str
    file_name: str
    segments_info: list[PanopticSegmentInfo]


class PanopticResultsFile(msgspec.Struct, gc=False, kw_only=True):
    """A file of predictions; its categories, if it has any, are not asked."""

    annotations: list[PanopticAnnotation]
    images: list[PanopticImage] = []


class PanopticFile(PanopticResultsFile, gc=False, kw_only=True):
    """A file of the truth."""

    categories: list[PanopticCategory]


def read_panoptic(
    path: str | Path, folder: str | Path | None = None, *, classes: PanopticClasses | None = None
) -> PanopticAnnotations:
    """What a panoptic JSON file says of its images, checked; the maps are read later, one by one.

    Args:
        path: the JSON file.
        folder: where the PNGs are; beside the file, under its name without the suffix, when left out.
        classes: those of the truth, for a file of predictions, whose own categories then do not matter. When left out,
            the file's own, in order of their ids.

    Raises:
        DataError: naming the file and the place, on JSON of another shape, an image, category or segment that repeats,
            a category or an image that is not listed, and a name that leads out of the folder.
    """
    path = Path(path)
    content: PanopticResultsFile
    if classes is None:
        content = file = decoded_json(json_bytes(path), PanopticFile, path, _WANTED)
        classes = _classes(file.categories, path)
    else:
        content = decoded_json(json_bytes(path), PanopticResultsFile, path, _WANTED)
    folder = path.with_suffix("") if folder is None else Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"folder must hold the PNGs of {path.name}; got {folder}, which is no folder. Name the right one."
        )
    _refuse_repeated("images", (image.id for image in content.images), path)
    _refuse_repeated("annotations", (annotation.image_id for annotation in content.annotations), path)
    sizes = {image.id: (image.height, image.width) for image in content.images}
    label_of = {category: label for label, category in enumerate(classes.ids)}
    segments = []
    for annotation in content.annotations:
        if sizes and annotation.image_id not in sizes:
            raise DataError(f"annotation must be of a listed image; got image {annotation.image_id!r} in {path}.")
        segments.append(_segments(annotation, label_of, path))
    return PanopticAnnotations(
        source=str(path),
        classes=classes,
        image_ids=tuple(annotation.image_id for annotation in content.annotations),
        image_sizes=tuple(sizes.get(annotation.image_id, (0, 0)) for annotation in content.annotations),
        map_files=tuple(str(_map_file(annotation, folder, path)) for annotation in content.annotations),
        segments=tuple(segments),
    )


def read_panoptic_map(annotations: PanopticAnnotations, index: int) -> PanopticMap:
    """The map of the image at ``index``.

    Raises:
        DataError: naming the file, when it is missing or damaged, of another size than the JSON says, or shows other
            segments than the JSON lists.
    """
    path, segments = Path(annotations.map_files[index]), annotations.segments[index]
    place = f"{path} (image {annotations.image_ids[index]!r} of {annotations.source})"
    size = annotations.image_sizes[index]
    # three channels are decoded faster, but transparent pixels are then laid on white: hence a second look
    for channels in (3, 4):
        ids = _packed(read_image(path, channels=channels, max_pixels=MAX_PIXELS))
        if all(size) and ids.shape != size:
            wanted, got = (f"{height} x {width}" for height, width in (size, ids.shape))
            raise DataError(f"map must be {wanted} as its file says; got {got} in {place}.")
        try:
            return PanopticMap(ids, segments, path.stem)
        except ArgumentError as error:
            problem = str(error)
    if ids.any() and not (ids % _GREY).any():
        problem += " It is a grey picture: ids must be written as colours, R + 256 G + 65536 B."
    raise DataError(f"map must show the segments of its segments_info; got, in {place}: {problem}")


def _packed(colours: np.ndarray) -> np.ndarray:
    """``(H, W)`` int32 ids of ``(H, W, C)`` colours."""
    wide = np.zeros((*colours.shape[:2], 4), np.uint8)
    for channel in range(3):  # one after the other is three times faster than all at once
        wide[..., channel] = colours[..., channel]
    return wide.view("<i4")[..., 0].astype(np.int32, copy=False)


def panoptic_pairs(
    truth: PanopticAnnotations, predictions: PanopticAnnotations, *, threads: int | None = None
) -> Iterator[tuple[str, PanopticMap, PanopticMap]]:
    """Each image of the truth: its name, its predicted and its true map, in the order of the truth.

    Maps are decoded a few images ahead, so that memory does not grow with their number. Predictions for images that the
    truth does not have are passed over, as in panopticapi.

    Args:
        truth: read by :func:`read_panoptic`.
        predictions: read with ``classes=truth.classes``.
        threads: that decode; :func:`~delineate.kernels.threads.thread_count` when left out. The result is the same.

    Raises:
        DataError: at once, when the classes differ or an image has no prediction; later, naming the file, when a map
            cannot be read or the two differ in size.
    """
    if predictions.classes != truth.classes:
        advice = "Read the predictions with classes=truth.classes."
        raise DataError(f"predictions must be of the truth's classes; got others in {predictions.source}. {advice}")
    places = {image: index for index, image in enumerate(predictions.image_ids)}
    missing = [image for image in truth.image_ids if image not in places]
    if missing:
        got = f"none for image {missing[0]!r}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        advice = "An image in which nothing was found needs an entry too, with an empty list and a black PNG."
        raise DataError(f"predictions must cover every image of the truth; got {got} in {predictions.source}. {advice}")
    pairs = [(index, places[image]) for index, image in enumerate(truth.image_ids)]
    return read_ahead(partial(_pair, truth, predictions), pairs, threads=threads)


def _pair(
    truth: PanopticAnnotations, predictions: PanopticAnnotations, pair: tuple[int, int]
) -> tuple[str, PanopticMap, PanopticMap]:
    target, prediction = read_panoptic_map(truth, pair[0]), read_panoptic_map(predictions, pair[1])
    if prediction.size != target.size:
        (height, width), (other_height, other_width) = target.size, prediction.size
        got = f"{other_height} x {other_width} in {predictions.map_files[pair[1]]}"
        raise DataError(f"prediction must be {height} x {width} as {truth.map_files[pair[0]]}; got {got}.")
    return target.name, prediction, target


def _classes(categories: list[PanopticCategory], path: Path) -> PanopticClasses:
    if not categories:
        raise DataError(f"categories must name at least one class; got none in {path}.")
    _refuse_repeated("categories", (category.id for category in categories), path)
    times = Counter(category.name for category in categories)
    ordered = sorted(categories, key=lambda category: category.id)
    return PanopticClasses(
        names=tuple(c.name if times[c.name] == 1 else f"{c.name} ({c.id})" for c in ordered),
        things=tuple(c.isthing == 1 for c in ordered),
        ids=tuple(c.id for c in ordered),
    )


def _segments(annotation: PanopticAnnotation, label_of: dict[int, int], path: Path) -> PanopticSegments:
    for segment in annotation.segments_info:
        if segment.category_id not in label_of:
            got = f"category {segment.category_id} for segment {segment.id} of image {annotation.image_id!r}"
            raise DataError(f"segment must be of a listed category; got {got} in {path}.")
    try:
        return PanopticSegments.of(
            ids=[segment.id for segment in annotation.segments_info],
            labels=[label_of[segment.category_id] for segment in annotation.segments_info],
            crowd=[segment.iscrowd == 1 for segment in annotation.segments_info],
        )
    except ArgumentError as error:
        raise DataError(
            f"segments_info must be valid; got, for image {annotation.image_id!r} in {path}: {error}"
        ) from None


def _map_file(annotation: PanopticAnnotation, folder: Path, path: Path) -> Path:
    """The PNG of an annotation, never outside the folder."""
    name = PurePosixPath(annotation.file_name.replace("\\", "/"))
    drive = any(part[1:2] == ":" for part in name.parts[:1])
    if name.is_absolute() or drive or ".." in name.parts or name.suffix.lower() != ".png":
        got = f"{annotation.file_name[:80]!r} for image {annotation.image_id!r} in {path}"
        raise DataError(f"file_name must be that of a PNG inside the folder; got {got}.")
    return folder / name


def _refuse_repeated(what: str, ids: Iterable[int | str], path: Path) -> None:
    times = Counter(ids)
    if len(times) < times.total():
        (repeated, count), *_ = times.most_common(1)
        raise DataError(f"{what} must not repeat an id; got {repeated!r} {count} times in {path}.")

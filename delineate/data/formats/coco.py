"""COCO instances (``annotations/instances_*.json``), drawn to a label map."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
import numpy as np

from delineate.checks import require
from delineate.data.formats.layout import Layout, Problem, Record, missing_mask_problems, split_name, with_unique_stems
from delineate.data.formats.pairing import pictures_under
from delineate.data.image_io import MAX_PIXELS, image_size
from delineate.data.json_files import decoded_json, json_bytes
from delineate.errors import ArgumentError, DataError
from delineate.kernels import rle as kernels
from delineate.structures.rle import RLE
from delineate.structures.taxonomy import Taxonomy

LOOKED_FOR = "annotations/instances_*.json, annotations.json, or _annotations.coco.json beside its images"
BACKGROUND_ID = -1  # what read_ids gives where no object lies: category ids may start at 0
_MOST_NAMED = 50
_OTHER_TASKS = re.compile(r"^(captions|panoptic|stuff|image_info|deepfashion)|^person_keypoints_test|results?$")
_BACKGROUND_NAMES = ("background", "_background_")

Length = Annotated[int, msgspec.Meta(ge=0)]


class CocoImage(msgspec.Struct, gc=False):
    """An entry of "images"; a size of 0 means that the file itself is asked."""

    id: int
    file_name: str
    height: Length = 0
    width: Length = 0


class CocoCategory(msgspec.Struct, gc=False):
    """An entry of "categories"."""

    id: int
    name: str


class CocoAnnotation(msgspec.Struct, gc=False):
    """An entry of "annotations"; its outline stays undecoded until the image is read."""

    image_id: int
    category_id: int
    id: int = -1
    segmentation: msgspec.Raw = msgspec.Raw(b"[]")


class CocoFile(msgspec.Struct, gc=False):
    """The whole file; what is not needed is skipped."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


class _CocoKeys(msgspec.Struct):
    """What every COCO instances file has, undecoded."""

    images: msgspec.Raw
    annotations: msgspec.Raw
    categories: msgspec.Raw


class CocoRuns(msgspec.Struct):
    """Run lengths, compressed (text) or not."""

    counts: str | list[int]
    size: tuple[int, int]


class CocoFrame(msgspec.Struct, frozen=True, gc=False):
    """What is needed to draw one image: the size that its outlines refer to, and its objects."""

    size: tuple[int, int]
    objects: tuple[CocoAnnotation, ...]


@dataclass(frozen=True)
class CocoMaps:
    """Draws the label map of an image from its outlines.

    Larger objects are drawn first, so that a smaller one on top of them stays visible; of two of the same area the
    later one in the file is on top. A crowd region counts as its class like any other object.

    Args:
        frames: by the paths of the JSON file and the image.
    """

    frames: Mapping[tuple[str, str], CocoFrame]

    def __call__(self, record: Record) -> np.ndarray:
        """Category ids ``(H, W)`` int32, -1 where no object lies.

        Raises:
            DataError: naming file and annotation, when an outline is malformed.
        """
        frame = self.frames[str(record.mask), str(record.image)]
        height, width = frame.size if all(frame.size) else image_size(record.image)
        if height * width > MAX_PIXELS:
            raise DataError(
                f"image must hold at most {MAX_PIXELS:,} pixels; got {height} x {width} for {record.image}."
            )
        drawn = []
        for annotation in frame.objects:
            try:
                mask = RLE.from_coco(_outline(annotation.segmentation), (height, width))
            except (ArgumentError, msgspec.MsgspecError) as error:
                place = f"{record.mask}, annotation {annotation.id} of {record.image.name}"
                raise DataError(f"annotation must have a valid outline; got, in {place}: {error}") from None
            runs = mask.runs()
            drawn.append((kernels.counts_area(runs), runs, annotation.category_id))
        columns = np.full(height * width, BACKGROUND_ID, np.int32)
        for _, runs, category in sorted(drawn, key=lambda entry: -entry[0]):
            kernels.paint(runs, columns, category)
        return np.ascontiguousarray(columns.reshape(width, height).T)


def read(root: Path) -> Layout | str:
    """The layout of a COCO folder; a text that says what was found instead when it is not one.

    Label 0 is the background and the categories follow in order of their ids, as labels without gaps. A category
    that is itself called background is label 0. A split is named after its file: ``instances_train2017.json`` is
    "train". Pictures are looked for in ``images/<split>``, ``<split>``, ``images``, and by name everywhere below.

    Raises:
        DataError: naming file and place, on JSON of the wrong shape, repeated ids, or files whose categories differ.
    """
    files = json_files(root)
    if not files:
        return "no such file"
    pictures = {path.relative_to(root).as_posix(): path for path in pictures_under(root)}
    by_name: dict[str, list[Path]] = {}
    for path in pictures.values():
        by_name.setdefault(path.name, []).append(path)
    splits: dict[str, tuple[Record, ...]] = {}
    problems: list[Problem] = []
    frames: dict[tuple[str, str], CocoFrame] = {}
    categories: dict[int, str] = {}
    for split, path in files.items():
        content = read_json(path)
        _unique(content, path)
        listed = {category.id: category.name for category in content.categories}
        if any(categories.get(value, name) != name for value, name in listed.items()):
            raise DataError(f"categories must be the same in every file of {root}; got other names in {path}.")
        categories |= listed
        objects: dict[int, list[CocoAnnotation]] = {image.id: [] for image in content.images}
        found = []
        for annotation in content.annotations:
            if annotation.category_id not in listed:
                message = f"annotation {annotation.id} has category {annotation.category_id}, which is not listed"
                found.append(Problem("error", "unknown-category", str(path), message, split))
            if annotation.image_id in objects:
                objects[annotation.image_id].append(annotation)
            else:
                message = f"annotation {annotation.id} belongs to image {annotation.image_id}, which is not listed"
                found.append(Problem("error", "missing-image", str(path), message, split))
        records = []
        for image in content.images:
            file = picture_of(image.file_name, path, root, pictures, by_name)
            if file is None:
                message = f"image {image.id} is {image.file_name[:80]}, which is not below {root}"
                found.append(Problem("error", "missing-image", str(path), message, split))
                continue
            if (str(path), str(file)) in frames:
                message = f"image {image.id} is {file.name}, which is listed before"
                found.append(Problem("error", "duplicate-image", str(path), message, split))
                continue
            records.append(Record(file.stem, file, path))
            frames[str(path), str(file)] = CocoFrame((image.height, image.width), tuple(objects[image.id]))
        problems += _shortened(found, path, split)
        splits[split] = with_unique_stems(records, root)
    if not any(splits.values()):
        return f"{next(iter(files.values())).name}, but none of its images below the folder"
    taxonomy, labels = _classes(categories)
    return Layout(
        root=root,
        format="coco",
        taxonomy=taxonomy,
        splits=splits,
        problems=(*problems, *missing_mask_problems(splits)),
        reader=CocoMaps(frames),
        label_of_id=labels,
    )


def read_json(path: Path) -> CocoFile:
    """The content of a COCO file, checked for its shape; outlines are checked when they are drawn.

    Raises:
        DataError: naming file and place.
    """
    return decoded_json(json_bytes(path), CocoFile, path, "annotations must be COCO instances JSON")


def json_files(root: Path) -> dict[str, Path]:
    """The annotation file of each split."""
    for pattern in ("annotations/instances_*.json", "instances_*.json", "annotations/*.json"):
        files = [path for path in sorted(root.glob(pattern)) if not _OTHER_TASKS.search(path.stem)]
        if "instances" not in pattern:
            files = [path for path in files if _is_coco(path)]
        if files:
            return _by_split(files)
    if files := sorted(root.glob("*/_annotations.coco.json")):
        return {split_name(path.parent.name) or path.parent.name: path for path in files}
    for name in ("annotations.json", "_annotations.coco.json", "coco.json", "instances.json", "labels.json"):
        if (root / name).is_file():
            return {"all": root / name}
    return {}


def _is_coco(path: Path) -> bool:
    """Whether a file of any name is COCO's by its keys; a LabelMe file, one an image, is not."""
    try:
        msgspec.json.decode(path.read_bytes(), type=_CocoKeys)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _by_split(files: list[Path]) -> dict[str, Path]:
    names = [re.sub(r"^(instances|person_keypoints)_?", "", path.stem) or "all" for path in files]
    usual = [split_name(name) or name for name in names]
    return dict(zip(usual if len(set(usual)) == len(usual) else names, files, strict=True))


def picture_of(
    name: str, listed_in: Path, root: Path, pictures: Mapping[str, Path], by_name: Mapping[str, list[Path]]
) -> Path | None:
    """The file below ``root`` that a file_name means; a name that leads out of the folder counts by its last part."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts:
        pure = PurePosixPath(pure.name)
    part = re.sub(r"^(instances|person_keypoints)_?", "", listed_in.stem)
    beside = listed_in.parent.relative_to(root).as_posix()
    for place in (f"images/{part}", part, "images", "", beside):
        if found := pictures.get((PurePosixPath(place) / pure).as_posix()):
            return found
    alike = by_name.get(pure.name, [])
    return alike[0] if len(alike) == 1 else None


def _outline(raw: msgspec.Raw) -> dict[str, Any] | list[list[float]]:
    decoded = msgspec.json.decode(raw, type=list[list[float]] | CocoRuns)
    return {"size": decoded.size, "counts": decoded.counts} if isinstance(decoded, CocoRuns) else decoded


def _unique(content: CocoFile, path: Path) -> None:
    for what, entries in (("images", content.images), ("categories", content.categories)):
        times = Counter(entry.id for entry in entries)
        doubled = [value for value, count in times.items() if count > 1]
        if doubled:
            raise DataError(f"{what} must have ids of their own; got {doubled[0]} more than once in {path}.")
    if not content.categories:
        raise DataError(f"categories must name at least one class; got none in {path}.")


def _classes(categories: Mapping[int, str]) -> tuple[Taxonomy, dict[int, int]]:
    """The background and the categories by ascending id, and the label of each id."""
    names, labels = ["background"], {BACKGROUND_ID: 0}
    for value in sorted(categories):
        name = categories[value].strip() or f"category {value}"
        if name.lower() in _BACKGROUND_NAMES:
            labels[value] = 0
            continue
        labels[value] = len(names)
        names.append(f"{name} ({value})" if name in names else name)
    require(len(names) < 65535, "categories", "be fewer than 65535", len(names))
    return Taxonomy(tuple(names), ignore_index=255 if len(names) <= 255 else 65535, background=0), labels


def _shortened(problems: list[Problem], path: Path, split: str) -> list[Problem]:
    if len(problems) <= _MOST_NAMED:
        return problems
    rest = Problem("error", "more-of-these", str(path), f"{len(problems) - _MOST_NAMED} more such lines", split)
    return [*problems[:_MOST_NAMED], rest]

"""A data set of objects in another format: written whole or not at all, and what is lost is said."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from delineate.checks import require
from delineate.data.formats.layout import split_name
from delineate.data.image_io import IMAGE_SUFFIXES
from delineate.data.object_dataset import WHOLE_IMAGE
from delineate.data.objects import writing_coco, writing_labelme, writing_maps, writing_voc, writing_yolo
from delineate.data.objects.coco_folder import home_of
from delineate.data.objects.coco_json import Columns
from delineate.data.objects.content import Content, Writer
from delineate.data.objects.folder import ObjectFolder, read_objects
from delineate.data.objects.outlines import source_outlines
from delineate.errors import DataError
from delineate.files import linked_file
from delineate.registry import Registry
from delineate.structures.objects import Objects

_DECIMALS = 9  # of a pixel: fractions, and differences of corners, do not lead back to the last bit
_MOST_BYTES = 200  # of a file's name, its suffix and those of copies aside
_AREA_SLACK = 0.01  # by how much of itself an area may differ from that of mask or box
_NOT_READ = {
    "coco": "info, licenses, supercategories, skeletons, and fields that are not COCO's",
    "voc": "pose, truncated, occluded, parts, source and owner",
    "labelme": "flags, descriptions and pictures inside the JSON",
}


@dataclass(frozen=True)
class WritingFormat:
    """A format that objects can be written in.

    Args:
        write: the writer of everything but the pictures.
        images: the folder that these go to.
        entries: what a folder of this format consists of, by the names at its top (a pattern each).
    """

    write: Writer
    images: str
    entries: tuple[str, ...]


WRITING_FORMATS: Registry[WritingFormat] = Registry(
    "format",
    {
        "coco": WritingFormat(writing_coco.write, writing_coco.IMAGES, ("annotations", "images")),
        "voc": WritingFormat(
            writing_voc.write, writing_voc.IMAGES, ("Annotations", "JPEGImages", "ImageSets", "classes.txt")
        ),
        "yolo": WritingFormat(writing_yolo.write, writing_yolo.IMAGES, ("data.yaml", "images", "labels", "*.txt")),
        "labelme": WritingFormat(
            writing_labelme.write,
            writing_labelme.IMAGES,
            ("*.json", "*.txt", *(f"*{suffix}" for suffix in sorted(IMAGE_SUFFIXES))),
        ),
        "instance-maps": WritingFormat(writing_maps.write, writing_maps.IMAGES, ("images", "labels", "*.txt")),
    },
)


@dataclass(frozen=True)
class Conversion:
    """What was written, and what was not.

    Args:
        source: the folder that was read.
        out: the folder that was written.
        read: the format of the source.
        written: that of the new folder.
        images: how many pictures.
        objects: how many objects.
        classes: their names.
        splits: how many pictures in each; "all" alone where there are none.
        losses: (what, how often) of all that the new folder does not hold.
        not_read: what is never carried over from the source's format, in words; empty where that is nothing.
    """

    source: str
    out: str
    read: str
    written: str
    images: int
    objects: int
    classes: tuple[str, ...]
    splits: dict[str, int]
    losses: tuple[tuple[str, int], ...]
    not_read: str

    def summary(self) -> str:
        """What was written and what was lost, in a few lines."""
        splits = ", ".join(f"{count:,} in {split}" for split, count in self.splits.items())
        lines = [
            f"{self.source} ({self.read}) -> {self.out} ({self.written})",
            f"{self.objects:,} objects of {len(self.classes)} class{'es' if len(self.classes) != 1 else ''}, "
            f"images: {splits}",
        ]
        lines += [f"lost: {count:,} x {what}" for what, count in self.losses]
        if not self.losses:
            lines.append("lost: nothing of boxes, masks, classes and splits")
        if self.not_read:
            lines.append(f"not carried over: {self.not_read}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "source": self.source,
            "out": self.out,
            "read": self.read,
            "written": self.written,
            "images": self.images,
            "objects": self.objects,
            "classes": list(self.classes),
            "splits": dict(self.splits),
            "losses": [{"what": what, "count": count} for what, count in self.losses],
            "not_carried_over": self.not_read,
        }


def convert_objects(
    path: str | Path,
    out: str | Path,
    *,
    to: str,
    format: str = "auto",
    columns: Sequence[Columns] | None = None,
    images: Literal["copy", "link"] = "copy",
    replace_existing: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write a data set of objects in another format.

    Boxes, masks, keypoints, classes, crowds and splits are kept as far as the new format has them, and every loss is
    counted. Outlines keep their corners; a mask that only a picture or run lengths hold is traced along its pixels, and
    drawn again is the very mask. Records that cannot be used (``delineate data check`` names them) are left out. What
    was written is read once more before it takes its place: as many images and objects must come back.

    Args:
        path: the folder, or a COCO JSON file.
        out: the folder to write; it must not exist, or be empty.
        to: one of :data:`WRITING_FORMATS`.
        format: of the source; as for :func:`~delineate.data.objects.folder.read_objects`.
        columns: what to take besides boxes; all that the data have when left out.
        images: "copy" them, or "link" them: a second name of the same file, without room of its own, where the disk
            can do that.
        replace_existing: replace a folder that holds nothing but what such a conversion writes.
        progress: called with (images done, images in all).

    Raises:
        DataError: as :func:`~delineate.data.objects.folder.read_objects`; on a folder that is in the way, or lies
            within the source; on class names that the format cannot hold; where no image is left.
        UnknownNameError: on an unknown format or column.
    """
    target = WRITING_FORMATS[to]
    require(images in ("copy", "link"), "images", 'be "copy" or "link"', f'"{images}"')
    source, destination = Path(path).expanduser(), Path(out).expanduser()
    _require_free(destination, source, target, replace_existing)
    folder = read_objects(source, format, columns=columns)
    content, kept = _content(folder, source, to)
    if to != "coco":
        _require_names(content.annotations.classes)
    with _staged(destination, replace_existing) as staging:
        written = target.write(content, staging)
        (staging / target.images).mkdir(exist_ok=True)
        for done, (image, name) in enumerate(zip(kept, content.names, strict=True), 1):
            place = staging / target.images / name
            (shutil.copyfile if images == "copy" else linked_file)(folder.path(image), place)
            if progress is not None:
                progress(done, len(kept))
        _require_readable(staging, to, images=len(kept), objects=written)
    return Conversion(
        source=str(path),
        out=str(out),
        read=folder.format,
        written=to,
        images=len(kept),
        objects=written,
        classes=content.annotations.classes,
        splits={split: len(rows) for split, rows in content.splits.items()},
        losses=tuple(content.losses.items()),
        not_read=_NOT_READ.get(folder.format, ""),
    )


def _content(folder: ObjectFolder, source: Path, to: str) -> tuple[Content, list[int]]:
    """What is to be written, and the indices of its pictures in the folder."""
    kept = folder.images().tolist()
    if not kept:
        raise DataError(f"data set must hold at least one image that can be used; got none in {folder.root}.")
    place = {image: i for i, image in enumerate(kept)}
    outlines = source_outlines(folder, source)
    inside = np.isin(folder.annotations.objects.images, kept)
    annotations = folder.truth()
    if folder.format != "coco":
        annotations = replace(annotations, objects=_rounded(annotations.objects))
    names, renamed = _file_names(folder, kept, to)
    content = Content(
        annotations=annotations,
        names=names,
        splits={split: [place[image] for image in rows] for split, rows in _splits(folder, to).items()},
        outlines=[outline for outline, used in zip(outlines, inside.tolist(), strict=True) if used],
        numbered=folder.format == "coco" and all(isinstance(i, int) for i in annotations.image_ids),
    )
    errors = [problem for problem in folder.problems if problem.severity == "error"]
    for kind, count in Counter(problem.kind for problem in errors).items():
        what = "images or files" if kind in WHOLE_IMAGE else "records"
        content.lose(f"{what} that cannot be used ({kind}); see delineate data check", count)
    content.lose("images in no split, left out", folder.annotations.num_images - len(kept))
    content.lose("images whose file gets another name", renamed)
    if to != "coco":
        objects = annotations.objects
        usual = objects.boxes[:, 2:].prod(axis=1) if objects.masks is None else objects.masks.areas()
        stated = np.abs(objects.areas - usual) > np.maximum(1, _AREA_SLACK * usual)
        content.lose("stated areas that are not those of mask or box", int(stated.sum()))
    return content, kept


def _splits(folder: ObjectFolder, to: str) -> dict[str, list[int]]:
    """The pictures of each split, by names that the format's lists can have; a split of another name alone needs none.

    Raises:
        DataError: on a name that would be lost, and the split with it.
    """
    splits = {split: rows.tolist() for split, rows in folder.splits.items() if len(rows)}
    strange = [split for split in splits if split != "all" and split_name(split) is None]
    if to == "coco" or not strange:
        return splits
    if len(splits) == 1:
        return {"all": splits[strange[0]]}
    advice = "Convert to coco, or convert its JSON file alone."
    raise DataError(f"splits must be called train, val or test in {to}; got '{strange[0]}'. {advice}")


def _rounded(objects: Objects) -> Objects:
    return replace(objects, boxes=objects.boxes.round(_DECIMALS), areas=objects.areas.round(_DECIMALS))


def _file_names(folder: ObjectFolder, images: Sequence[int], to: str) -> tuple[tuple[str, ...], int]:
    """A file name for each picture, its own where that can be; no two have the same stem. And how many are new."""
    names: list[str] = []
    taken: set[str] = set()
    own = [folder.path(image) for image in images]
    times = Counter(_usable(path.stem, to).casefold() for path in own)
    for image, path in zip(images, own, strict=True):
        stem = _usable(path.stem, to)
        if times[stem.casefold()] > 1:
            stem = _usable(folder.stems[image], to)
        number, unique = 1, stem
        while unique.casefold() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.casefold())
        names.append(unique + path.suffix)
    return tuple(names), sum(name != path.name for name, path in zip(names, own, strict=True))


def _usable(stem: str, to: str) -> str:
    """A name that fits a line of a list and a file of any system: no sign that would end or bend it."""
    blanks = to == "voc"  # its tools take the first word of a line
    signs = ["_" if sign in '\\/:*?"<>|' or not (sign.isprintable() or sign == " ") else sign for sign in stem]
    name = "".join("_" if sign == " " and blanks else sign for sign in signs).strip().strip(".") or "image"
    name = name.encode()[:_MOST_BYTES].decode(errors="ignore")
    if Path(name).suffix.lower() in IMAGE_SUFFIXES:  # "a.png.jpg": a list would name "a"
        name = name.replace(".", "_")
    return name


def _require_names(classes: Sequence[str]) -> None:
    for name in classes:
        if not name.isprintable() or name != name.strip() or not name:
            condition = "be printable, without blanks at its ends, in a text file"
            raise DataError(f"class name must {condition}; got {name[:80]!r}. Rename it, or convert to coco.")


def _require_free(out: Path, source: Path, target: WritingFormat, replace_existing: bool) -> None:
    """DataError where the folder to write is not free to be written."""
    home, place = home_of(source).resolve(), out.resolve()
    if place == home or place.is_relative_to(home) or home.is_relative_to(place):
        raise DataError(f"out must lie apart from the data set; got {out} for {source}. Name another folder.")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise DataError(f"out must be a folder; got {out}, where something else is. Name another one.")
    held = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    if held and not replace_existing:
        raise DataError(f"out must not exist, or be empty; got {out} with {held[0]} in it. --force replaces it.")
    foreign = [name for name in held if not any(Path(name).match(pattern) for pattern in target.entries)]
    if foreign:
        raise DataError(f"out must hold nothing else to be replaced; got {foreign[0]} in {out}. Remove it yourself.")


@contextmanager
def _staged(out: Path, replace_existing: bool) -> Iterator[Path]:
    """A folder beside ``out`` that becomes ``out`` when the block ends well, and vanishes when it does not."""
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=parent, prefix=f".{out.name[:80]}-"))
    try:
        staging = work / "new"
        staging.mkdir()
        yield staging
        if out.exists():
            if not replace_existing:
                out.rmdir()  # it was empty; what has come since then is kept
            else:
                out.rename(work / "old")
        staging.rename(out)
    finally:
        if (work / "old").exists() and not out.exists():
            (work / "old").rename(out)
        shutil.rmtree(work, ignore_errors=True)


def _require_readable(staging: Path, to: str, *, images: int, objects: int) -> None:
    """DataError unless the new folder is read as this many images and objects."""
    read = read_objects(staging, to)
    found = read.annotations.num_images, len(read.annotations.objects)
    if found != (images, objects):
        first = next((f"; {problem.message}" for problem in read.problems if problem.severity == "error"), "")
        got = f"{found[0]} images and {found[1]} objects of {images} and {objects}{first}"
        raise DataError(f"what is written as {to} must be read again; got {got}. Choose another format.")

"""True objects from Pascal VOC's XML files, one file an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from delineate.data.formats.layout import Problem
from delineate.data.objects.class_names import UnnumberedAnnotations, existing_folder, files_in
from delineate.data.objects.text_rows import plain_number
from delineate.errors import DataError
from delineate.registry import nearest_name
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

_MOST_BYTES = 16 << 20
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_OBJECT = ("object",)
_DIFFICULT = ("object", "difficult")
_AGAIN = ("object", "again")  # no field of a file, but what was given twice
_WORDS = {"false": "0", "true": "1"}
_FIELDS = {("filename",), ("size", "width"), ("size", "height"), ("object", "name"), _DIFFICULT}
_FIELDS |= {("object", "bndbox", corner) for corner in _CORNERS}


def read_truth(
    path: str | Path, *, classes: Sequence[str] | None = None, images: Sequence[str] | None = None
) -> Annotations:
    """The annotations in a folder of VOC XML files, or in the ``Annotations`` folder inside it.

    Corners are kept as they are written: x = xmin, width = xmax - xmin. VOC's pixels count from 1 and include the last
    one, so that a box of one pixel has no width here; a measure that wants xmax - xmin + 1 adds the 1 itself. Boxes
    without area are kept, as are those that leave the image. Parts of objects (heads, hands) are not read.

    Source: Everingham and Winn, "The PASCAL Visual Object Classes Challenge 2012 Development Kit", section 3.
    Differs: coordinates may have fractions.

    Args:
        path: the folder.
        classes: the class names in order; when left out, those that occur, in alphabetical order.
        images: names of files without suffix, such as a split's (see :func:`split_images`); all when left out.

    Returns:
        Annotations whose image ids are the names of the XML files without suffix. Difficult objects are ``ignored``.
        :class:`~delineate.data.objects.class_names.UnnumberedAnnotations` where ``classes`` are left out: the files
        give their classes no numbers.

    Raises:
        DataError: naming file and object, on XML that is damaged, holds a document type or entities, or is no
            annotation; on a class that is not in ``classes``; on corners that are no numbers or the wrong way round; on
            names in ``images`` without a file, or given twice.
    """
    folder = existing_folder(path, "annotations")
    folder = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    files = {file.stem: file for file in _once(files_in(folder, ".xml", "annotations"))}
    return read_files(files if images is None else _chosen(files, images, folder), classes=classes)


def read_files(
    files: Mapping[str, Path], *, classes: Sequence[str] | None = None, problems: list[Problem] | None = None
) -> Annotations:
    """The annotations of XML files, as :func:`read_truth` describes them.

    Args:
        files: by the ids of their images.
        classes: as for :func:`read_truth`.
        problems: when given, receives an error for each file and each object that is left out as it cannot be used;
            the ids of the others count the objects of their file from 1. VOC's pixels include the last one, so that
            here what is one pixel wide or high, xmax equal to xmin, has this pixel's box; "difficult" may be a word.
            When left out, the first one is raised, and corners and flags are what is written.
    """
    read = {}
    for stem in sorted(files):
        try:
            document = _document(files[stem], lenient=problems is not None)
            _size(document, files[stem])
            read[stem] = document
        except DataError as error:
            if problems is None:
                raise
            problems.append(Problem("error", "unreadable", str(files[stem]), str(error)))
    stems, documents = list(read), list(read.values())
    rows = [(image, found, number) for image, document in enumerate(documents) for number, found in document.numbered()]
    if problems is not None:
        rows = [row for row in rows if _is_sound(row[1], files[stems[row[0]]], row[2], classes, problems)]
    names = [_text(found, ("object", "name"), files[stems[image]], number) for image, found, number in rows]
    known = tuple(sorted(set(names))) if classes is None else tuple(classes)
    label_of_name = {name: label for label, name in enumerate(known)}
    for (image, _, number), name in zip(rows, names, strict=True):
        if name not in label_of_name:
            near = nearest_name(name, known)
            hint = f"Did you mean '{near}'?" if near else "Leave classes out to read all of them."
            raise DataError(
                f"class must be one of the {len(known)} given; got '{name[:80]}' in "
                f"{files[stems[image]]}, object {number}. {hint}"
            )
    boxes = [_box(found, files[stems[image]], number) for image, found, number in rows]
    return (UnnumberedAnnotations if classes is None else Annotations).of(
        stems,
        known,
        Objects.of(
            images=[image for image, _, _ in rows],
            labels=[label_of_name[name] for name in names],
            boxes=boxes if problems is None else [_one_pixel(box) for box in boxes],
            ignored=[_difficult(found, files[stems[image]], number) for image, found, number in rows],
            ids=None if problems is None else [number for _, _, number in rows],
        ),
        image_sizes=[_size(document, files[stem]) for stem, document in zip(stems, documents, strict=True)],
        image_files=[document.fields.get(("filename",), "") for document in documents],
    )


def picture_name(path: Path) -> str:
    """The name of the picture that an XML file says it is about, without folders; empty where it says none."""
    try:
        named = _document(path, lenient=True).fields.get(("filename",), "")
    except DataError:
        return ""
    return named.replace("\\", "/").rsplit("/", 1)[-1]


def split_images(path: str | Path, split: str) -> tuple[str, ...]:
    """The names of a split's images, as ``ImageSets/Main/<split>.txt`` of a VOC root lists them.

    Args:
        path: the root, or its ``Annotations`` folder.
        split: such as "val".

    Raises:
        DataError: naming the lists that there are, when there is none of this name; as :func:`read_image_list`.
    """
    folder = existing_folder(path, "annotations").absolute()
    root = folder.parent if folder.name == "Annotations" else folder
    lists = {file.stem: file for file in sorted((root / "ImageSets/Main").glob("*.txt"))}
    if split not in lists:
        names = [name for name in lists if "_" not in name] or list(lists)  # "cat_val.txt" lists a class within a split
        there = ", ".join(names[:10]) if names else "no list"
        raise DataError(f"split must have a list in {root / 'ImageSets/Main'}; got '{split[:80]}'. It holds {there}.")
    return read_image_list(lists[split])


def read_image_list(path: str | Path) -> tuple[str, ...]:
    """The names in a VOC list such as ``ImageSets/Main/val.txt``: the first word of each line.

    Raises:
        DataError: naming the file, when it is missing, no UTF-8 text or without names.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"image list must be readable; got {path} ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise DataError(f"image list must be UTF-8 text; got a foreign byte at {error.start} in {path}.") from None
    names = tuple(line.split()[0] for line in text.split("\n") if line.strip())
    if not names:
        raise DataError(f"image list must name an image a line; got none in {path}.")
    return names


Fields = dict[tuple[str, ...], str]


@dataclass
class _Document:
    """What is needed of one file: the texts of the image's and of each object's fields, by path."""

    fields: Fields = field(default_factory=dict)
    objects: list[Fields] = field(default_factory=list)

    def numbered(self) -> list[tuple[int, Fields]]:
        return list(enumerate(self.objects, 1))


def _document(path: Path, *, lenient: bool = False) -> _Document:
    """A file's fields. What an object gives twice is raised, or, where lenient, kept as a text in its ``_AGAIN``."""
    document = _Document()
    place: list[str] = []
    texts: list[str] = []

    def refuse(*_: object) -> None:
        raise DataError(f"annotations must be XML without document type or entities; got one of them in {path}.")

    def start(name: str, _: object) -> None:
        if not place and name != "annotation":
            raise DataError(f"annotations must begin with <annotation>; got <{name[:80]}> in {path}.")
        place.append(name)
        texts.clear()
        if len(place) == 2 and name == "object":
            document.objects.append({})

    def end(_: str) -> None:
        key = tuple(place[1:]) if len(place) <= 4 else ()  # the fields lie no deeper
        if key in _FIELDS:
            fields = document.objects[-1] if key[:1] == _OBJECT else document.fields
            if key in fields:
                where = f"object {len(document.objects)} of {path}" if key[:1] == _OBJECT else str(path)
                message = f"{key[-1]} must be given once; got it again in {where}."
                if not lenient or key[:1] != _OBJECT:
                    raise DataError(message)
                fields.setdefault(_AGAIN, message)
            fields[key] = "".join(texts).strip()
            if lenient and key == _DIFFICULT:
                fields[key] = _WORDS.get(fields[key].lower(), fields[key])
        place.pop()
        texts.clear()

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = texts.append
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise DataError(f"annotations must be at most 16 MiB an image; got {size / 2**20:.0f} MiB in {path}.")
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise DataError(f"annotations must be readable; got {path} ({error.strerror}).") from None
    except DataError:
        raise
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(f"annotations must be well-formed XML; got, in {path}: {error}.") from None
    return document


def _once(files: Sequence[Path]) -> Sequence[Path]:
    seen: dict[str, Path] = {}
    for path in files:
        if seen.setdefault(path.stem, path) != path:
            raise DataError(f"annotations must be one file an image; got {seen[path.stem].name} and {path}.")
    return files


def _chosen(files: dict[str, Path], images: Sequence[str], folder: Path) -> dict[str, Path]:
    chosen: dict[str, Path] = {}
    for name in images:
        if name not in files:
            raise DataError(f"images must have annotations; got '{name[:80]}' without {name[:80]}.xml in {folder}.")
        if name in chosen:
            raise DataError(f"images must be different; got '{name[:80]}' twice.")
        chosen[name] = files[name]
    return chosen


def _is_sound(fields: Fields, path: Path, number: int, classes: Sequence[str] | None, problems: list[Problem]) -> bool:
    """Whether an object can be read; if not, why goes to ``problems``."""
    kind = "malformed"
    try:
        if _AGAIN in fields:
            raise DataError(fields[_AGAIN])
        name = _text(fields, ("object", "name"), path, number)
        if classes is not None and name not in classes:
            kind = "unknown-category"
            raise DataError(
                f"class must be one of the {len(classes)} given; got '{name[:80]}' in {path}, object {number}."
            )
        _difficult(fields, path, number)
        stated = [fields.get(("object", "bndbox", corner)) for corner in _CORNERS]
        finite = all(text and plain_number(text) is not None for text in stated)
        kind = "no-box" if not all(stated) else ("swapped-corners" if finite else "not-finite")
        _box(fields, path, number)
    except DataError as error:
        problems.append(Problem("error", kind, str(path), str(error)))
        return False
    return True


def _text(fields: Fields, key: tuple[str, ...], path: Path, number: int) -> str:
    if not fields.get(key):
        raise DataError(f"object must have a {key[-1]}; got none in {path}, object {number}.")
    return fields[key]


def _box(fields: Fields, path: Path, number: int) -> tuple[float, float, float, float]:
    values = []
    for corner in _CORNERS:
        text = _text(fields, ("object", "bndbox", corner), path, number)
        value = plain_number(text)
        if value is None:
            raise DataError(f"{corner} must be a finite number; got '{text[:80]}' in {path}, object {number}.")
        values.append(value)
    left, top, right, bottom = values
    if right < left or bottom < top:
        raise DataError(
            f"bndbox must have xmax and ymax of at least xmin and ymin; got {left:g} {top:g} {right:g} "
            f"{bottom:g} in {path}, object {number}. Swap or remove it."
        )
    return left, top, right - left, bottom - top


def _one_pixel(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """The box, or its one column or row of pixels, which VOC counts from 1.

    Without width and height it stays as it is: that is a slip of the mouse, and no object.
    """
    left, top, width, height = box
    if width == 0 and height > 0:
        return max(left - 1, 0), top, 1.0, height
    if height == 0 and width > 0:
        return left, max(top - 1, 0), width, 1.0
    return box


def _difficult(fields: Fields, path: Path, number: int) -> bool:
    text = fields.get(_DIFFICULT, "")
    if text not in ("", "0", "1"):
        raise DataError(f"difficult must be 0 or 1; got '{text[:80]}' in {path}, object {number}.")
    return text == "1"


def _size(document: _Document, path: Path) -> tuple[int, int]:
    lengths = []
    for side in ("height", "width"):
        text = document.fields.get(("size", side)) or "0"  # what is not stated is 0
        value = plain_number(text)
        if value is None or value < 0 or value != int(value):
            raise DataError(f"{side} must be a whole number of pixels; got '{text[:80]}' in {path}.")
        lengths.append(int(value))
    return lengths[0], lengths[1]

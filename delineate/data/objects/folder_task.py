"""What a folder is for, label maps or objects, when nobody says so."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
from PIL import Image

from delineate.checks import require
from delineate.data.class_lists import CLASS_FILES
from delineate.data.formats.coco import json_files
from delineate.data.formats.layout import Layout
from delineate.data.objects.class_names import DATA_FILES
from delineate.data.objects.folder import OBJECT_FORMATS
from delineate.data.objects.labelme import LabelFile
from delineate.data.opening import BUILT_IN, FORMATS, read_layout
from delineate.errors import DataError
from delineate.registry import unknown_name

TASKS = ("semantic", "objects")
_DRAWN = "coco"  # a semantic layout whose label maps are only drawn from objects
_COCO = "COCO JSON"
_AS_DRAWN = "read as objects; --task semantic would draw them to label maps"
_LOOKED_AT = 5  # files, to know what a folder has


@dataclass(frozen=True)
class FolderTask:
    """What a folder is taken for.

    Args:
        task: "semantic" or "objects".
        note: what else it could be taken for; empty where nothing else.
    """

    task: str
    note: str = ""


def folder_task(path: str | Path, *, task: str = "auto", format: str = "auto") -> FolderTask:
    """Whether a folder is to be read as label maps or as objects.

    Label maps come first where a folder has both. Objects are what lies in COCO or LabelMe JSON, in VOC's XML, in
    YOLO's text files, and in maps of 16 bits without a class list, whose numbers are those of single objects.

    Args:
        path: the folder; of COCO also one JSON file.
        task: "semantic" or "objects" where somebody says so, else "auto".
        format: a layout that is known to be one of label maps or of objects decides as well.

    Raises:
        ArgumentError: on another task.
        DataError: when the folder is neither; the message says what was looked for.

    Example:
        >>> folder_task("digits")
        FolderTask(task='semantic', note='--task objects reads the digits as objects')
    """
    require(task in ("auto", *TASKS), "task", 'be "semantic", "objects" or "auto"', f'"{task}"')
    if task != "auto":
        return FolderTask(task)
    if path == BUILT_IN:
        return FolderTask("semantic", "--task objects reads the digits as objects")
    if format not in ("auto", *FORMATS, *OBJECT_FORMATS):
        raise unknown_name("format", format, {*FORMATS, *OBJECT_FORMATS})
    if format in OBJECT_FORMATS and format not in FORMATS:
        return FolderTask("objects")
    if format in FORMATS and format not in OBJECT_FORMATS:
        return FolderTask("semantic")
    root = Path(path).expanduser()
    if root.is_file() and root.suffix.lower() == ".json":
        return FolderTask("objects")
    objects = _objects_in(root) if root.is_dir() else ""
    layout = _label_maps(root, format) if root.is_dir() else None
    if layout is None and objects:
        return FolderTask("objects", _AS_DRAWN if objects == _COCO else "")
    if layout is None:
        raise _neither(root, format)
    if _numbers_objects(layout):
        return FolderTask("objects", "--task semantic takes the numbers in the maps for classes")
    return FolderTask("semantic", f"the folder also has {objects}; --task objects reads them" if objects else "")


def _label_maps(root: Path, format: str) -> Layout | None:
    """The layout of a folder's own label maps; those that would be drawn from objects are none."""
    for name in FORMATS if format == "auto" else [format]:
        if name == _DRAWN:
            continue
        try:
            found = FORMATS[name].read(root)
        except DataError:  # whoever reads it as label maps is told
            continue
        if isinstance(found, Layout):
            return found
    return None


def _neither(root: Path, format: str) -> DataError:
    """What to say of a folder that is recognised as nothing."""
    try:
        read_layout(root, format)
    except DataError as error:
        if not root.is_dir():
            return error
        looked = "; ".join(f"{name}: {known.looked_for}" for name, known in OBJECT_FORMATS.items())
        return DataError(f"{error}; or for objects, {looked}")
    return DataError(f"path must be a data set in a known layout; got {root}. Name the format.")


def _objects_in(root: Path) -> str:
    """What says, by its name alone, that a folder holds objects; empty where nothing does."""
    if json_files(root):
        return _COCO
    if any(map(_is_labelme, islice(root.rglob("*.json"), _LOOKED_AT))):
        return "LabelMe JSON"
    for place in (root, *sorted(root.glob("VOC20??")), *sorted(root.glob("VOCdevkit/VOC20??"))):
        if next((place / "Annotations").glob("*.xml"), None):
            return "VOC XML"
    if any((root / name).is_file() for name in DATA_FILES) or _has_labels(root):
        return "YOLO labels"
    return "XML files" if next(root.rglob("*.xml"), None) else ""


def _is_labelme(path: Path) -> bool:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabelFile).shapes is not None
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError, RecursionError):
        return False


def _has_labels(root: Path) -> bool:
    texts = (path.relative_to(root).parent.parts for path in root.rglob("*.txt"))
    return any("labels" in parts for parts in texts)


def _numbers_objects(layout: Layout) -> bool:
    """Whether label maps rather look like numbered objects: no list names their classes, and they have 16 bits."""
    if layout.format != "mask-folders" or any((layout.root / name).is_file() for name in CLASS_FILES):
        return False
    maps = [record.mask for record in layout.records() if record.mask is not None][:_LOOKED_AT]
    return bool(maps) and all(map(_is_deep, maps))


def _is_deep(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode.startswith("I")
    except OSError:
        return False

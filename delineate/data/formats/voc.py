"""Pascal VOC segmentation: ``JPEGImages``, ``SegmentationClass`` (palettes, 255 = void), ``ImageSets/Segmentation``."""

from __future__ import annotations

from pathlib import Path

from delineate.data.class_lists import ClassEntry, ClassList, find_class_list
from delineate.data.formats.layout import Layout, Record, missing_mask_problems
from delineate.data.formats.mask_folders import MaskFiles
from delineate.data.formats.pairing import Pairs, pictures_under
from delineate.data.formats.split_lists import find_lists, splits_by_lists
from delineate.structures.taxonomy import voc_colours

LOOKED_FOR = "JPEGImages/ with SegmentationClass/, here or in VOCdevkit/VOC<year>/"
CLASSES: tuple[str, ...] = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat")
CLASSES += ("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa")
CLASSES += ("train", "tvmonitor")
VOID_COLOUR = (224, 224, 192)
_MASKS = ("SegmentationClass", "SegmentationClassAug")


def read(root: Path) -> Layout | str:
    """The layout of a VOC folder; a text that says what was found instead when it is not one.

    The classes are VOC's twenty and the background, unless a class list such as ``class_names.txt`` lies in the folder.
    Masks are palette pictures, or colour pictures in the classes' colours. Without lists there is one split, "all".

    Raises:
        DataError: on a class list that cannot be understood.
    """
    homes = [home for home in _candidates(root) if (home / "JPEGImages").is_dir() and _mask_folders(home)]
    if not homes:
        return "no such pair of folders"
    if len(homes) > 1:
        return f"several of them, {', '.join(home.name for home in homes)}; name one"
    home = homes[0]
    masks = {path.stem: path for folder in reversed(_mask_folders(home)) for path in pictures_under(folder)}
    records = [Record(path.stem, path, masks.get(path.stem)) for path in pictures_under(home / "JPEGImages")]
    lists = find_lists(home)
    splits, problems = splits_by_lists(home, [Pairs("all", home / "JPEGImages", records)], lists)
    problems = [problem for problem in problems if problem.kind != "unlisted"]  # most of VOC is for other tasks
    if not lists:
        splits = {"all": tuple(record for record in records if record.mask is not None)}
    classes = find_class_list(home, root) or ClassList(home, _entries())
    return Layout(
        root=home,
        format="voc",
        taxonomy=classes.taxonomy(voc_colours(256)),
        splits=splits,
        problems=(*problems, *missing_mask_problems(splits)),
        reader=MaskFiles(classes.id_of_colour() or _colours_of(classes)),
        label_of_id=classes.label_of_id(),
    )


def _candidates(root: Path) -> list[Path]:
    deeper = [place for place in (root, root / "VOCdevkit") if place.is_dir()]
    return [root, *(path for place in deeper for path in sorted(place.glob("VOC20??")) if path.is_dir())]


def _mask_folders(home: Path) -> list[Path]:
    return [home / name for name in _MASKS if (home / name).is_dir()]


def _entries() -> tuple[ClassEntry, ...]:
    named = zip(CLASSES, voc_colours(len(CLASSES)), strict=True)
    entries = tuple(ClassEntry(name, value, colour) for value, (name, colour) in enumerate(named))
    return (*entries, ClassEntry("void", 255, VOID_COLOUR, ignored=True))


def _colours_of(classes: ClassList) -> dict[int, int]:
    """VOC's own palette for a class list without colours."""
    colours = [*voc_colours(255), VOID_COLOUR]
    ids = [entry.id for entry in classes.entries if 0 <= entry.id < 255]
    return {colours[value][0] << 16 | colours[value][1] << 8 | colours[value][2]: value for value in (*ids, 255)}

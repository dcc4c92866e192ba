"""A folder of images with objects, recognised, read and checked: what training, scores and reports all start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from delineate.data.formats.layout import Problem, Record, held_back, with_unique_stems
from delineate.data.image_io import SIDEWAYS, image_header
from delineate.data.objects import coco_folder, label_folders, labelme
from delineate.data.objects.class_names import few_names
from delineate.data.objects.coco_json import ANNOTATIONS, Columns
from delineate.data.objects.defects import object_problems
from delineate.data.objects.found import Found
from delineate.data.objects.plausible import require_pixels
from delineate.data.objects.upright import turned_objects
from delineate.data.read_ahead import read_ahead
from delineate.errors import DataError
from delineate.registry import Registry, unknown_name
from delineate.structures.annotations import Annotations


@dataclass(frozen=True, eq=False)
class ObjectFolder:
    """A data set of objects on disk.

    Args:
        root: its folder; ``annotations.image_files`` are paths below it.
        format: one of :data:`OBJECT_FORMATS`.
        annotations: every picture of every split, upright, with its size; objects in order of their pictures, those
            that cannot be used left out. Ids are the numbers of the pictures where the format numbers them and no
            number is given twice, else their names.
        stems: a name for each picture, unique, usable for a file.
        splits: the indices of each split's pictures; "all" when the folder names none.
        problems: what is wrong: errors are objects and pictures that were left out; warnings are there all the same.
        columns: what the objects have: "boxes", and perhaps "masks" and "keypoints".
    """

    root: Path
    format: str
    annotations: Annotations
    stems: tuple[str, ...]
    splits: dict[str, Int64[np.ndarray, " I"]]
    problems: tuple[Problem, ...]
    columns: tuple[Columns, ...]

    def images(self, split: str | None = None) -> Int64[np.ndarray, " I"]:
        """The indices of a split's pictures; with None those of every split, each once.

        Raises:
            UnknownNameError: when there is no such split.
        """
        if split is None:
            return np.unique(np.concatenate([*self.splits.values(), np.zeros(0, np.int64)]))
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        return self.splits[split]

    def path(self, image: int) -> Path:
        """The file of a picture."""
        return self.root / self.annotations.image_files[image]

    def truth(self, split: str | None = None) -> Annotations:
        """The pictures of a split and their objects, to score predictions against.

        Raises:
            UnknownNameError: when there is no such split.
        """
        whole = self.annotations
        images = np.sort(self.images(split))
        place = np.full(whole.num_images, -1, np.int64)
        place[images] = np.arange(len(images))
        objects = whole.objects.select(place[whole.objects.images] >= 0)
        return replace(
            whole,
            image_ids=tuple(whole.image_ids[i] for i in images),
            image_sizes=whole.image_sizes[images],
            image_files=tuple(whole.image_files[i] for i in images),
            objects=replace(objects, images=place[objects.images]),
        )

    def errors(self, split: str | None = None) -> tuple[Problem, ...]:
        """The problems of a split that left something out."""
        return tuple(
            problem
            for problem in self.problems
            if problem.severity == "error" and (split is None or problem.split in ("", split))
        )

    def with_validation(self, fraction: float = 0.2) -> ObjectFolder:
        """The same data with a "val" split, chosen by the same rule as that of label maps.

        See :meth:`~delineate.data.formats.layout.Layout.with_validation`.

        Args:
            fraction: this share of "train" (or of "all") goes to "val".
        """
        source = "train" if "train" in self.splits else "all"
        if "val" in self.splits or len(self.splits.get(source, ())) < 2:
            return self
        images = self.splits[source]
        held = np.array(held_back([self.stems[i] for i in images], fraction))
        rest = {name: kept for name, kept in self.splits.items() if name not in ("all", "train")}
        problems = tuple(
            replace(problem, split="") if problem.split == source else problem for problem in self.problems
        )
        return replace(self, splits={"train": images[~held], "val": images[held], **rest}, problems=problems)


@dataclass(frozen=True)
class ObjectFormat:
    """A way to lay out a data set of objects.

    Args:
        read: what lies in a folder, or a text that says why it is not this format.
        looked_for: what makes a folder this format.
    """

    read: Callable[[Path, Sequence[Columns] | None], Found | str]
    looked_for: str


# in the order in which "auto" tries them: the more particular first
OBJECT_FORMATS: Registry[ObjectFormat] = Registry(
    "format",
    {
        "coco": ObjectFormat(coco_folder.read, coco_folder.LOOKED_FOR),
        "labelme": ObjectFormat(labelme.read, labelme.LOOKED_FOR),
        "voc": ObjectFormat(label_folders.read_voc, label_folders.VOC_LOOKED_FOR),
        "yolo": ObjectFormat(label_folders.read_yolo, label_folders.YOLO_LOOKED_FOR),
        "instance-maps": ObjectFormat(label_folders.read_maps, label_folders.MAPS_LOOKED_FOR),
    },
)


def read_objects(path: str | Path, format: str = "auto", *, columns: Sequence[Columns] | None = None) -> ObjectFolder:
    """The objects of a folder: every annotation is read, and of every picture its header.

    A record that cannot be used is left out and becomes one of the folder's ``problems``, with its file and place. So
    does a picture that is missing, unreadable, or of another size than its annotation states, with all its objects:
    nobody can know where on it they lie. What was drawn on a picture before its EXIF orientation turned it is
    recognised by that size, and turned.

    Args:
        path: the folder; of COCO also one JSON file.
        format: one of :data:`OBJECT_FORMATS`, or "auto" for the first of these that fits.
        columns: what to read besides boxes, "masks" and "keypoints"; when left out, what the data have.

    Raises:
        DataError: when nothing lies there, it is in none of the formats (the message says what was looked for), no
            object names a class, or ``columns`` are asked for that the data do not have.
        UnknownNameError: on an unknown format or column.
    """
    root = Path(path).expanduser()
    for column in columns or ():
        if column not in ANNOTATIONS:
            raise unknown_name("column", column, ANNOTATIONS)
    names = list(OBJECT_FORMATS) if format == "auto" else [format]
    readers = [OBJECT_FORMATS[name] for name in names]
    if root.is_file() and root.suffix.lower() == ".json" and format in ("auto", "coco"):
        names, readers = ["coco"], [OBJECT_FORMATS["coco"]]
    elif not root.is_dir():
        what = "a file" if root.exists() else "nothing"
        raise DataError(f"path must be a folder, or a COCO JSON file; got {root}, where {what} is. Check the name.")
    looked = []
    for name, known in zip(names, readers, strict=True):
        found = known.read(root, columns)
        if isinstance(found, Found):
            missing = [column for column in columns or () if column not in found.columns]
            if missing:
                raise DataError(
                    f"columns must be some of {', '.join(found.columns)}; got {missing[0]} for {root}. Annotate them, "
                    "or take a model that does without."
                )
            return _checked(coco_folder.home_of(root), name, found)
        looked.append(f"{name}: {known.looked_for} [{found}]")
    kinds = "a known format" if format == "auto" else f"the format '{format}'"
    raise DataError(f"path must hold objects in {kinds}; got {root}. Looked for " + "; ".join(looked))


def _checked(root: Path, format: str, found: Found) -> ObjectFolder:
    """What was found, in order, upright, without what cannot be used."""
    if not found.classes:
        errors = [problem for problem in found.problems if problem.severity == "error"]
        why = f" The first of {len(errors)} that cannot be used: {errors[0].message}" if errors else ""
        raise DataError(f"annotations must name at least one class; got none in {root}.{why}")
    problems = list(found.problems)
    count = len(found.images)
    usable = np.array([image not in found.unusable for image in range(count)], bool)
    sizes = np.zeros((count, 2), np.int64)
    turns = np.ones(count, np.int64)
    for image, (path, header) in enumerate(zip(found.images, read_ahead(_header, found.images), strict=True)):
        if isinstance(header, str):
            problems.append(Problem("error", "unreadable", str(path), header))
            usable[image] = False
        if not usable[image] or isinstance(header, str):
            continue
        sizes[image], orientation = header
        stated, upright = tuple(found.sizes[image].tolist()), tuple(sizes[image].tolist())
        if not all(stated) or stated == upright:
            continue
        if orientation in SIDEWAYS and stated == upright[::-1]:
            turns[image] = orientation
        else:
            of = f"{stated[0]} x {stated[1]} in {found.files[image]}, the image is {upright[0]} x {upright[1]}"
            problems.append(Problem("error", "size-mismatch", str(path), f"size is {of} (height x width)"))
            usable[image] = False
    stems, ids, order = _names(root, found, usable)
    place = np.full(count, -1, np.int64)
    place[order] = np.arange(len(order))
    objects = found.objects.select(usable[found.objects.images])
    objects = turned_objects(objects, turns[objects.images], found.sizes[objects.images])
    objects = replace(objects, images=place[objects.images])
    objects = objects.select(np.argsort(objects.images, kind="stable"))
    annotations = Annotations.of(
        ids,
        found.classes,
        objects,
        image_sizes=sizes[order],
        image_files=[found.images[i].relative_to(root).as_posix() for i in order],
        class_ids=found.class_ids,
        keypoint_names=found.keypoint_names if "keypoints" in found.columns else (),
    )
    files = [found.files[i] for i in order]
    if format in ("coco", "voc"):  # the others state fractions, or outlines
        number = {file: i for i, file in enumerate(files if format == "coco" else ())}
        of_row = np.array([number.get(file, 0) for file in files], np.int64)[objects.images]
        for file, i in (number or {str(root): 0}).items():
            rows = of_row == i
            require_pixels(objects.boxes[rows], annotations.image_sizes[objects.images[rows]], file)
    kept, wrong = object_problems(annotations, files, found.record)
    wrong += _class_problems(found.classes, objects.labels[kept], root)
    splits = {split: place[[i for i in rows if usable[i]]] for split, rows in found.splits.items()}
    return ObjectFolder(
        root=root,
        format=format,
        annotations=replace(annotations, objects=objects.select(kept)),
        stems=stems,
        splits={split: np.asarray(rows, np.int64) for split, rows in splits.items()},
        problems=tuple(_with_splits([*problems, *wrong], found)),
        columns=found.columns,
    )


def _class_problems(classes: Sequence[str], labels: Int64[np.ndarray, " N"], root: Path) -> list[Problem]:
    """Warnings about classes that no object has, and about names that differ by case or blanks alone."""
    counts = np.bincount(labels, minlength=len(classes))
    unused = [name for name, count in zip(classes, counts, strict=True) if not count]
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault("".join(name.split()).casefold(), []).append(name)
    problems = []
    if unused:
        message = f"{len(unused)} of {len(classes)} classes have no object that can be used: {few_names(unused)}"
        problems.append(Problem("warning", "unused-class", str(root), message))
    for names in alike.values():
        if len(names) > 1:
            message = f"classes {few_names(names)} differ by case or blanks only; they are learned as different ones"
            problems.append(Problem("warning", "similar-classes", str(root), message))
    return problems


def _header(path: Path) -> tuple[tuple[int, int], int] | str:
    try:
        return image_header(path)
    except DataError as error:
        return str(error)


def _names(root: Path, found: Found, usable: np.ndarray) -> tuple[tuple[str, ...], list[int] | list[str], list[int]]:
    """Stems and ids of the usable pictures in their order, which is that of the ids, and this order."""
    rows = [i for i in range(len(found.images)) if usable[i]]
    records = with_unique_stems([Record(found.images[i].stem, found.images[i], None) for i in rows], root)
    stem_of = {i: record.stem for i, record in zip(rows, records, strict=True)}
    if len(set(stem_of.values())) < len(rows):  # "a/b.png" and "a-b.png", or "a.png" and "a.jpg"
        stem_of = {i: f"{stem}-{i}" for i, stem in stem_of.items()}
    numbers = found.image_ids
    if numbers is not None and len({numbers[i] for i in rows}) == len(rows):
        rows.sort(key=lambda i: numbers[i])
        return tuple(stem_of[i] for i in rows), [numbers[i] for i in rows], rows
    rows.sort(key=lambda i: stem_of[i])
    stems = [stem_of[i] for i in rows]
    return tuple(stems), stems, rows


def _with_splits(problems: Sequence[Problem], found: Found) -> list[Problem]:
    """The problems, those of a file that describes pictures of one split only given to this split."""
    of_file: dict[str, set[str]] = {}
    for split, rows in found.splits.items():
        for i in rows:
            of_file.setdefault(found.files[i], set()).add(split)
            of_file.setdefault(str(found.images[i]), set()).add(split)
    alone = {file: next(iter(splits)) for file, splits in of_file.items() if len(splits) == 1 and "all" not in splits}
    return [problem if problem.split else replace(problem, split=alone.get(problem.file, "")) for problem in problems]

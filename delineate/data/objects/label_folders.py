"""Folders with an annotation file for each picture, as objects: VOC's XML, YOLO's text, and instance maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from delineate.data.formats.layout import Problem, split_name
from delineate.data.formats.pairing import paired, pictures_under
from delineate.data.formats.split_lists import find_lists
from delineate.data.image_io import image_size
from delineate.data.objects import instance_maps, voc_xml, yolo
from delineate.data.objects.class_names import DATA_FILES, find_class_list, find_class_names, read_class_names
from delineate.data.objects.coco_json import Columns
from delineate.data.objects.found import Found, pictures_by_stem, splits_of
from delineate.data.read_ahead import read_ahead
from delineate.errors import DataError
from delineate.structures.objects import Objects
from delineate.structures.rle_masks import RLEMasks

VOC_LOOKED_FOR = "Annotations/*.xml with JPEGImages/, here or in VOCdevkit/VOC<year>/, or .xml beside its images"
YOLO_LOOKED_FOR = "data.yaml, or images/ with labels/*.txt"
MAPS_LOOKED_FOR = "images/ with labels/, masks/ or instances/ of pictures whose pixels number their objects"
_MAP_FOLDERS = ("labels", "masks", "instances")
_MOST_BYTES = 4 << 20


def read_voc(root: Path, columns: Sequence[Columns] | None = None) -> Found | str:
    """The boxes of a VOC folder, or of XML files beside their images; a text that says why it is none.

    Splits are those of ``ImageSets/Main``, else of lists and folders as everywhere. Classes are those of a list in the
    folder, else the names that occur, in alphabetical order. A listed picture without an XML file is not labelled, and
    is an error; an unlisted one is passed over.

    A picture is the one that an XML file is called after, else the one that its ``filename`` names.

    Corners are kept as they are written, as scores keep them (:func:`~delineate.data.objects.voc_xml.read_truth`); a
    single column or row of pixels has the box of these.
    """
    homes = [root, *sorted(root.glob("VOC20??")), *sorted(root.glob("VOCdevkit/VOC20??"))]
    homes = [home for home in homes if (home / "Annotations").is_dir()]
    if len(homes) > 1:
        return f"several of them, {', '.join(home.name for home in homes)}; name one"
    problems: list[Problem] = []
    if homes:
        home = homes[0]
        xmls = {path.stem: path for path in sorted((home / "Annotations").iterdir()) if path.suffix.lower() == ".xml"}
        places = [place for name in ("JPEGImages", "images", "Images") if (place := home / name).is_dir()]
        pictures = pictures_by_stem(pictures_under(places[0] if places else home), problems)
        by_name = {path.name: path for path in pictures.values()}
        pairs = _with_names({xml: pictures.get(stem) for stem, xml in xmls.items()}, lambda _, name: by_name.get(name))
    else:
        home = root
        beside = {path.with_suffix(""): path for path in reversed(pictures_under(root))}
        files = [path for path in sorted(root.rglob("*")) if path.suffix.lower() == ".xml"]
        there = set(beside.values())
        pairs = _with_names(
            {xml: beside.get(xml.with_suffix("")) for xml in files},
            lambda xml, name: path if (path := xml.parent / name) in there else None,
        )
        if not any(picture for picture, _ in pairs.values()):
            return "no XML file beside an image" if pairs else "no XML file"
        pictures = {path.stem: path for path in beside.values()}
    if not pairs:
        return "no XML file in Annotations/"
    for key, (picture, xml) in list(pairs.items()):
        if picture is None:
            message = f"{xml.name} has no image"
            problems.append(Problem("error", "missing-image", str(xml), message))
            del pairs[key]
    annotations = voc_xml.read_files(
        {key: xml for key, (_, xml) in pairs.items()}, classes=find_class_names([home]), problems=problems
    )
    kept = [pairs[str(key)] for key in annotations.image_ids]
    images = [picture for picture, _ in kept if picture is not None]
    lists = find_lists(home / "ImageSets" / "Main") or find_lists(home)
    others = sorted(set(pictures.values()) - set(images)) if lists else []
    splits = splits_of(home, [*images, *others], problems, lists)
    labelled = {picture for picture, _ in pairs.values()}
    for split, rows in splits.items():
        bare = [file for row in rows if row >= len(images) and (file := others[row - len(images)]) not in labelled]
        problems += [
            Problem("error", "missing-annotation", str(file), f"image {file.name} has no XML file", split)
            for file in bare
        ]
        splits[split] = [row for row in rows if row < len(images)]
    problems[:] = [problem for problem in problems if problem.kind != "unlisted"]  # most of VOC is for other tasks
    return Found(
        images=images,
        objects=annotations.objects,
        classes=annotations.classes,
        splits={split: rows for split, rows in splits.items() if rows},
        problems=problems,
        files=[str(xml) for _, xml in kept],
        sizes=annotations.image_sizes,
        record="object",
        columns=("boxes",),
    )


def _with_names(
    pairs: dict[Path, Path | None], picture_named: Callable[[Path, str], Path | None]
) -> dict[str, tuple[Path | None, Path]]:
    """XML files and their pictures; those without get the one that they name, if no other file has it."""
    taken = set(pairs.values())
    for xml, picture in pairs.items():
        if picture is None:
            named = picture_named(xml, voc_xml.picture_name(xml))
            if named not in taken:
                pairs[xml] = named
                taken.add(named)
    return {str(xml): (picture, xml) for xml, picture in pairs.items()}


def read_yolo(root: Path, columns: Sequence[Columns] | None = None) -> Found | str:
    """The boxes or polygons of a YOLO folder; a text that says why it is none.

    Pictures are those that ``train``, ``val`` and ``test`` of ``data.yaml`` name, folders or lists of paths below the
    root; without these, all below ``images`` (or below the root), split by lists and folders. The labels of a picture
    lie in ``labels`` in place of ``images`` in its path, or beside it. Without a label file it has no objects.

    Raises:
        DataError: on a class list that cannot be understood, and on labels of keypoints.
    """
    config = next((root / name for name in DATA_FILES if (root / name).is_file()), None)
    pictures = pictures_under(root)
    texts = [path for path in root.rglob("*.txt") if "labels" in path.relative_to(root).parent.parts]
    beside = {path.with_suffix("") for path in pictures}
    if config is None and not texts:
        texts = [path for path in root.rglob("*.txt") if path.with_suffix("") in beside]
        if not texts or find_class_list([root]) is None:
            return "no such file" if not texts else "text files beside images, but no classes.txt"
    problems: list[Problem] = []
    named = _named_splits(config, root, pictures, problems) if config is not None else {}
    chosen = {path: None for rows in named.values() for path in rows}
    images = sorted(chosen) if named else [path for path in pictures if not _is_label_place(path, root)]
    if not images:
        return f"{config.name if config else 'labels'}, but no images"
    labels = [_label_of(path, root) for path in images]
    if not any(labels):
        return f"images, but none of them has a label file: {_where_labels_lie(root)}"
    used = {label.parent for label in labels if label is not None}
    known = {label for path in (pictures if named else images) if (label := _label_of(path, root)) is not None}
    for text in sorted(set(texts) - known):
        if text.name != "classes.txt" and (not named or text.parent in used):
            problems.append(Problem("error", "missing-image", str(text), f"labels {text.name} have no image"))
    sizes = np.zeros((len(images), 2), np.int64)
    for i, size in enumerate(read_ahead(_size_or_none, images)):
        sizes[i] = size  # a picture without a header is noted, and left out, by the checks of all formats
    rows = [i for i, label in enumerate(labels) if label is not None and sizes[i].all()]
    files = [label for i, label in enumerate(labels) if label is not None and sizes[i].all()]
    wanted: Literal["boxes", "masks"] | None = None
    if columns is not None:
        wanted = "masks" if "masks" in columns else "boxes"
    objects, names, held = yolo.read_files(
        files,
        np.array(rows, np.int64),
        sizes,
        problems,
        classes=read_class_names(config) if config is not None else find_class_names([root, root / "labels"]),
        columns=wanted,
    )
    index = {path: i for i, path in enumerate(images)}
    if named:
        splits = {split: [index[path] for path in paths] for split, paths in named.items()}
    else:
        splits = splits_of(root, images, problems)
    for split, chosen_rows in splits.items():
        if chosen_rows and not any(labels[row] for row in chosen_rows):
            message = f"no image of {split} has a label file; all of them count as images without objects"
            problems.append(Problem("warning", "no-labels", str(root), message, split if split != "all" else ""))
    broken = {problem.file for problem in problems if problem.kind == "unreadable"}
    shared = _shared_labels(images, labels, problems)
    return Found(
        images=images,
        objects=objects,
        classes=names,
        splits=splits,
        problems=problems,
        files=[str(label or image) for image, label in zip(images, labels, strict=True)],
        sizes=np.zeros((len(images), 2), np.int64),  # labels are fractions: any size fits
        record="object",
        columns=("boxes", "masks") if held == "masks" else ("boxes",),
        unusable=shared | {i for i, label in enumerate(labels) if str(label) in broken},
    )


def read_maps(root: Path, columns: Sequence[Columns] | None = None) -> Found | str:
    """The masks of a folder of instance maps, 16-bit PNGs say; a text that says why it is none.

    All objects are of one class, "object", unless the maps lie in folders of their own for each class
    (``labels/nucleus/1.png``): then these are the classes. A picture without a map is not labelled, an error.
    """
    folder = next((root / name for name in _MAP_FOLDERS if (root / name).is_dir()), None)
    if folder is None or not (root / "images").is_dir():
        return "no such pair of folders"
    inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    classes = [name for name in inside if split_name(name) is None]
    problems: list[Problem] = []
    maps: list[tuple[int, int, Path]] = []
    images = sorted(pictures_under(root / "images"))
    index = {path: i for i, path in enumerate(images)}
    for label, place in enumerate([folder / name for name in classes] or [folder]):
        pairs = paired("all", root / "images", place)
        problems += pairs.problems
        maps += [(index[record.image], label, record.mask) for record in pairs.records if record.mask is not None]
    if not maps:
        return f"images/ and {folder.name}/, but no picture in both"
    unusable = set(range(len(images))) - {image for image, _, _ in maps}
    for image in sorted(unusable):
        problems.append(Problem("error", "missing-mask", str(images[image]), f"image {images[image].name} has no map"))
    tables: list[Objects] = []
    sizes = np.zeros((len(images), 2), np.int64)
    for (image, label, file), read in zip(maps, read_ahead(_masks, [file for _, _, file in maps]), strict=True):
        if isinstance(read, str):
            problems.append(Problem("error", "unreadable", str(file), read))
            unusable.add(image)
            continue
        size, values, masks = read
        if sizes[image].any() and tuple(sizes[image].tolist()) != size:
            message = f"map is {size[0]} x {size[1]}, another of its image {sizes[image][0]} x {sizes[image][1]}"
            problems.append(Problem("error", "size-mismatch", str(file), message))
            unusable.add(image)
        sizes[image] = size
        count = len(values)
        tables.append(Objects.of([image] * count, [label] * count, masks.boxes(), masks=masks, ids=values))
    if not tables:
        return f"{folder.name}/, whose maps cannot be read: {problems[-1].message}"
    file_of = {image: str(file) for image, _, file in reversed(maps)}
    return Found(
        images=images,
        objects=Objects.concatenate(tables),
        classes=tuple(classes) or (instance_maps.CLASS,),
        splits=splits_of(root, images, problems),
        problems=problems,
        files=[file_of.get(image, str(path)) for image, path in enumerate(images)],
        sizes=sizes,
        record="id",
        columns=("boxes", "masks"),
        unusable=unusable,
    )


def _masks(file: Path) -> tuple[tuple[int, int], np.ndarray, RLEMasks] | str:
    """The size of a map, its numbers above 0 and their masks; why it cannot be read."""
    try:
        return instance_maps.read_map(file)
    except DataError as error:
        return str(error)


def _size_or_none(path: Path) -> tuple[int, int]:
    """(height, width) of a picture, zeros of what is none."""
    try:
        return image_size(path)
    except DataError:
        return 0, 0


def _is_label_place(path: Path, root: Path) -> bool:
    return "labels" in path.relative_to(root).parent.parts


def _label_of(picture: Path, root: Path) -> Path | None:
    """The label file of a picture: in ``labels`` in place of the last ``images`` of its path, else beside it."""
    parts = list(picture.relative_to(root).parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[:-1][::-1].index("images")] = "labels"
        usual = root.joinpath(*parts).with_suffix(".txt")
    else:
        usual = (root / "labels").joinpath(*parts).with_suffix(".txt")
    return next((path for path in (usual, picture.with_suffix(".txt")) if path.is_file()), None)


def _where_labels_lie(root: Path) -> str:
    """Where labels are looked for, and a folder there that is called alike."""
    alike = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.name.lower() == "labels"]
    files = [path.name for path in root.rglob("*") if path.suffix.lower() == ".txt" and path.suffix != ".txt"]
    told = "labels/<name>.txt in place of images/, or <name>.txt beside the image"
    there = [*(name for name in alike if name.rsplit("/", 1)[-1] != "labels"), *sorted(files)[:1]]
    return f"{told}" + (f"; there is {there[0]}, rename it" if there else "")


def _shared_labels(images: Sequence[Path], labels: Sequence[Path | None], problems: list[Problem]) -> set[int]:
    """Pictures that share a label file, "a.jpg" and "a.png": nobody can know which of them it is about."""
    rows: dict[Path, list[int]] = {}
    for row, label in enumerate(labels):
        if label is not None:
            rows.setdefault(label, []).append(row)
    shared = {label: several for label, several in rows.items() if len(several) > 1}
    for label, several in shared.items():
        names = ", ".join(images[row].name for row in several)
        for row in several:
            message = f"images must have different names; got {names} for {label.name}. Remove all but one"
            problems.append(Problem("error", "duplicate-stem", str(images[row]), message))
    return {row for several in shared.values() for row in several}


def _named_splits(config: Path, root: Path, pictures: Sequence[Path], problems: list[Problem]) -> dict[str, list[Path]]:
    """The pictures of each split that ``data.yaml`` names; empty where it names none that exists."""
    if config.stat().st_size > _MOST_BYTES:
        raise DataError(f"class list must be a short file; got {config.stat().st_size:,} bytes in {config}.")
    try:
        content = yaml.load(config.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"class list must be UTF-8 YAML; got, in {config}: {reason}.") from None
    content = content if isinstance(content, dict) else {}
    start = content.get("path") if isinstance(content.get("path"), str) else ""
    splits: dict[str, list[Path]] = {}
    for key in ("train", "val", "valid", "test"):
        entries = content.get(key)
        entries = [entries] if isinstance(entries, str) else entries
        if not isinstance(entries, list) or not entries:
            continue
        chosen: dict[Path, None] = {}
        for entry in entries:
            place = _place(str(entry), str(start), root)
            if place is None:
                kind = "warning" if key == "test" else "error"  # test sets are often left at home
                message = f"{key} is '{str(entry)[:80]}', which is not below {root}"
                problems.append(Problem(kind, "missing-image", str(config), message))  # type: ignore[arg-type]
            elif place.is_dir():
                chosen |= dict.fromkeys(path for path in pictures if path.is_relative_to(place))
            else:
                chosen |= dict.fromkeys(_listed(place, root, pictures, problems))
        if chosen:
            splits[split_name(key) or key] = list(chosen)
    return splits


def _place(entry: str, start: str, root: Path) -> Path | None:
    """The folder or list below the root that an entry means; leading ".." and a root elsewhere are dropped."""
    for whole in (f"{start}/{entry}", entry):
        parts = [part for part in whole.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        for begin in range(len(parts)):
            place = root.joinpath(*parts[begin:])
            if place.exists():
                return place
    return None


def _listed(file: Path, root: Path, pictures: Sequence[Path], problems: list[Problem]) -> list[Path]:
    """The pictures that a list of paths names."""
    index = {path.relative_to(root).as_posix(): path for path in pictures}
    found = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"split list must be UTF-8 text; got {file} ({error}).") from None
    for number, line in enumerate(lines, 1):
        parts = [part for part in line.strip().replace("\\", "/").split("/") if part not in ("", ".", "..")]
        path = next((index[name] for i in range(len(parts)) if (name := "/".join(parts[i:])) in index), None)
        if path is not None:
            found.append(path)
        elif parts:
            message = f"line {number} names '{line[:80]}', and there is no such image"
            problems.append(Problem("error", "missing-image", str(file), message))
    return found

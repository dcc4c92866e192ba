"""What a folder of objects calls things: its files, its classes, and the index that a name or a number stands for."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path, PurePosixPath

import numpy as np
import yaml
from jaxtyping import Int64

from delineate.data.class_lists import read_class_list
from delineate.errors import DataError
from delineate.registry import nearest_name
from delineate.structures.annotations import Annotations

UNKNOWN = -1
AMBIGUOUS = -2
DATA_FILES = ("data.yaml", "data.yml", "dataset.yaml")
HOW_TO_NUMBER = "list the names in the order of the numbers, one a line, in a classes.txt beside the predictions"
_MOST_BYTES = 4 << 20


@dataclass(frozen=True, eq=False)
class UnnumberedAnnotations(Annotations):
    """Annotations of files that call a class by its name alone, as VOC's XML files do.

    The order of their classes is only the alphabet's, while a network counts in the order that it was trained with:
    what a number in predictions stands for must come from a list beside them (:func:`class_list_beside`). A type rather
    than a guess by the names' order, since YOLO and COCO number classes that happen to be in alphabetical order; with
    a single class there is nothing to mix up.
    """


@dataclass(frozen=True)
class NameIndex:
    """The index of each image or class by all that files call it: numbers, names, file names.

    Args:
        kind: "image" or "class", for an error's text.
        indices: the index of each name; ``AMBIGUOUS`` for a name that stands for two.
        shown: the names to choose from, for an error's text.
        numbers: the name that each number stands for; empty where numbers stand for none, None where all are names.
        listed_in: the file that says what numbers stand for, where one does.

    Example:
        >>> names = NameIndex("class", {"cat": 0, "dog": 1}, ("cat", "dog"))
        >>> names.find(["dog", "cow", "cat"])
        array([ 1, -1,  0])
        >>> names.problem("cut")
        "class must be one of the 2 known ones; got 'cut' (did you mean 'cat'?)"
    """

    kind: str
    indices: Mapping[Hashable, int]
    shown: tuple[str, ...]
    numbers: Mapping[int, str] | None = None
    listed_in: str = ""

    def find(self, names: Sequence[Hashable]) -> Int64[np.ndarray, " N"]:
        """The index of each name; ``UNKNOWN`` or ``AMBIGUOUS`` where there is no single one."""
        return np.fromiter(map(self.indices.get, names, repeat(UNKNOWN)), np.int64, len(names))

    def problem(self, name: Hashable) -> str:
        """What is wrong with a name that has no single index, as the beginning of an error's text."""
        text = str(name)
        got = f"'{text[:77]}...'" if len(text) > 80 else f"'{text}'"
        if self.indices.get(name, UNKNOWN) == AMBIGUOUS:
            return f"{self.kind} must stand for one {self.kind}; got {got}, which two of them are called"
        known = f"{self.kind} must be one of the {len(self.shown)} known ones; got {got}"
        if self.numbers is not None and text.isascii() and text.removeprefix("-").isdecimal() and len(text) < 10:
            return f"{known} ({self._of_numbers(int(text), self.numbers)})"
        near = nearest_name(text, self.shown) if len(self.shown) <= 1000 and len(text) <= 80 else None
        near = near or (self.shown[0] if self.shown else None)
        hint = f" (did you mean '{near}'?)" if near else ""
        return f"{known}{hint}"

    def _of_numbers(self, number: int, numbers: Mapping[int, str]) -> str:
        """What numbers stand for: one of them is no slip of the pen for a name."""
        if number in numbers:
            return f"{number} is '{numbers[number]}' in {self.listed_in}; the truth has {few_names(self.shown)}"
        if not numbers:
            return f"the truth does not number its classes, {few_names(self.shown)}; {HOW_TO_NUMBER}"
        if set(numbers) == set(range(len(numbers))):
            return f"numbers count from 0 in the order of {few_names([numbers[one] for one in sorted(numbers)])}"
        return f"numbers are ids: {few_names([f'{one} is {numbers[one]}' for one in sorted(numbers)])}"


def image_index(truth: Annotations) -> NameIndex:
    """The images by id (as it is and as text), by file name, and by file name without folder or suffix."""
    pairs: list[tuple[Hashable, int]] = []
    for image, (image_id, file) in enumerate(zip(truth.image_ids, truth.image_files, strict=True)):
        pairs += ((image_id, image), (str(image_id), image))
        if file:
            path = PurePosixPath(file)
            pairs += ((file, image), (path.name, image), (path.stem, image))
            if path.name:  # "/" and "." have none to take a suffix from
                pairs.append((str(path.with_suffix("")), image))
    return NameIndex("image", _indices(pairs), tuple(map(str, truth.image_ids)))


def class_index(truth: Annotations) -> NameIndex:
    """The classes by name and by id, as a number and as text."""
    pairs: list[tuple[Hashable, int]] = []
    for label, (name, class_id) in enumerate(zip(truth.classes, truth.class_ids, strict=True)):
        pairs += ((name, label), (class_id, label), (str(class_id), label))
    return NameIndex("class", _indices(pairs), truth.classes, dict(zip(truth.class_ids, truth.classes, strict=True)))


def class_index_beside(truth: Annotations, folder: Path) -> NameIndex:
    """The classes by name and by the numbers of predictions in a folder.

    Numbers count the names of :func:`class_list_beside`; without a list they are the ids of the truth, and stand for
    nothing where the truth has none (:func:`is_numbered`).
    """
    path = class_list_beside(folder, truth)
    if path is None and is_numbered(truth):
        return class_index(truth)
    listed = () if path is None else read_class_names(path)
    label_of_name = {name: label for label, name in enumerate(truth.classes)}
    pairs: list[tuple[Hashable, int]] = list(label_of_name.items())
    for number, name in enumerate(listed):
        if name in label_of_name:
            pairs += ((number, label_of_name[name]), (str(number), label_of_name[name]))
    return NameIndex("class", _indices(pairs), truth.classes, dict(enumerate(listed)), str(path or ""))


def is_numbered(truth: Annotations) -> bool:
    """Whether a class number means something to the truth by itself; see :class:`UnnumberedAnnotations`."""
    return truth.num_classes < 2 or not isinstance(truth, UnnumberedAnnotations)


def class_list_beside(folder: Path, truth: Annotations) -> Path | None:
    """The class list in a folder of predictions, or in the one above, that says what their numbers stand for.

    Returns:
        None where there is none, or it says nothing, as the truth has numbers alone ("class 0", "class 1" ...).

    Raises:
        DataError: as :func:`find_class_list`.
    """
    if truth.classes and truth.classes == numbered_names(truth.num_classes):
        return None
    return find_class_list([folder, folder.absolute().parent])


def numbered_names(count: int) -> tuple[str, ...]:
    """What classes are called that have numbers alone.

    Example:
        >>> numbered_names(2)
        ('class 0', 'class 1')
    """
    return tuple(f"class {number}" for number in range(count))


def files_in(path: str | Path, suffix: str, role: str) -> list[Path]:
    """The files of a folder with this suffix, by name; hidden ones are left out.

    Raises:
        DataError: when there is no such folder or no such file in it.
    """
    folder = existing_folder(path, role)
    files = [entry for entry in folder.iterdir() if entry.suffix.lower() == suffix and not entry.name.startswith(".")]
    if not files:
        raise DataError(f"{role} must be a folder with {suffix} files; got {folder}, which holds none.")
    files.sort(key=lambda entry: entry.name)
    return files


def text_files(path: str | Path, role: str) -> list[Path]:
    """The ``.txt`` files of a folder but for a list of classes, which labelling tools put among them.

    Raises:
        DataError: when there is no such folder or it has no text file at all.
    """
    return [file for file in files_in(path, ".txt", role) if file.name != "classes.txt"]


def images_of_files(files: Sequence[Path], truth: Annotations) -> Int64[np.ndarray, " F"]:
    """The image that each file is called after.

    Raises:
        DataError: naming the file, when there is no such image or two files mean the same.
    """
    names = image_index(truth)
    images = names.find([path.stem for path in files])
    seen: dict[int, Path] = {}
    for path, image in zip(files, images.tolist(), strict=True):
        if image < 0:
            raise DataError(f"{names.problem(path.stem)}, by the file {path}.")
        if image in seen:
            raise DataError(f"predictions must have one file an image; got {seen[image].name} and {path}.")
        seen[image] = path
    return images


def existing_folder(path: str | Path, role: str) -> Path:
    """``path``, which must be a folder."""
    folder = Path(path)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise DataError(f"{role} must be a folder; got {folder}, where {what} is. Check the name.")
    return folder


def few_names(names: Sequence[str]) -> str:
    """Some names, for an error's text.

    Example:
        >>> few_names(["a", "b"]), few_names(list("abcdefg"))
        ('a, b', 'a, b, c, d, e, ...')
    """
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def find_class_names(folders: Iterable[Path]) -> tuple[str, ...] | None:
    """The names in the list of :func:`find_class_list`, in order of their numbers, or None without one.

    Raises:
        DataError: naming the file, when it cannot be understood, or numbers are left out.
    """
    path = find_class_list(folders)
    return None if path is None else read_class_names(path)


def find_class_list(folders: Iterable[Path]) -> Path | None:
    """``data.yaml``, ``classes.txt`` or a ``.names`` file in the first folder that has one, or None.

    Raises:
        DataError: when a folder has several ``.names`` files.
    """
    for folder in folders:
        for name in DATA_FILES:
            if (folder / name).is_file():
                return folder / name
        if (folder / "classes.txt").is_file():
            return folder / "classes.txt"
        listed = sorted(folder.glob("*.names"))
        if len(listed) > 1:
            found = ", ".join(path.name for path in listed)
            raise DataError(f"class list must be one file; got {found} in {folder}. Pass the classes instead.")
        if listed:
            return listed[0]
    return None


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The class names of a file in order of their numbers, which are 0, 1, 2 ...: one a line, or ``names`` in YAML.

    Raises:
        DataError: naming the file, when it cannot be understood, a name is given twice or a number is left out.
    """
    path = Path(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        names = _yaml_names(path)
    else:
        names = {entry.id: entry.name for entry in read_class_list(path).entries if entry.id >= 0}
    if not names or set(names) != set(range(len(names))):
        numbers = ", ".join(str(number) for number in sorted(names)[:10]) or "none"
        raise DataError(f"class list must number its classes 0, 1, 2 ... without gaps; got {numbers} in {path}.")
    ordered = tuple(names[number] for number in range(len(names)))
    doubled = next((name for name in ordered if ordered.count(name) > 1), None)
    if doubled is not None:
        raise DataError(f"class list must not repeat names; got '{doubled}' twice in {path}.")
    return ordered


def _yaml_names(path: Path) -> dict[int, str]:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise DataError(f"class list must be a short file; got {size:,} bytes in {path}.")
    try:
        # every scalar stays text: a class may be called "no" or "1e3"
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"class list must be UTF-8 YAML; got, in {path}: {reason}.") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(content, dict) and "kpt_shape" in content:
        raise DataError(
            f"labels must be boxes or polygons; got keypoints (kpt_shape in {path}). Use COCO JSON for them."
        )
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    plain = isinstance(names, dict) and all(
        isinstance(key, str) and key.isdecimal() and len(key) < 10 and isinstance(name, str) and name.strip()
        for key, name in names.items()
    )
    if not isinstance(names, dict) or not plain:
        raise DataError(f"names must be a list of names, or names by number; got something else in {path}.")
    if str(content.get("nc", len(names))) != str(len(names)):
        raise DataError(f"names must name the nc classes; got {len(names)} names and nc {content['nc']} in {path}.")
    return {int(key): name.strip() for key, name in names.items()}


def _indices(pairs: Iterable[tuple[Hashable, int]]) -> dict[Hashable, int]:
    indices: dict[Hashable, int] = {}
    for name, index in pairs:
        if indices.setdefault(name, index) != index:
            indices[name] = AMBIGUOUS
    return indices

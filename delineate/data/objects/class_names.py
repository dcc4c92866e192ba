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
_MOST_BYTES = 4 << 20


@dataclass(frozen=True)
class NameIndex:
    """The index of each image or class by all that files call it: numbers, names, file names.

    Args:
        kind: "image" or "class", for an error's text.
        indices: the index of each name; ``AMBIGUOUS`` for a name that stands for two.
        shown: the names to choose from, for an error's text.

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

    def find(self, names: Sequence[Hashable]) -> Int64[np.ndarray, " N"]:
        """The index of each name; ``UNKNOWN`` or ``AMBIGUOUS`` where there is no single one."""
        return np.fromiter(map(self.indices.get, names, repeat(UNKNOWN)), np.int64, len(names))

    def problem(self, name: Hashable) -> str:
        """What is wrong with a name that has no single index, as the beginning of an error's text."""
        text = str(name)
        got = f"'{text[:77]}...'" if len(text) > 80 else f"'{text}'"
        if self.indices.get(name, UNKNOWN) == AMBIGUOUS:
            return f"{self.kind} must stand for one {self.kind}; got {got}, which two of them are called"
        near = nearest_name(text, self.shown) if len(self.shown) <= 1000 and len(text) <= 80 else None
        near = near or (self.shown[0] if self.shown else None)
        hint = f" (did you mean '{near}'?)" if near else ""
        return f"{self.kind} must be one of the {len(self.shown)} known ones; got {got}{hint}"


def image_index(truth: Annotations) -> NameIndex:
    """The images by id (as it is and as text), by file name, and by file name without folder or suffix."""
    pairs: list[tuple[Hashable, int]] = []
    for image, (image_id, file) in enumerate(zip(truth.image_ids, truth.image_files, strict=True)):
        pairs += ((image_id, image), (str(image_id), image))
        if file:
            path = PurePosixPath(file)
            pairs += ((file, image), (path.name, image), (path.stem, image), (str(path.with_suffix("")), image))
    return NameIndex("image", _indices(pairs), tuple(map(str, truth.image_ids)))


def class_index(truth: Annotations) -> NameIndex:
    """The classes by name and by id, as a number and as text."""
    pairs: list[tuple[Hashable, int]] = []
    for label, (name, class_id) in enumerate(zip(truth.classes, truth.class_ids, strict=True)):
        pairs += ((name, label), (class_id, label), (str(class_id), label))
    return NameIndex("class", _indices(pairs), truth.classes)


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


def find_class_names(folders: Iterable[Path]) -> tuple[str, ...] | None:
    """The class names in the first folder that has ``data.yaml``, ``classes.txt`` or a ``.names`` file.

    Returns:
        The names in order of their numbers, or None where no folder has such a file.

    Raises:
        DataError: naming the file, when it cannot be understood, or numbers are left out.
    """
    for folder in folders:
        for name in DATA_FILES:
            if (folder / name).is_file():
                return read_class_names(folder / name)
        if (folder / "classes.txt").is_file():
            return read_class_names(folder / "classes.txt")
        listed = sorted(folder.glob("*.names"))
        if len(listed) > 1:
            found = ", ".join(path.name for path in listed)
            raise DataError(f"class list must be one file; got {found} in {folder}. Pass the classes instead.")
        if listed:
            return read_class_names(listed[0])
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

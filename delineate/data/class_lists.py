"""Names, colours and ids of classes from the file that lies beside the masks.

``classes.txt`` has one class a line, its id being the line's number from 0; a colour may follow: ``sky 128 128 128``.
``classes.json`` is a list of names, a mapping of names and ids, or a list of objects with ``name`` and, where wanted,
``id``, ``colour`` and ``ignore``. A class called void, ignore or unlabelled is not a class: its id is ignored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from delineate.errors import DataError
from delineate.structures.taxonomy import Colour, Taxonomy

CLASS_FILES = (
    "classes.json",
    "classes.txt",
    "class_names.txt",
    "labels.txt",
    "labelmap.txt",
    "class_dict.csv",
    "label_colors.txt",
)
IGNORE_ID = 255
NOT_A_VALUE = -1  # what some tools write where nothing was labelled
MANY_CLASSES_IGNORE = 65535  # the ignored label where 255 is a class; the largest that a 16-bit PNG holds
_MOST_BYTES = 4 << 20
_IGNORED = frozenset(("void", "ignore", "ignored", "unlabelled", "unlabeled"))
_BACKGROUND = frozenset(("background", "bg"))
_NUMBERS = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
_COLOUR_LAST = re.compile(rf"^(.*?\S)[\s,;:]+{_NUMBERS}[\s,;:]*$")
_COLOUR_FIRST = re.compile(rf"^{_NUMBERS}[\s,;:]+(.*?)$")


@dataclass(frozen=True)
class ClassEntry:
    """One class as the file has it.

    Args:
        name: as written, "_background_" as "background".
        id: its value in masks.
        colour: its colour, if given.
        ignored: whether its pixels count nowhere.
    """

    name: str
    id: int
    colour: Colour | None = None
    ignored: bool = False


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set, by ascending id.

    Args:
        source: the file they come from.
        entries: at least one that is not ignored; no id and no name twice.
    """

    source: Path
    entries: tuple[ClassEntry, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(sorted(self.entries, key=lambda entry: entry.id)))
        if not self.classes:
            raise DataError(f"class list must name at least one class; got none in {self.source}.")
        for what, values in (
            ("names", [entry.name for entry in self.entries]),
            ("ids", [str(entry.id) for entry in self.entries]),
        ):
            doubled = sorted(value for value, count in Counter(values).items() if count > 1)
            if doubled:
                raise DataError(f"class list must not repeat {what}; got {', '.join(doubled)} twice in {self.source}.")

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """The entries that are classes; their position is their label."""
        return tuple(entry for entry in self.entries if not entry.ignored)

    def taxonomy(self, palette: tuple[Colour, ...] | None = None) -> Taxonomy:
        """The classes as a taxonomy; without colours of their own they take those of ``palette`` at their ids."""
        classes = self.classes
        colours = tuple(entry.colour for entry in classes if entry.colour is not None)
        if len(colours) < len(classes):
            inside = palette is not None and max(entry.id for entry in classes) < len(palette)
            colours = tuple(palette[entry.id] for entry in classes) if palette is not None and inside else ()
        names = tuple(entry.name for entry in classes)
        background = next((label for label, name in enumerate(names) if name.lower() in _BACKGROUND), None)
        return Taxonomy(names, colours, ignore_index_for(len(names)), background)

    def label_of_id(self) -> dict[int, int]:
        """The label of each id; the ids of ignored entries, and 255 and -1 where they are free, are ignored."""
        classes, ignore_index = self.classes, ignore_index_for(len(self.classes))
        labels = dict.fromkeys((IGNORE_ID, NOT_A_VALUE), ignore_index)
        labels.update((entry.id, ignore_index) for entry in self.entries)
        labels.update((entry.id, label) for label, entry in enumerate(classes))
        return labels

    def id_of_colour(self) -> dict[int, int]:
        """The id of each colour ``red << 16 | green << 8 | blue``; empty unless every class has a colour of its own."""
        coloured = [entry for entry in self.entries if entry.colour is not None]
        ids = {entry.colour[0] << 16 | entry.colour[1] << 8 | entry.colour[2]: entry.id for entry in coloured}  # type: ignore[index]
        return ids if len(ids) == len(coloured) and all(entry in coloured for entry in self.classes) else {}


def ignore_index_for(num_classes: int) -> int:
    """The ignored label beside so many classes: 255, or 65535 where 255 is a class."""
    return IGNORE_ID if num_classes <= IGNORE_ID else MANY_CLASSES_IGNORE


def find_class_list(*folders: Path) -> ClassList | None:
    """The class list in the first of the folders that has one (see ``CLASS_FILES``); None where none has.

    Raises:
        DataError: naming the file and the line, when it cannot be understood.
    """
    for folder in folders:
        for name in CLASS_FILES:
            if (folder / name).is_file():
                return read_class_list(folder / name)
    return None


def read_class_list(path: str | Path) -> ClassList:
    """The classes that a ``.txt``, ``.csv`` or ``.json`` file lists.

    Raises:
        DataError: naming the file, and the line where there is one.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise DataError(f"class list must be a short file; got {size:,} bytes in {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"class list must be UTF-8 text; got a foreign byte at {error.start} in {path}.") from None
    if path.suffix.lower() != ".json":
        return ClassList(path, _entries_of_lines(text.splitlines(), path))
    try:
        values = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"class list must be JSON; got {error} in {path}.") from None
    return ClassList(path, _entries_of_json(values, path))


def _entries_of_lines(lines: list[str], path: Path) -> tuple[ClassEntry, ...]:
    kept = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    kept = [(number, line) for number, line in kept if line and not line.startswith("#")]
    if kept and re.fullmatch(r"name\s*,\s*r\s*,\s*g\s*,\s*b", kept[0][1].lower()):  # the header of class_dict.csv
        kept = kept[1:]
    # labelme starts its list with "__ignore__", which it counts as -1
    first = -1 if kept and kept[0][1] == "__ignore__" else 0
    entries = []
    for value, (number, line) in enumerate(kept, first):
        name, colour = line, None
        if last := _COLOUR_LAST.match(line):
            name, colour = last[1], (int(last[2]), int(last[3]), int(last[4]))
        elif early := _COLOUR_FIRST.match(line):
            name, colour = early[4], (int(early[1]), int(early[2]), int(early[3]))
        name = name.strip().rstrip(",;:").strip()
        if colour is not None and max(colour) > 255:
            raise DataError(f"colour must be 0 to 255; got {colour} in {path}, line {number}.")
        if not name:
            raise DataError(f"class list must have a name a line; got '{line}' in {path}, line {number}.")
        entries.append(_entry(name, value, colour))
    return tuple(entries)


def _entries_of_json(values: Any, path: Path) -> tuple[ClassEntry, ...]:
    ignored_ids: set[int] = set()
    if isinstance(values, dict):
        colours = values.get("colours") or values.get("colors")
        if isinstance(values.get("ignore_index"), int):
            ignored_ids.add(values["ignore_index"])
        values = next((values[key] for key in ("classes", "names", "categories", "labels") if key in values), values)
        if isinstance(colours, list) and isinstance(values, list) and len(colours) == len(values):
            values = [{"name": name, "colour": colour} for name, colour in zip(values, colours, strict=True)]
    if isinstance(values, dict):
        values = [_from_pair(key, value, place) for place, (key, value) in enumerate(values.items())]
    if not isinstance(values, list):
        raise DataError(f"class list must be a list or a mapping of classes; got {type(values).__name__} in {path}.")
    entries = []
    for place, value in enumerate(values):
        described = {"name": value} if isinstance(value, str) else value
        try:
            entries.append(msgspec.convert(described, _JsonClass, strict=True).entry(place))
        except msgspec.ValidationError as error:
            raise DataError(f"class list must hold names or objects; got {error} at [{place}] in {path}.") from None
    return tuple(entry for entry in entries if entry.id not in ignored_ids or entry.ignored)


class _JsonClass(msgspec.Struct):
    """A class in JSON; British and American colours are read alike."""

    name: str
    id: int | None = None
    colour: tuple[int, int, int] | None = None
    color: tuple[int, int, int] | None = None
    ignore: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("an empty name")
        colour = self.colour or self.color
        if colour is not None and not all(0 <= value <= 255 for value in colour):
            raise ValueError(f"the colour {colour}")

    def entry(self, place: int) -> ClassEntry:
        return _entry(self.name, place if self.id is None else self.id, self.colour or self.color, self.ignore)


def _from_pair(key: str, value: Any, place: int) -> dict[str, Any]:
    """A class from one pair of a mapping: "0": "sky", "sky": 0, "sky": [r, g, b], "sky": {...} or "0": {...}."""
    number = key.isdecimal() and len(key) < 10
    if isinstance(value, str):
        return {"name": value, "id": int(key) if number else place}
    if isinstance(value, Mapping):
        return {"id": int(key), **value} if number and "name" in value else {"name": key, "id": place, **value}
    if isinstance(value, list):
        return {"name": key, "id": place, "colour": value}
    return {"name": key, "id": value}


def _entry(name: str, value: int, colour: Colour | None, ignored: bool = False) -> ClassEntry:
    plain = name.strip().strip("_").lower()
    shown = "background" if name.strip() == "_background_" else name.strip()
    return ClassEntry(shown, value, colour, ignored or plain in _IGNORED)

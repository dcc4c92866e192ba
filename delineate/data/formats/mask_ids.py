"""What the ids in mask files mean: by a class list, or by a look at the masks themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delineate.data.class_lists import IGNORE_ID, NOT_A_VALUE, ClassEntry, ClassList, ignore_index_for
from delineate.data.formats.layout import Problem
from delineate.data.image_io import JPEG_SUFFIXES, is_colour_mask, mask_palette, read_ids
from delineate.errors import DataError
from delineate.structures.taxonomy import Colour, Taxonomy

SCANNED_MASKS = 200
_SCANNED_PIXELS = 400_000_000
_BINARY = frozenset((0, 255))
_NEAR = 32  # how far from 0 or 255 a lossy file may move the pixels of a black and white mask
_FEW_INSTANCES = 3


@dataclass(frozen=True)
class Meaning:
    """How ids become labels.

    Args:
        taxonomy: the classes.
        label_of_id: the label of each id.
        other_label: the label of any other id; None when another id is a mistake.
        id_of_colour: the id of each colour, for masks that are colour pictures.
        black_and_white: whether the masks' values are to be rounded to 0 and 255.
        problems: what a person should know about it.
    """

    taxonomy: Taxonomy
    label_of_id: Mapping[int, int]
    other_label: int | None = None
    id_of_colour: Mapping[int, int] | None = None
    black_and_white: bool = False
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Scan:
    """What was seen in the masks that were looked at."""

    ids: frozenset[int]
    instances: bool  # each mask counts its objects 1, 2, 3 ... on its own
    lossy: bool
    problems: tuple[Problem, ...] = ()

    @property
    def white_is_one(self) -> bool:
        """Whether, of two classes, the second is written as 255; a stray other id is a mistake of one file."""
        return IGNORE_ID in self.ids and 0 in self.ids and 1 not in self.ids


_NOTHING = _Scan(frozenset(), instances=False, lossy=False)


def interpreted(masks: Sequence[Path], classes: ClassList | None) -> Meaning:
    """The meaning of the ids in ``masks``.

    A class list decides; a list of one class means that class on a background. The masks are looked at only where the
    list leaves something open (two classes at most: is 255 the second one, or "look away"?) or where there is none.

    Raises:
        DataError: on colour masks without named colours, or on masks that are neither ids nor black and white.
    """
    if not masks:
        return Meaning(classes.taxonomy(), classes.label_of_id()) if classes else _two_classes("foreground")
    palette = _first_palette(masks)
    if classes is not None:
        colours = classes.id_of_colour()
        plain = Meaning(classes.taxonomy(palette), classes.label_of_id(), id_of_colour=colours or None)
        coloured = bool(colours) and _is_colour(masks[0])
        if coloured and len(classes.entries) == 1:
            on_black = {0: 0, **dict.fromkeys(colours, 1)}
            return Meaning(_on_background(classes.entries[0], _NOTHING).taxonomy, {0: 0, 1: 1}, id_of_colour=on_black)
        if coloured or len(classes.entries) > 2:
            return plain
        scan = _scanned(masks)
        if len(classes.entries) == 1:
            return _on_background(classes.entries[0], scan)
        if scan.white_is_one and len(classes.classes) == 2:
            binary = {0: 0, 1: 1, IGNORE_ID: 1, NOT_A_VALUE: IGNORE_ID}
            return Meaning(plain.taxonomy, binary, black_and_white=scan.lossy, problems=scan.problems)
        return plain
    return _numbered(_scanned(masks), palette, masks)


def _on_background(entry: ClassEntry, scan: _Scan) -> Meaning:
    colours: tuple[Colour, ...] = ((0, 0, 0), entry.colour) if entry.colour is not None else ()
    taxonomy = Taxonomy(("background", entry.name), colours, background=0)
    if entry.name == "background":
        taxonomy = Taxonomy((entry.name,), background=0)
        return Meaning(taxonomy, {0: 0, IGNORE_ID: IGNORE_ID, NOT_A_VALUE: IGNORE_ID}, problems=scan.problems)
    return _binary(taxonomy, scan)


def _two_classes(name: str) -> Meaning:
    return _binary(Taxonomy(("background", name), background=0), _NOTHING)


def _binary(taxonomy: Taxonomy, scan: _Scan) -> Meaning:
    labels = {0: 0, 1: 1, IGNORE_ID: 1 if scan.white_is_one else IGNORE_ID, NOT_A_VALUE: IGNORE_ID}
    if scan.instances:
        return Meaning(taxonomy, {0: 0, NOT_A_VALUE: IGNORE_ID}, other_label=1, problems=scan.problems)
    return Meaning(taxonomy, labels, black_and_white=scan.lossy, problems=scan.problems)


def _numbered(scan: _Scan, palette: tuple[Colour, ...] | None, masks: Sequence[Path]) -> Meaning:
    """Classes called after their ids, where nothing names them."""
    folder = str(masks[0].parent)
    advice = "Name the classes in classes.txt, one a line"
    if scan.instances:
        message = f"ids count objects, up to {max(scan.ids)}; every id above 0 is read as one class. {advice}"
        problem = Problem("warning", "instance-ids", folder, message)
        return _binary(
            Taxonomy(("background", "object"), background=0), _Scan(scan.ids, True, False, (*scan.problems, problem))
        )
    if scan.ids <= _BINARY or scan.ids <= {0, 1}:
        return _binary(Taxonomy(("background", "foreground"), background=0), scan)
    ids = sorted(scan.ids - {NOT_A_VALUE})
    if max(ids) <= IGNORE_ID:
        ids = [value for value in ids if value != IGNORE_ID]
    if min(ids) < 0:
        raise DataError(f"mask must hold ids from 0; got {min(ids)} in {folder}. {advice}.")
    dense = list(range(max(ids) + 1))
    if 2 * len(ids) >= len(dense):
        ids = dense
    ignore_index = ignore_index_for(len(ids))
    colours = tuple(palette[value] for value in ids) if palette is not None and max(ids) < len(palette) else ()
    names = tuple(f"class {value}" for value in ids)
    labels = {IGNORE_ID: ignore_index, NOT_A_VALUE: ignore_index, **{value: label for label, value in enumerate(ids)}}
    message = f"{len(ids)} classes are numbered after the ids found, {min(ids)} to {max(ids)}. {advice}"
    problem = Problem("warning", "no-class-names", folder, message)
    return Meaning(Taxonomy(names, colours, ignore_index), labels, problems=(*scan.problems, problem))


def _scanned(masks: Sequence[Path]) -> _Scan:
    """The ids in up to 200 masks, evenly spread."""
    chosen = (
        [masks[i * len(masks) // SCANNED_MASKS] for i in range(SCANNED_MASKS)] if len(masks) > SCANNED_MASKS else masks
    )
    ids: set[int] = set()
    counted: list[int] = []
    lossy, instances, pixels, failure = False, True, 0, None
    for path in chosen:
        try:
            values = read_ids(path)
        except DataError as error:  # a damaged file is for whoever reads it; only if all fail is there nothing to say
            failure = failure or error
            continue
        if path.suffix.lower() in JPEG_SUFFIXES:
            lossy = True
            values = _black_and_white(values, path)
        present = np.unique(values)
        ids.update(present.tolist())
        objects = present[present != 0]
        instances &= values.dtype != np.uint8 and np.array_equal(objects, np.arange(1, len(objects) + 1))
        counted.append(len(objects))
        pixels += values.size
        if pixels > _SCANNED_PIXELS:
            break
    if not counted and failure is not None:
        raise failure
    instances = instances and max(counted) >= _FEW_INSTANCES and len(set(counted)) > 1
    problems: tuple[Problem, ...] = ()
    if lossy:
        message = "masks are JPEG, which changes values; they are read as black and white. Convert them to PNG"
        problems = (Problem("warning", "lossy-mask", str(masks[0].parent), message),)
    return _Scan(frozenset(ids), instances, lossy, problems)


def _black_and_white(values: np.ndarray, path: Path) -> np.ndarray:
    between = np.count_nonzero((values > _NEAR) & (values < IGNORE_ID - _NEAR))
    if between > values.size // 20:
        raise DataError(f"mask must be a lossless file, such as PNG; got {path}: JPEG has changed the ids in it.")
    return np.where(values > IGNORE_ID // 2, np.uint8(IGNORE_ID), np.uint8(0))


def _first_palette(masks: Sequence[Path]) -> tuple[Colour, ...] | None:
    try:
        return mask_palette(masks[0])
    except DataError:  # only colours depend on it
        return None


def _is_colour(path: Path) -> bool:
    try:
        return is_colour_mask(path)
    except DataError:  # whoever reads the mask will say so
        return False

"""Opening a data set by its path: the layout is recognised, or the error says what was looked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from delineate.checks import require
from delineate.data.dataset import OnError, SemanticDataset
from delineate.data.formats import cityscapes, coco, mask_folders, voc
from delineate.data.formats.layout import Layout
from delineate.errors import DataError
from delineate.registry import Registry, nearest_name

if TYPE_CHECKING:
    from delineate.data.digits import DigitScenes
    from delineate.data.digits_objects import DigitObjects
    from delineate.data.object_dataset import ObjectDataset
    from delineate.data.objects.coco_json import Columns

BUILT_IN = "digits"


@dataclass(frozen=True)
class Format:
    """A way to lay out a data set.

    Args:
        read: the layout of a folder, or a text that says why it is not this format.
        looked_for: what makes a folder this format.
    """

    read: Callable[[Path], Layout | str]
    looked_for: str


# in the order in which "auto" tries them: the more particular first
FORMATS: Registry[Format] = Registry(
    "format",
    {
        "cityscapes": Format(cityscapes.read, cityscapes.LOOKED_FOR),
        "voc": Format(voc.read, voc.LOOKED_FOR),
        "mask-folders": Format(mask_folders.read, mask_folders.LOOKED_FOR),
        "coco": Format(coco.read, coco.LOOKED_FOR),
    },
)


def read_layout(path: str | Path, format: str = "auto") -> Layout:
    """What lies in a folder: pictures and masks by split, and the classes. Nothing but names and lists is read.

    (Without a class list, up to 200 masks are looked at for their ids.)

    Args:
        path: the data set's folder.
        format: "cityscapes", "voc", "mask-folders", "coco", or "auto" for the first of these that fits.

    Raises:
        DataError: when there is no such folder, or it is in none of the formats; the message says what was looked for.
        UnknownNameError: on an unknown format.
    """
    root = Path(path).expanduser()
    names = list(FORMATS) if format == "auto" else [format]
    readers = [FORMATS[name] for name in names]
    if not root.is_dir():
        raise DataError(_no_folder(root))
    looked = []
    for name, known in zip(names, readers, strict=True):
        found = known.read(root)
        if isinstance(found, Layout):
            return found
        looked.append(f"{name}: {known.looked_for} [{found}]")
    inside = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in root.iterdir())
    shown = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "") if inside else "nothing"
    kinds = "a known layout" if format == "auto" else f"the layout '{format}'"
    raise DataError(
        f"path must be a data set in {kinds}; got {root} with {shown} in it. Looked for " + "; ".join(looked)
    )


@overload
def open_dataset(
    path: str | Path,
    *,
    split: str | None = ...,
    task: Literal["semantic"] = ...,
    format: str = ...,
    transform: Callable[..., Any] | None = ...,
    on_error: OnError = ...,
    channels: int = ...,
) -> SemanticDataset | DigitScenes: ...


@overload
def open_dataset(
    path: str | Path,
    *,
    split: str | None = ...,
    task: Literal["objects"],
    format: str = ...,
    transform: Callable[..., Any] | None = ...,
    on_error: OnError = ...,
    channels: int = ...,
    columns: Sequence[Columns] | None = ...,
) -> ObjectDataset | DigitObjects: ...


def open_dataset(
    path: str | Path,
    *,
    split: str | None = None,
    task: Literal["semantic", "objects"] = "semantic",
    format: str = "auto",
    transform: Callable[..., Any] | None = None,
    on_error: OnError = "raise",
    channels: int = 3,
    columns: Sequence[Columns] | None = None,
) -> SemanticDataset | DigitScenes | ObjectDataset | DigitObjects:
    """The images of a folder with their label maps, or with their objects, ready for a data loader.

    Where a folder has no validation split, "train" and "val" are chosen by a hash of the names, four to one, the
    same on every machine (:meth:`~delineate.data.formats.layout.Layout.with_validation`).

    Args:
        path: the folder; "digits" for the built-in scenes (a folder of that name is "./digits").
        split: "train", "val" or another that the folder has; None for all of them together.
        task: "semantic" for a label map a picture, "objects" for boxes, masks and keypoints. A folder may serve both.
        format: as for :func:`read_layout`, or for :func:`~delineate.data.objects.folder.read_objects`.
        transform: a torchvision v2 transform on ``(image, target)``.
        on_error: "raise", or "skip" to leave bad records out and name them in ``skipped``.
        channels: of the images: 1, 3 or 4; any number that ``.npy`` images hold.
        columns: of objects, "masks" and "keypoints" as far as they are wanted; all that there are when left out.

    Raises:
        DataError: when the folder cannot be recognised, or a record is bad.
        UnknownNameError: on an unknown split or format.

    Example:
        >>> len(open_dataset("digits", split="val"))
        150
        >>> open_dataset("digits", split="val", task="objects").columns
        ('boxes', 'masks', 'keypoints')
    """
    require(task in ("semantic", "objects"), "task", 'be "semantic" or "objects"', f'"{task}"')
    if task == "objects":
        return _open_objects(path, split, format, transform, on_error, channels, columns)
    require(columns is None, "columns", 'be left out but for task="objects"', columns)
    if path == BUILT_IN:
        from delineate.data.digits import DigitScenes

        return DigitScenes(split or "train", transform=transform, channels=channels)
    layout = read_layout(path, format)
    if split in ("train", "val"):
        layout = layout.with_validation()
    return SemanticDataset(layout, split, transform=transform, on_error=on_error, channels=channels)


def _open_objects(
    path: str | Path,
    split: str | None,
    format: str,
    transform: Callable[..., Any] | None,
    on_error: OnError,
    channels: int,
    columns: Sequence[Columns] | None,
) -> ObjectDataset | DigitObjects:
    if path == BUILT_IN:
        from delineate.data.digits_objects import DigitObjects

        return DigitObjects(split or "train", transform=transform, columns=columns, channels=channels)
    from delineate.data.object_dataset import ObjectDataset
    from delineate.data.objects.folder import read_objects

    folder = read_objects(path, format, columns=columns)
    if split in ("train", "val"):
        folder = folder.with_validation()
    return ObjectDataset(folder, split, transform=transform, on_error=on_error, channels=channels, columns=columns)


def _no_folder(root: Path) -> str:
    if root.is_file():
        return f"path must be a data set's folder; got a file, {root}."
    parent = root.parent
    near = (
        nearest_name(root.name, [path.name for path in parent.iterdir() if path.is_dir()]) if parent.is_dir() else None
    )
    advice = (
        f"Did you mean '{parent / near}'?" if near else f'Check the path, or pass "{BUILT_IN}" for built-in scenes.'
    )
    return f"path must be a folder that exists; got {root}. {advice}"

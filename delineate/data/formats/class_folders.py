"""A folder for each class with its pictures, as image classifiers learn from: ``train/terrier/1.jpg``.

The splits are folders called after them ("train", "val"); without such folders all pictures are one split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from delineate.data.formats.layout import split_name
from delineate.data.image_io import IMAGE_SUFFIXES
from delineate.registry import unknown_name

LOOKED_FOR = "a folder for each class with its pictures, train/CLASS/1.jpg or CLASS/1.jpg"


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """Pictures of which only the class is known.

    Args:
        root: their folder.
        classes: the names, in alphabetical order: of the folders.
        files: paths below ``root``, those of one split and class side by side.
        labels: the class of each.
        splits: the indices of each split's pictures; "all" when no folder is called after a split.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: Int64[np.ndarray, " I"]
    splits: dict[str, Int64[np.ndarray, " I"]]

    def images(self, split: str | None = None) -> Int64[np.ndarray, " I"]:
        """The indices of a split's pictures; all of them with None, or where no folder is called after a split.

        Raises:
            UnknownNameError: when there is no such split.
        """
        if split is None or set(self.splits) == {"all"}:
            return np.arange(len(self.files), dtype=np.int64)
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        return self.splits[split]


def read(root: Path) -> ClassFolders | str:
    """The pictures of a folder with a folder for each class, or a text that says why it is none.

    Pictures may lie deeper: a class has all that are below its folder. Hidden files are passed over.

    Args:
        root: the folder.
    """
    if not root.is_dir():
        return "it is no folder"
    tops = _folders(root)
    named = [(split, top) for top in tops if (split := split_name(top.name)) is not None and _folders(top)]
    pools: list[tuple[str, Sequence[Path]]] = [(split, _folders(top)) for split, top in named] or [("all", tops)]
    found = [(split, folder, _pictures(folder)) for split, folders in pools for folder in folders]
    found = [(split, folder, pictures) for split, folder, pictures in found if pictures]
    if not found:
        return "no folder in it has pictures" if tops else "there is no folder in it"
    classes = tuple(sorted({folder.name for _, folder, _ in found}))
    label_of = {name: label for label, name in enumerate(classes)}
    files: list[str] = []
    labels: list[int] = []
    splits: dict[str, list[int]] = {}
    for split, folder, pictures in found:
        splits.setdefault(split, []).extend(range(len(files), len(files) + len(pictures)))
        files += [picture.relative_to(root).as_posix() for picture in pictures]
        labels += [label_of[folder.name]] * len(pictures)
    return ClassFolders(
        root=root,
        classes=classes,
        files=tuple(files),
        labels=np.array(labels, np.int64),
        splits={split: np.array(rows, np.int64) for split, rows in splits.items()},
    )


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    below = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in below if not path.name.startswith(".") and path.is_file())

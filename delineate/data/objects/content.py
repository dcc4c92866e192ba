"""What a writer of a format is handed: pictures with file names, splits, objects, and what has been lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from delineate.data.objects.outlines import Outlines
from delineate.structures.annotations import Annotations


@dataclass(frozen=True)
class Content:
    """A data set of objects that is to be written.

    Args:
        annotations: pictures, classes and objects in order of their pictures.
        names: the file name of each picture, all in one folder: no two have the same stem.
        splits: the pictures of each split; "all" alone where there is none.
        outlines: the polygons of each object, where they are known corner by corner.
        numbered: whether the numbers of images, classes and objects are the source's own, to be kept.
        losses: what the new format cannot say, and how often it was to be said.
    """

    annotations: Annotations
    names: tuple[str, ...]
    splits: dict[str, list[int]]
    outlines: Outlines
    numbered: bool = False
    losses: dict[str, int] = field(default_factory=dict)

    def lose(self, what: str, count: int) -> None:
        """Note that something is lost, if it is."""
        if count:
            self.losses[what] = self.losses.get(what, 0) + int(count)

    def without(self, rows: Bool[np.ndarray, " N"], what: str) -> Content:
        """The same without some objects, which are lost."""
        if not rows.any():
            return self
        self.lose(what, int(rows.sum()))
        objects = self.annotations.objects.select(~rows)
        outlines = [outline for outline, gone in zip(self.outlines, rows.tolist(), strict=True) if not gone]
        return replace(self, annotations=replace(self.annotations, objects=objects), outlines=outlines)

    def rows(self, image: int) -> range:
        """The objects of a picture."""
        first, last = np.searchsorted(self.annotations.objects.images, [image, image + 1]).tolist()
        return range(first, last)

    def stem(self, image: int) -> str:
        """The name of a picture without suffix."""
        return Path(self.names[image]).stem


Writer = Callable[[Content, Path], int]


def plain(value: float) -> float | int:
    """A number as files have it: a whole one without a point.

    Example:
        >>> plain(3.0), plain(0.25)
        (3, 0.25)
    """
    return int(value) if value == int(value) else float(value)


def write_lists(folder: Path, splits: dict[str, list[str]]) -> None:
    """``train.txt`` and its like: a line a picture; nothing where all pictures are of one unnamed split."""
    if set(splits) <= {"all"}:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for split, lines in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

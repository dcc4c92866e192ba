"""What the classes of a data set are called, how they are drawn, and which label means "look away"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from delineate.checks import require
from delineate.registry import unknown_name

Colour = tuple[int, int, int]


def voc_colours(count: int) -> tuple[Colour, ...]:
    """The Pascal VOC palette: RGB of labels ``0 .. count-1``, distinct and the same in every tool.

    Source: VOC devkit ``VOClabelcolormap``: the bits of the label, three at a time, become the high bits of R, G, B.

    Example:
        >>> voc_colours(3)
        ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """
    colours = []
    for label in range(count):
        rgb, rest = [0, 0, 0], label
        for bit in range(7, -1, -1):
            for channel in range(3):
                rgb[channel] |= ((rest >> channel) & 1) << bit
            rest >>= 3
        colours.append((rgb[0], rgb[1], rgb[2]))
    return tuple(colours)


@dataclass(frozen=True)
class Taxonomy:
    """The classes of a data set: label ``i`` is ``names[i]``, drawn in ``colours[i]``.

    Args:
        names: one name a class, in label order; not empty, no name twice.
        colours: RGB 0..255, one a class; the VOC palette (from label 1 when there is no background) when left out.
        ignore_index: the label that counts neither in a loss nor in a metric.
        background: the label of the background class, or None when every class is an object or stuff.
        labelled: whether the data labels a class at all, one truth value a class; None when it labels all of them.

    Raises:
        ArgumentError: on a duplicate or missing name, a colour too many, an ignore_index that is also a class, or when
            no class is labelled.

    Example:
        >>> Taxonomy(("background", "cell"), background=0).num_classes
        2
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    ignore_index: int = 255
    background: int | None = None
    labelled: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        require(len(self.names) > 0, "names", "hold at least one class", "none")
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        require(not doubled, "names", "not repeat a class", ", ".join(doubled))
        if not self.colours:
            first = 0 if self.background == 0 else 1
            object.__setattr__(self, "colours", voc_colours(len(self.names) + first)[first:])
        object.__setattr__(self, "colours", tuple(tuple(int(v) for v in colour) for colour in self.colours))
        require(
            len(self.colours) == len(self.names),
            "colours",
            f"be {len(self.names)} RGB triples, one a class",
            len(self.colours),
        )
        require(
            all(len(colour) == 3 and all(0 <= v <= 255 for v in colour) for colour in self.colours),
            "colours",
            "be RGB triples from 0 to 255",
            self.colours,
        )
        require(
            not 0 <= self.ignore_index < len(self.names),
            "ignore_index",
            f"lie outside the {len(self.names)} class labels",
            self.ignore_index,
        )
        require(
            self.background is None or 0 <= self.background < len(self.names),
            "background",
            "be a class label or None",
            self.background,
        )
        if self.labelled is not None:
            fits = len(self.labelled) == len(self.names) and any(self.labelled)
            condition = f"be {len(self.names)} truth values, one a class and one of them true"
            require(fits, "labelled", condition, self.labelled)

    @property
    def num_classes(self) -> int:
        """The number of classes, the background included where there is one, the ignored label not."""
        return len(self.names)

    def index(self, name: str) -> int:
        """The label of the class called ``name``; an unknown one raises UnknownNameError with the nearest."""
        if name not in self.names:
            raise unknown_name("class", name, self.names)
        return self.names.index(name)

    @classmethod
    def numbered(cls, count: int) -> Taxonomy:
        """Classes called "class 0" .. when nothing better is known; above 255 of them the ignored label is 65535."""
        return cls(tuple(f"class {label}" for label in range(count)), ignore_index=255 if count <= 255 else 65535)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` reads them back."""
        labelled = {} if self.labelled is None else {"labelled": list(self.labelled)}
        return {
            "names": list(self.names),
            "colours": [list(colour) for colour in self.colours],
            "ignore_index": self.ignore_index,
            "background": self.background,
            **labelled,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Taxonomy:
        """The inverse of :meth:`to_dict`; only ``names`` is needed."""
        colours: Sequence[Sequence[int]] = values.get("colours") or ()
        labelled: Sequence[bool] | None = values.get("labelled")
        return cls(
            names=tuple(values["names"]),
            colours=tuple((int(r), int(g), int(b)) for r, g, b in colours),
            ignore_index=int(values.get("ignore_index", 255)),
            background=values.get("background"),
            labelled=None if labelled is None else tuple(bool(value) for value in labelled),
        )

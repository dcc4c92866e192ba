"""Read-only tables of names. No import side effects: a table is written out in full where it is defined."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from delineate.errors import UnknownNameError

T = TypeVar("T")


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None when nothing is close.

    Example:
        >>> nearest_name("unte", ["unet", "segnet"])
        'unet'
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return close[0] if close else None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not known: says the nearest one, or lists a few."""
    names = sorted(known)
    near = nearest_name(name, names)
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    hint = f"Did you mean '{near}'?" if near else f"Known: {listed}."
    return UnknownNameError(f"{kind} must be a known name; got '{name}'. {hint}")


class Registry(Mapping[str, T]):
    """A read-only mapping whose missing keys answer with the nearest known name.

    Example:
        >>> colours = Registry("colour", {"red": 1, "green": 2})
        >>> colours["gren"]
        Traceback (most recent call last):
        ...
        delineate.errors.UnknownNameError: colour must be a known name; got 'gren'. Did you mean 'green'?
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

"""Keeping Pillow's warnings inside, from many threads at once.

``warnings.catch_warnings`` saves and restores one list of filters for the whole process: two threads that leave it in
the wrong order lose a filter for good. Here the first reader adds one filter that concerns Pillow's modules alone, and
the last one takes it out again.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MODULES = r"PIL\."
_FILTER = ("ignore", None, Warning, re.compile(_MODULES), 0)  # as filterwarnings() stores it
_lock = threading.Lock()
_readers = 0


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """A block in which warnings that are raised inside Pillow's modules are dropped; other warnings are untouched."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _readers
    with _lock:
        _readers += 1
        if _FILTER not in warnings.filters:  # also when someone else has replaced the list meanwhile
            warnings.filterwarnings("ignore", module=_MODULES)


def _leave() -> None:
    global _readers
    with _lock:
        _readers -= 1
        if _readers == 0:
            with suppress(ValueError):  # a filter that someone else has taken out is gone as wished
                warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]


def _start_afresh() -> None:
    """In a forked child: no other thread is reading, and the lock may have been copied while it was held."""
    global _lock, _readers
    _lock, _readers = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)

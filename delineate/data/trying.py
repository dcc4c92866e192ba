"""What is wrong with a data set's files: found by reading every one of them once, and refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from delineate.data.formats.layout import Problem
from delineate.errors import DataError

_THREADS = 8

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def tried(read: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """What ``read`` says of each item, in their order; several are read at a time.

    Example:
        >>> tried(len, ["a", "bc"])
        [1, 2]
    """
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as readers:
        return list(readers.map(read, items))


def refuse(errors: Sequence[Problem], remedy: str) -> None:
    """Stop at what is wrong with a data set, where anything is.

    Args:
        errors: of its files.
        remedy: what can be done about them.

    Raises:
        DataError: naming the first error and how many there are beside it.
    """
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        advice = f'{remedy}, or pass on_error="skip" (data.on_error=skip in training).'
        raise DataError(f"data set must be whole; got: {errors[0].message} ({errors[0].file}){more}. {advice}")

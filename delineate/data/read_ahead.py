"""Files read a few ahead by threads, and handed out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from delineate.kernels.threads import thread_count

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None
) -> Iterator[Result]:
    """``function`` of every item, in order, computed at most two a thread ahead, so that memory stays bounded.

    An error comes out where its item would have.

    Args:
        function: reads one item; called in several threads at once.
        items: what to read.
        threads: how many; :func:`~delineate.kernels.threads.thread_count` when left out. The result is the same.

    Example:
        >>> list(read_ahead(str.upper, ["a", "b"], threads=2))
        ['A', 'B']
    """
    count = thread_count() if threads is None else threads
    if count < 2:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(count, thread_name_prefix="delineate-read-ahead")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

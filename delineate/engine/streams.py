"""Pictures worked on side by side, each on a share of the processor, and given back in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import torch

MOST = 4  # each holds a picture's activations

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, at_once: int | None = None) -> Iterator[Result]:
    """``work`` of every item, in order; several of them are under way while the caller uses a result.

    A network's layers leave threads waiting for each other, and what surrounds it (reading, suppression, writing) keeps
    one busy: two pictures on a thread each are done before the same two on both threads, one after the other. A single
    item is given all threads.

    Args:
        work: is called from threads of its own; what it raises is raised here, at the item's turn.
        items: are taken as they are needed, a few ahead.
        at_once: how many are worked on at a time; up to four, of at least one thread each, when left out.
    """
    threads = torch.get_num_threads()
    at_once = max(1, min(MOST if at_once is None else at_once, threads))
    items = iter(items)
    first = list(islice(items, 2))
    if at_once == 1 or len(first) < 2:
        yield from map(work, chain(first, items))
        return
    waiting: deque[Future[Result]] = deque()
    try:
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(threads // at_once,)) as pool:
            try:
                for item in chain(first, items):
                    waiting.append(pool.submit(work, item))
                    if len(waiting) > at_once:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
    finally:
        torch.set_num_threads(threads)  # new threads take over what was last set, in whichever

"""Threads for kernels: how many, and one pool that every kernel shares.

Kernels here are single-threaded loops that release the GIL; a wrapper gives each thread its own piece and its own
result. That replaces numba's ``parallel=True``, whose fallback threading layer may not be entered by two callers at
once, whose GNU OpenMP layer ends a process that forked (a data loader's worker), and which takes seconds to compile.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from numba.core import event

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def available_processors() -> int:
    """The processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """How many threads a kernel may use: torch's own number where torch is loaded, else OMP_NUM_THREADS, else all.

    A data loader's worker, in which torch is set to one thread, thus runs its kernels in one thread as well.
    """
    limit = available_processors()
    torch = sys.modules.get("torch")  # looked up, not imported: kernels do not depend on torch
    asked = getattr(torch, "get_num_threads", None)
    if asked is not None:
        return max(1, min(limit, int(asked())))
    try:
        return max(1, min(limit, int(os.environ.get("OMP_NUM_THREADS", limit))))
    except ValueError:  # OpenMP allows a list of numbers, one a nesting level
        return limit


def run_pieces(function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """``function`` of every piece, in order; the caller and up to ``thread_count() - 1`` threads take them in turn.

    Safe from any number of threads at once, and from within a piece: a caller never waits for a thread that has not
    started, it does the work itself. More pieces than threads even out pieces of different work.

    After an error nobody starts another piece. Pieces start in order, and those that have started are waited for, so
    that the error raised is always that of the first piece that fails, as in one thread.
    """
    threads = min(len(pieces), thread_count())
    if threads < 2:
        return [function(piece) for piece in pieces]
    results: list[Result] = [None] * len(pieces)  # type: ignore[list-item]
    waiting = deque(enumerate(pieces))
    errors: dict[int, BaseException] = {}

    def take() -> None:
        while True:
            try:
                place, piece = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                results[place] = function(piece)
            except BaseException as error:
                waiting.clear()  # nobody starts another piece
                errors[place] = error

    def accept(invitation: Future[None]) -> None:
        if invitation.set_running_or_notify_cancel():
            try:
                take()
            finally:
                invitation.set_result(None)

    invitations: list[Future[None]] = [Future() for _ in range(threads - 1)]
    try:
        for invitation in invitations:
            _shared_pool().submit(accept, invitation)
    except RuntimeError:  # the interpreter is ending, or may start no more threads: the caller works without them
        pass
    try:
        take()
    finally:
        waiting.clear()
        for invitation in invitations:
            if not invitation.cancel():
                invitation.result()
    try:
        if errors:
            raise errors[min(errors)]
    finally:
        errors.clear()  # an error holds this frame: kept in it, the two would keep the arrays alive
    return results


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, available_processors() - 1), thread_name_prefix="delineate-kernel")
        return _pool


def _forget_pool() -> None:
    """In a forked child the pool's threads do not exist, and its lock may have been copied while it was held."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


class _BuildNotice(event.Listener):
    """Says once a process that a kernel is being compiled, so that a first call that takes seconds explains itself."""

    said = False

    def on_start(self, event: event.Event) -> None:
        """Called when numba compiles, which it does not when the kernel is found on disk."""
        function = getattr(event.data.get("dispatcher"), "py_func", None)
        if not self.said and getattr(function, "__module__", "").startswith("delineate."):
            self.said = True
            print("delineate: compiling kernels for this machine (first use only, then kept on disk)", file=sys.stderr)

    def on_end(self, event: event.Event) -> None:
        """Nothing to say."""


event.register("numba:compile", _BuildNotice())

"""A bar for work that takes a while, where a person watches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, *, after: float = 0.0) -> Iterator[Callable[[int, int], None]]:
    """A function of (done, total) that moves a bar on standard error; silent where nobody watches.

    Args:
        what: the words before the bar.
        after: seconds before the bar shows; work that is done by then shows none.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task("", total=None)
    shown = threading.Timer(after, progress.start)
    shown.daemon = True

    def move(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    shown.start() if after else progress.start()
    try:
        yield move
    finally:
        shown.cancel()
        if after and shown.is_alive():
            shown.join()  # it was just starting the bar
        if progress.live.is_started:
            progress.stop()

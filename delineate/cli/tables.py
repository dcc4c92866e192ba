"""Tables a person reads, and bars for work that takes more than a moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "", total: Sequence[Any] = ()
) -> None:
    """Print rows under columns; numbers to the right, NaN as "n/a"; plain text where nobody watches."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_footer=bool(total))
    for place, column in enumerate(columns):
        number = any(isinstance(row[place], int | float) for row in rows)
        footer = cell(total[place]) if total else ""
        table.add_column(column, footer=footer, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    if not console.is_terminal:  # a pipe or a file gets every column whole
        console.width = max(console.width, 160)
    console.print(table)


def cell(value: Any) -> str:
    """A value as a table shows it.

    Example:
        >>> cell(0.5), cell(float("nan")), cell(1234567), cell("car")
        ('0.5000', 'n/a', '1,234,567', 'car')
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return "n/a" if math.isnan(value) else f"{value:.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    from rich.markup import escape

    return escape(str(value))


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function of (done, total) that moves a bar on standard error; silent where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def move(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield move

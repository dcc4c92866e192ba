"""Tables a person reads."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

UNBROKEN = 10_000  # columns that a pipe or a file has: every row stays one line
COMFORTABLE = 100  # columns; below, less space goes between the cells


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "", total: Sequence[Any] = ()
) -> None:
    """Print rows under columns; numbers to the right and never broken, NaN as "n/a"; each row one line in a pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBROKEN

    def drawn(narrow: bool) -> Table:
        table = Table(
            title=title or None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            show_footer=bool(total),
            padding=(0, 2 if console.width >= COMFORTABLE else 0, 0, 0),
        )
        for place, column in enumerate(columns):
            number = any(isinstance(row[place], int | float) for row in rows)
            whole = number or (bool(rows) and place == 0)  # names and numbers stay whole; columns of words give way
            table.add_column(
                column.replace(" ", "\n") if narrow and whole else column,
                footer=cell(total[place]) if total else "",
                justify="right" if number else "left",
                overflow="fold",
                no_wrap=whole,
            )
        for row in rows:
            table.add_row(*(cell(value) for value in row))
        return table

    unbroken = console.options.update(max_width=UNBROKEN)
    table = drawn(narrow=False)
    if console.measure(table, options=unbroken).maximum > console.width:
        table = drawn(narrow=True)
    narrowest = console.measure(table, options=unbroken).minimum
    console.width = max(console.width, narrowest)
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


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


def counted(number: int, one: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "image"), counted(1200, "image")
        ('1 image', '1,200 images')
    """
    return f"{number:,} {one}{'' if number == 1 else 's'}"

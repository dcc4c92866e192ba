"""``delineate data``: look at a data set before training on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Look at a data set before training on it: check, stats.")

PathArgument = Annotated[str, typer.Argument(help="A data set's folder, or digits.")]
FormatOption = Annotated[str, typer.Option("--format", help="The layout, when it should not be recognised by itself.")]


@app.command("check")
def check_command(
    path: PathArgument,
    format: FormatOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
) -> None:
    """Find what would go wrong in training; exit status 1 when something would break it.

    Errors: missing pairs, unreadable or truncated files, size mismatches, ids outside the taxonomy, the same image in
    two splits. Warnings: empty masks, near-duplicates across splits, class balance.
    """
    from delineate.cli.tables import print_table
    from delineate.data.doctor import check_dataset
    from delineate.files import write_text
    from delineate.progress import progress_bar

    with progress_bar("checking") as progress:
        report = check_dataset(path, format, progress=progress)
    text = json.dumps(report.to_dict(), indent=2)
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        if report.problems:
            print_table(report.columns, report.table())
        typer.echo(report.summary())
    raise typer.Exit(0 if report.ok else 1)


@app.command("stats")
def stats_command(
    path: PathArgument,
    format: FormatOption = "auto",
    split: Annotated[str, typer.Option(help="Which split to count.")] = "train",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the class shares and image sizes to this PNG.")] = None,
) -> None:
    """Count images, pixels and classes, with the class weights that follow from them."""
    from delineate.cli.tables import counted, print_table
    from delineate.data.opening import open_dataset
    from delineate.data.statistics import dataset_statistics
    from delineate.progress import progress_bar

    dataset = open_dataset(path, split=split, format=format)
    with progress_bar("counting") as progress:
        statistics = dataset_statistics(dataset, progress=progress)
    if plot is not None:
        statistics.plot(plot)
    if as_json:
        typer.echo(json.dumps(statistics.to_dict(), indent=2))
        return
    print_table(
        statistics.columns, statistics.rows(), title=f"{dataset.name} / {split}: {counted(len(dataset), 'image')}"
    )
    typer.echo(statistics.summary())
    if plot is not None:
        typer.echo(f"plot: {plot}")

"""``delineate models``: what exists."""

from __future__ import annotations

import math
from typing import Annotated

import typer


def models_command(
    task: Annotated[str | None, typer.Option(help="Only models for this task, such as semantic.")] = None,
    search: Annotated[str | None, typer.Option(help="Only models whose name or paper contains this text.")] = None,
    options: Annotated[
        bool, typer.Option("--options", help="Also list each model's options and their defaults.")
    ] = False,
) -> None:
    """List the models: parameters, stride, receptive field, paper; with --options also what each takes."""
    from delineate.cli.tables import print_table
    from delineate.engine.model_facts import model_facts
    from delineate.models.catalogue import MODELS, list_models, model_options
    from delineate.progress import progress_bar

    names = list_models(task=task, search=search)
    if not names:
        typer.echo("No model matches. `delineate models` without options lists them all.")
        raise typer.Exit(1)
    rows = []
    with progress_bar("counting") as progress:
        for place, name in enumerate(names, start=1):
            entry, facts = MODELS[name], model_facts(name)
            seen = facts.field.size[0]
            rows.append(
                [
                    name,
                    entry.task,
                    f"{facts.parameters / 1e6:.2f} M",
                    int(facts.field.stride[0]),
                    "all" if math.isinf(seen) else f"{seen} px",
                    entry.encoder,
                    entry.citation,
                    entry.summary,
                ]
            )
            progress(place, len(names))
    columns = ["model", "task", "parameters", "stride", "sees", "encoder", "paper", "what it is"]
    print_table(columns, rows)
    if options:
        typer.echo("")
        rows = [[name, option, repr(default)] for name in names for option, default in model_options(name).items()]
        print_table(["model", "option", "default"], rows)
        typer.echo("")
        for name in names:
            typer.echo(f"{name}: {MODELS[name].paper} {MODELS[name].year}")
    typer.echo("")
    typer.echo("With 21 classes and the encoder named, which is the default and can be exchanged.")
    typer.echo(
        "stride: pixels between positions of the coarsest feature; sees: its receptive field, or all of the image."
    )
    typer.echo(f"Train one with: delineate train {'unet' if 'unet' in names else names[0]} --data PATH")

"""``delineate models``: what exists."""

from __future__ import annotations

from typing import Annotated

import typer


def models_command(
    task: Annotated[str | None, typer.Option(help="Only models for this task, such as semantic.")] = None,
    search: Annotated[str | None, typer.Option(help="Only models whose name or paper contains this text.")] = None,
    options: Annotated[
        bool, typer.Option("--options", help="Also list each model's options and their defaults.")
    ] = False,
) -> None:
    """List the models: task, parameters, paper, and with --options what each takes and the papers in full."""
    from delineate.cli.tables import print_table
    from delineate.models.catalogue import MODELS, list_models, model_options, parameter_count

    names = list_models(task=task, search=search)
    if not names:
        typer.echo("No model matches. `delineate models` without options lists them all.")
        raise typer.Exit(1)
    rows = []
    for name in names:
        entry = MODELS[name]
        parameters = f"{parameter_count(name) / 1e6:.2f} M"
        first = entry.paper.partition(",")[0]
        rows.append([name, entry.task, parameters, entry.encoder, f"{first} et al. {entry.year}", entry.summary])
    print_table(["model", "task", "parameters", "encoder", "paper", "what it is"], rows)
    if options:
        typer.echo("")
        rows = [[name, option, repr(default)] for name in names for option, default in model_options(name).items()]
        print_table(["model", "option", "default"], rows)
        typer.echo("")
        for name in names:
            typer.echo(f"{name}: {MODELS[name].paper} {MODELS[name].year}")
    typer.echo("")
    typer.echo("Parameters are those with 21 classes and the encoder named, which is the default and can be exchanged.")
    typer.echo("Train one with: delineate train unet --data PATH --set model.encoder=resnet50")

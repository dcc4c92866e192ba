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
    """List the models: name, task, paper, parameters, and with --options what each takes."""
    from delineate.cli.tables import print_table
    from delineate.models.catalogue import MODELS, list_models, model_options, parameter_count

    names = list_models(task=task, search=search)
    if not names:
        typer.echo("No model matches. `delineate models` without options lists them all.")
        raise typer.Exit(1)
    rows = [
        [
            name,
            MODELS[name].task,
            MODELS[name].paper,
            str(MODELS[name].year),
            f"{parameter_count(name) / 1e6:.2f} M",
            MODELS[name].encoder or "-",
        ]
        for name in names
    ]
    print_table(["model", "task", "paper", "year", "parameters (21 classes)", "encoder"], rows)
    if options:
        rows = [[name, option, repr(default)] for name in names for option, default in model_options(name).items()]
        print_table(["model", "option", "default"], rows)
    typer.echo("Train one with: delineate train NAME --data PATH --set model.encoder=resnet50")

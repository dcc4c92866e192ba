"""``delineate``: the commands, and how errors reach a person."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from delineate.cli import datasets, models, prediction, refinement, scoring, training
from delineate.errors import DelineateError
from delineate.machine import prepare_process

app = typer.Typer(
    name="delineate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Turn images and annotations into trained, measured and explained models of what is where.

    A first run, on built-in scenes of handwritten digits:

      [bold]delineate train unet --data digits --set trainer.max_epochs=5[/bold]

    Your own folder of images and masks:

      [bold]delineate data check PATH[/bold]   what would go wrong, before training

      [bold]delineate train unet --data PATH[/bold]   then open the report it names

      [bold]delineate predict RUN IMAGES --out DIR[/bold]   overlays, masks and COCO JSON

    Predictions of any tool, measured:

      [bold]delineate score --task boxes instances_val.json results.json[/bold]""",
)

app.add_typer(datasets.app, name="data")
app.command("train")(training.train_command)
app.command("evaluate")(training.evaluate_command)
app.command("score")(scoring.score_command)
app.command("predict")(prediction.predict_command)
app.command("tune-crf")(refinement.tune_crf_command)
app.command("export")(prediction.export_command)
app.command("models")(models.models_command)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"delineate {version('delineate')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Keep the options every command shares."""
    if debug:
        os.environ["DELINEATE_DEBUG"] = "1"


def main() -> None:
    """Run the command line; an error is one line on standard error and exit status 1 (143 when told to stop)."""
    prepare_process()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a name shows its code instead
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in sys.argv or os.environ.get("DELINEATE_DEBUG") == "1"
    if "--debug" in sys.argv:  # accepted anywhere on the line
        sys.argv.remove("--debug")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # a reader that left early is noticed here, not while Python shuts down
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if debug:
            raise
        typer.secho(f"error: {error_line(error)}", err=True, fg=None if os.environ.get("NO_COLOR") else "red")
        raise SystemExit(143 if type(error).__name__ == "TrainingInterrupted" else 1) from None


def error_line(error: Exception) -> str:
    """What an error says to a person, in one line.

    Example:
        >>> error_line(DelineateError("tile must be larger than overlap; got 64."))
        'tile must be larger than overlap; got 64.'
        >>> error_line(PermissionError(13, "Permission denied", "runs"))
        'Permission denied: runs'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if isinstance(error, DelineateError):
        if "Original Traceback" not in str(error):
            return " ".join(lines)
        return lines[-1].removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")  # from a reading process
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    what = f"{type(error).__name__}: {lines[0]}".removesuffix(": ").removesuffix(".")
    return f"{what}. This was not foreseen; --debug shows where it happened."


if __name__ == "__main__":
    main()

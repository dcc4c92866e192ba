"""``delineate train`` and ``delineate evaluate``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from delineate.cli.refinement import CRF, HOLES, ISLANDS, SUPERPIXELS, TTA

if TYPE_CHECKING:
    from delineate.engine.evaluation import Evaluation
    from delineate.engine.object_evaluation import ObjectEvaluation
    from delineate.engine.run import Run

SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a value of the recipe: trainer.max_epochs=10. May repeat.")
]


def train_command(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe (YAML file), or the name of a model. Not needed with --resume.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The data set's folder, or digits.")] = None,
    settings: SetOption = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue this run, to the same weights as if it never stopped.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/<data>-<model> when left out.")] = None,
    devices: Annotated[int, typer.Option(help="How many GPUs, or CPU processes, train together.")] = 1,
    report: Annotated[
        bool, typer.Option(help="Evaluate on the validation split and write report.html at the end.")
    ] = True,
) -> None:
    """Train a model on a data set, then evaluate it and write a report.

    A run's folder keeps everything: the recipe with every default, weights,
    checkpoints, learning curves and the report. Stopped by Ctrl-C, SIGTERM
    or a power cut, it goes on with --resume.

      [bold]delineate train unet --data PATH --set model.encoder=resnet34[/bold]
    """
    from delineate.engine.training import train

    if recipe is None and resume is None:
        raise typer.BadParameter("give a recipe or a model's name, or --resume RUN", param_hint="RECIPE")
    run = train(recipe, data=data, settings=settings or (), resume=resume, out=out, devices=devices)
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return
    typer.echo(f"run: {run.path}")
    if report and _has_validation(run):
        _evaluate(run, data=None, split=None, out=None)
    typer.echo(f"use it: delineate predict {run.path} IMAGES --out predictions")


def evaluate_command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[str | None, typer.Option(help="The data set; the run's own when left out.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split; the run's validation split when left out.")] = None,
    boundary: Annotated[bool, typer.Option(help="Also score boundaries (boundary F1).")] = True,
    cells: Annotated[
        str,
        typer.Option(
            metavar="CLASS",
            help="Also score how well images are cut into regions of this class, such as cells between membranes.",
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of metrics.json and report.html; the run's own for its validation split, "
            "evaluations/<data>-<split>... inside it for any other data, split or refinement."
        ),
    ] = None,
    tta: TTA = "",
    crf: CRF = "",
    superpixels: SUPERPIXELS = "",
    islands: ISLANDS = 0,
    holes: HOLES = 0,
    most: Annotated[
        int | None, typer.Option(help="Objects: the most of an image; the model's own when left out.")
    ] = None,
) -> None:
    """Score a run on a data set: a table, metrics.json and a self-contained report.html."""
    from delineate.engine.run import open_run

    refinement = {"tta": tta, "crf": crf, "superpixels": superpixels, "islands": islands, "holes": holes}
    chosen: dict[str, Any] = {name: value for name, value in refinement.items() if value}
    if cells:
        chosen["cells"] = cells
    if not boundary:
        chosen["boundary"] = False
    if most is not None:
        chosen["most"] = most
    _evaluate(open_run(run), data=data, split=split, out=out, **chosen)


def _has_validation(run: Run) -> bool:
    return bool(run.read_environment()["sessions"][-1]["val_images"])


def _evaluate(run: Run, *, data: str | None, split: str | None, out: Path | None, **options: Any) -> None:
    """Measure, print the table, write metrics.json and the report."""
    from delineate.engine.object_evaluation import ObjectEvaluation
    from delineate.progress import progress_bar
    from delineate.report.runs import report_folder, report_run

    folder = out or report_folder(run, data=data, split=split, **options)
    with progress_bar("evaluating") as progress:
        evaluation = report_run(run, data=data, split=split, out=folder, progress=progress, **options)
    if isinstance(evaluation, ObjectEvaluation):
        _print_objects(evaluation)
    else:
        _print_labels(evaluation, cells=options.get("cells", ""))
    typer.echo(f"metrics: {folder / run.metrics.name}")
    typer.echo(f"report: {folder / run.report.name}")


def _print_labels(evaluation: Evaluation, *, cells: str) -> None:
    """A row a class, and the headlines."""
    from delineate.cli.tables import counted, print_table
    from delineate.report.semantic import cells_in_words

    scores = evaluation.scores
    boundary = ["boundary_f1"] if "boundary_f1" in scores else []
    columns = ["class", "IoU", "Dice", "precision", "recall", *(["boundary F1"] if boundary else []), "pixels"]
    keys = ["iou", "dice", "precision", "recall", *boundary]
    rows = [[name, *(own[key] for key in keys), int(own["pixels"])] for name, own in scores["per_class"].items()]
    print_table(
        columns, rows, title=f"{evaluation.data} / {evaluation.split}: {counted(len(evaluation.images), 'image')}"
    )
    names = ["miou", "pixel_accuracy", "mean_accuracy", "fwiou", "mean_dice", *boundary]
    typer.echo("  ".join(f"{name} {scores[name]:.4f}" for name in names))
    if cells:
        typer.echo(f"cells of '{cells}': {cells_in_words(scores['cells'])}")


def _print_objects(evaluation: ObjectEvaluation) -> None:
    """A row a class, why precision is lost, and the headlines."""
    from delineate.cli.tables import counted, print_table
    from delineate.report.figures import class_rows, error_rows

    score = evaluation.as_score("")
    columns, rows = class_rows(score)
    print_table(columns, rows, title=f"{score.ground_truth}: {counted(len(evaluation.images), 'image')}")
    print_table(("error", "count", "AP lost", "what it is"), error_rows(score), title="\nWhy precision is lost")
    # of joints recall is counted among 20 objects of an image, as COCO does, else among 100
    names = [name for name in ("ap", "ap50", "ap75", "ar100", "ar20") if name in evaluation.scores]
    typer.echo("  ".join(f"{name} {evaluation.scores[name]:.4f}" for name in names))

"""``delineate data``: look at a data set before training on it, and write it in another format."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from delineate.data.object_statistics import ObjectStatistics
    from delineate.data.statistics import DatasetStatistics

app = typer.Typer(
    no_args_is_help=True,
    help="Look at a data set before training on it, or convert it: check, stats, anchors, convert.",
)

PathArgument = Annotated[str, typer.Argument(help="A data set's folder, one COCO JSON file, or digits.")]
SourceArgument = Annotated[str, typer.Argument(help="A folder of objects, or one COCO JSON file.")]
ObjectsArgument = Annotated[str, typer.Argument(help="A folder of objects, one COCO JSON file, or digits.")]
FormatOption = Annotated[str, typer.Option("--format", help="The layout, when it should not be recognised by itself.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Task(StrEnum):
    """What a folder is read as."""

    AUTO = "auto"
    SEMANTIC = "semantic"
    OBJECTS = "objects"


class Fit(StrEnum):
    """How an image gets the size of a network's input."""

    STRETCH = "stretch"
    LETTERBOX = "letterbox"


class Images(StrEnum):
    """How pictures get into a new folder."""

    COPY = "copy"
    LINK = "link"


TaskOption = Annotated[
    Task, typer.Option("--task", help="Label maps or objects; auto takes label maps where a folder has both.")
]


@app.command("check")
def check_command(
    path: PathArgument,
    format: FormatOption = "auto",
    task: TaskOption = Task.AUTO,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
) -> None:
    """Find what would go wrong in training; exit status 1 when something would break it.

    Errors: missing pairs, unreadable or truncated files, size mismatches, ids outside the taxonomy, the same image in
    two splits; of objects, boxes without area or outside their image, numbers that are not finite, empty outlines,
    unknown categories. Warnings: empty masks, boxes that repeat, near-duplicates across splits, class balance.
    """
    from delineate.cli.tables import print_table
    from delineate.data.doctor import check_dataset
    from delineate.data.objects.doctor import check_objects
    from delineate.data.objects.folder_task import folder_task
    from delineate.files import write_text
    from delineate.progress import progress_bar

    chosen = folder_task(path, task=task.value, format=format)
    with progress_bar("checking") as progress:
        check = check_objects if chosen.task == "objects" else check_dataset
        report = check(path, format, progress=progress)
    text = json.dumps(report.to_dict(), indent=2)
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        if report.problems:
            print_table(report.columns, report.table())
        typer.echo(report.summary())
    _note(chosen.note)
    raise typer.Exit(0 if report.ok else 1)


@app.command("stats")
def stats_command(
    path: PathArgument,
    format: FormatOption = "auto",
    task: TaskOption = Task.AUTO,
    split: Annotated[str, typer.Option(help="Which split to count.")] = "train",
    as_json: JsonOption = False,
    plot: Annotated[Path | None, typer.Option(help="Draw what was counted to this PNG.")] = None,
) -> None:
    """Count images, pixels and classes, with the class weights that follow; or objects, their sizes and shapes."""
    from delineate.cli.tables import counted, print_table
    from delineate.data.objects.folder_task import folder_task
    from delineate.progress import progress_bar

    chosen = folder_task(path, task=task.value, format=format)
    if chosen.task == "objects":
        from delineate.data.object_statistics import object_statistics
        from delineate.data.objects.split_truth import split_truth

        truth = split_truth(path, split, format)
        statistics: ObjectStatistics | DatasetStatistics
        statistics = object_statistics(truth.annotations, name=truth.name, split=split)
        name, images = truth.name, statistics.images
        _note(f"{counted(truth.left_out, 'problem')} left something out; see delineate data check", truth.left_out)
    else:
        from delineate.data.opening import open_dataset
        from delineate.data.statistics import dataset_statistics

        dataset = open_dataset(path, split=split, format=format)
        with progress_bar("counting") as progress:
            statistics = dataset_statistics(dataset, progress=progress)
        name, images = dataset.name, len(dataset)
    if plot is not None:
        statistics.plot(plot)
    _note(chosen.note)
    if as_json:
        typer.echo(json.dumps(statistics.to_dict(), indent=2))
        return
    print_table(statistics.columns, statistics.rows(), title=f"{name} / {split}: {counted(images, 'image')}")
    typer.echo(statistics.summary())
    if plot is not None:
        typer.echo(f"plot: {plot}")


@app.command("anchors")
def anchors_command(
    path: ObjectsArgument,
    format: FormatOption = "auto",
    split: Annotated[str, typer.Option(help="Whose boxes to take.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="How many priors to print for a recipe.")] = 5,
    most: Annotated[int, typer.Option(min=1, help="Up to how many the table goes.")] = 9,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width of the network's input.")] = (416, 416),
    stride: Annotated[int, typer.Option(min=1, help="Pixels of the unit: 32 for YOLOv2's cells, 1 for pixels.")] = 32,
    fit: Annotated[Fit, typer.Option(help="Whether images are stretched to the input or keep their aspect.")] = (
        Fit.STRETCH
    ),
    seed: Annotated[int, typer.Option(help="Of the starts.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Find box sizes for a detector's anchors by k-means, and how well each number of them fits the boxes."""
    from delineate.cli.tables import print_table
    from delineate.data.anchor_priors import box_sizes, describe_priors, letterboxed_box_sizes
    from delineate.data.anchor_search import priors_by_count, priors_to_dict, recipe_lines
    from delineate.data.objects.split_truth import split_truth

    measure = letterboxed_box_sizes if fit is Fit.LETTERBOX else box_sizes
    sizes = measure(split_truth(path, split, format).annotations, size, stride=stride)
    found = priors_by_count(sizes, max(most, count), seed=seed)
    chosen = found[min(count, len(found)) - 1]
    if as_json:
        typer.echo(json.dumps([priors_to_dict(priors) for priors in found], indent=2))
        return
    print_table(("priors", "mean best IoU %"), [[len(priors.sizes), 100 * priors.mean_iou] for priors in found])
    typer.echo(describe_priors(chosen, input_size=size, stride=stride))
    typer.echo(f"\n{recipe_lines(chosen)}")


@app.command("convert")
def convert_command(
    path: SourceArgument,
    to: Annotated[str, typer.Option("--to", help="coco, voc, yolo, labelme or instance-maps.")],
    out: Annotated[Path, typer.Option(help="The folder to write; new, or empty.")],
    format: FormatOption = "auto",
    images: Annotated[Images, typer.Option(help="Copy the images, or link them where the disk can.")] = Images.COPY,
    boxes_only: Annotated[bool, typer.Option("--boxes-only", help="Leave masks and keypoints out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier conversion wrote there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a data set of objects in another format, whole or not at all, and say what is lost."""
    from delineate.data.objects.conversion import convert_objects
    from delineate.progress import progress_bar

    with progress_bar("converting") as progress:
        conversion = convert_objects(
            path,
            out,
            to=to,
            format=format,
            columns=["boxes"] if boxes_only else None,
            images=images.value,
            replace_existing=force,
            progress=progress,
        )
    typer.echo(json.dumps(conversion.to_dict(), indent=2) if as_json else conversion.summary())


def _note(text: str, count: int = 1) -> None:
    """What is said beside the result, so that the result stays alone on standard output."""
    if text and count:
        typer.echo(f"note: {text}", err=True)

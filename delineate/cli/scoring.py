"""``delineate score``: files of truth and predictions in, the numbers of the field out."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from delineate.errors import ArgumentError

COCO = "COCO tasks (boxes, masks, keypoints)"


def score_command(
    ground_truth: Annotated[
        Path,
        typer.Argument(help="What is true: COCO JSON, a VOC or YOLO folder, panoptic JSON, a folder of maps."),
    ],
    predictions: Annotated[
        Path,
        typer.Argument(
            help="What was predicted: COCO results JSON, .jsonl, .npz shards, text files, a folder of maps."
        ),
    ],
    task: Annotated[
        str,
        typer.Option(
            "--task",
            "-t",
            help="boxes, masks, keypoints, voc, panoptic, semantic, saliency or localisation.",
            show_default=False,
        ),
    ],
    json: Annotated[Path | None, typer.Option("--json", help="Write every figure to this JSON file.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a report with curves and bars to this file.")
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also print a row for each class.")] = False,
    images: Annotated[
        Path | None, typer.Option("--images", help="The pictures' folder: the report draws the worst mistakes.")
    ] = None,
    iou: Annotated[
        str | None,
        typer.Option(
            "--iou", help="Overlap thresholds: 0.5 or 0.5,0.75 or 0.5:0.95:0.05 (COCO's).", rich_help_panel=COCO
        ),
    ] = None,
    max_detections: Annotated[
        str | None,
        typer.Option("--max-detections", help="Limits per image and class: 1,10,100 (COCO's).", rich_help_panel=COCO),
    ] = None,
    areas: Annotated[
        str | None,
        typer.Option(
            "--areas",
            help="Area ranges in pixels: all=0:1e10,small=0:1024. The first is the main one.",
            rich_help_panel=COCO,
        ),
    ] = None,
    sigmas: Annotated[
        str | None,
        typer.Option("--sigmas", help="Of the keypoints, a number each: 0.026,0.025,...", rich_help_panel=COCO),
    ] = None,
    boundary: Annotated[
        bool, typer.Option("--boundary", help="Boundary AP of masks; boundary F1 of label maps.", rich_help_panel=COCO)
    ] = False,
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Take all classes as one.", rich_help_panel=COCO)
    ] = False,
    errors: Annotated[
        bool,
        typer.Option("--errors", help="Why precision is lost, calibration, best thresholds.", rich_help_panel=COCO),
    ] = False,
    exclusive_pixels: Annotated[
        bool,
        typer.Option(
            "--exclusive-pixels",
            help="A box is xmax - xmin wide, not one more as in VOC's files.",
            rich_help_panel="Other tasks",
        ),
    ] = False,
    classes: Annotated[
        Path | None,
        typer.Option(help="A class list, for label maps without one beside them.", rich_help_panel="Other tasks"),
    ] = None,
    ignore_index: Annotated[
        int | None, typer.Option(help="An id of true label maps that does not count.", rich_help_panel="Other tasks")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Pixels around a box in which a map's peak is a hit: 18.", rich_help_panel="Other tasks"),
    ] = None,
    truth_folder: Annotated[
        Path | None, typer.Option(help="True panoptic PNGs, when not beside the JSON.", rich_help_panel="Other tasks")
    ] = None,
    prediction_folder: Annotated[
        Path | None,
        typer.Option(help="Predicted panoptic PNGs, when not beside the JSON.", rich_help_panel="Other tasks"),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of a VOC root: the images that ImageSets/Main lists, val say.", rich_help_panel="Formats"),
    ] = None,
    truth_format: Annotated[
        str | None,
        typer.Option(help="coco, voc, yolo or instance-maps, when not recognised.", rich_help_panel="Formats"),
    ] = None,
    prediction_format: Annotated[
        str | None,
        typer.Option(
            help="coco, json-lines, shards, voc, yolo, instance-maps, text-xyxy, text-xywh or text-relative.",
            rich_help_panel="Formats",
        ),
    ] = None,
) -> None:
    """Score predictions against the truth, with or without a model of ours.

    The figures equal those of the field's reference tools (pycocotools,
    the VOC kit, panopticapi, PySODMetrics); docs/evaluation.md says what
    equals what. Undefined figures are n/a, and null in JSON.

      [bold]delineate score --task boxes instances_val.json results.json[/bold]

      [bold]delineate score --task masks instances_val.json results.json --html report.html --images val2017/[/bold]

      [bold]delineate score --task semantic masks/ predictions/ --per-class[/bold]
    """
    from delineate.cli.tables import print_table
    from delineate.engine.scoring import measure_files
    from delineate.progress import progress_bar
    from delineate.report.figures import class_rows, error_rows, figure_rows

    if images is not None and html is None:
        raise ArgumentError(f"--images must come with --html, whose report draws upon them; got {images} alone.")
    if images is not None and not images.is_dir():
        raise ArgumentError(f"--images must be a folder of pictures; got {images}. Check the name.")
    for option, file in (("--json", json), ("--html", html)):
        if file is not None:
            check_destination(option, file)
            if any(
                source.exists() and file.exists() and file.samefile(source) for source in (ground_truth, predictions)
            ):
                raise ArgumentError(f"{option} must be another file than what is read; got {file}.")
    given: dict[str, Any] = {
        "iou_thresholds": None if iou is None else parsed_numbers("--iou", iou),
        "max_detections": None if max_detections is None else parsed_counts("--max-detections", max_detections),
        "area_ranges": None if areas is None else parsed_ranges("--areas", areas),
        "sigmas": None if sigmas is None else parsed_numbers("--sigmas", sigmas),
        "boundary": boundary or None,
        "class_agnostic": class_agnostic or None,
        "errors": errors or None,
        "inclusive_pixels": False if exclusive_pixels else None,
        "classes": classes,
        "ignore_index": ignore_index,
        "tolerance": tolerance,
        "truth_folder": truth_folder,
        "prediction_folder": prediction_folder,
        "split": split,
        "truth_format": truth_format,
        "prediction_format": prediction_format,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if html is not None and task == "masks":
        options["keep_masks"] = True  # to draw them
    with progress_bar("scoring", after=2.0) as progress:
        result = measure_files(task, ground_truth, predictions, progress=progress, **options)
    print_table(("figure", "value", "what it is"), figure_rows(result))
    if "errors" in result.scores:
        print_table(("error", "count", "AP lost", "what it is"), error_rows(result), title="\nWhy precision is lost")
    if per_class:
        columns, rows = class_rows(result)
        if rows:
            print_table(columns, rows, title="\nClasses")
        else:
            typer.echo(f"--per-class: the figures of the task {task} are not told by class.", err=True)
    if json is not None:
        result.write(json)
        typer.echo(f"figures: {json}")
    if html is not None:
        from delineate.report.scores import write_score_report

        with progress_bar("drawing", after=2.0):
            write_score_report(html, result, images=images)
        typer.echo(f"report: {html}")


def check_destination(option: str, file: Path) -> None:
    """Raise ArgumentError, before any work is done, unless a file can be written there.

    Its folder need not exist yet, but some folder above it must, and may not be a file.
    """
    if file.is_dir():
        raise ArgumentError(f"{option} must be a file; got the folder {file}. Add a name to it.")
    folder = file.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise ArgumentError(f"{option} must be in a folder that exists or can be made; got {file}: {folder} is a file.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ArgumentError(f"{option} must be in a folder that can be written to; got {file}.")


def parsed_numbers(option: str, text: str) -> list[float]:
    """Numbers with commas between them, or first:last:step with the last one inside.

    The steps are NumPy's ``linspace``, so that 0.5:0.95:0.05 are COCO's own thresholds to the last bit.

    Example:
        >>> parsed_numbers("--iou", "0.5:0.6:0.05"), parsed_numbers("--iou", "0.5,0.75")
        ([0.5, 0.55, 0.6], [0.5, 0.75])
    """
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        first, last, step = (float(part) for part in text.split(":"))
        count = math.floor((last - first) / step + 1e-9)
        if step <= 0 or not 0 <= count < 10_000:
            raise ValueError
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ArgumentError(f"{option} must be numbers like 0.5,0.75 or 0.5:0.95:0.05; got '{text}'.") from None
    import numpy as np

    end = first + count * step
    steps: list[float] = np.linspace(first, last if abs(end - last) < 1e-9 else end, count + 1).tolist()
    return steps


def parsed_counts(option: str, text: str) -> list[int]:
    """Whole numbers with commas between them.

    Example:
        >>> parsed_counts("--max-detections", "1,10,100")
        [1, 10, 100]
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(f"{option} must be whole numbers like 1,10,100; got '{text}'.") from None


def parsed_ranges(option: str, text: str) -> dict[str, tuple[float, float]]:
    """Named ranges with commas between them.

    Example:
        >>> parsed_ranges("--areas", "all=0:1e10,tiny=0:256")
        {'all': (0.0, 10000000000.0), 'tiny': (0.0, 256.0)}
    """
    try:
        parts = [part.split("=") for part in text.split(",")]
        names = [name.strip() for name, _ in parts]
        limits = [limits.split(":") for _, limits in parts]
        ranges = {name: (float(low), float(high)) for name, (low, high) in zip(names, limits, strict=True)}
    except ValueError:
        raise ArgumentError(f"{option} must be ranges like all=0:1e10,small=0:1024; got '{text}'.") from None
    if len(ranges) < len(names):
        raise ArgumentError(f"{option} must name each range once; got {', '.join(names)}.")
    return ranges

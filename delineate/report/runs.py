"""The report of a run, whatever its task: scores on a data set, written as numbers and as a page."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from delineate.engine.evaluation import Evaluation
from delineate.engine.predictors import load
from delineate.engine.recipe import build_recipe, read_recipe
from delineate.engine.run import Run, open_run
from delineate.engine.stages import final_recipe
from delineate.engine.tasks import LEARNT
from delineate.errors import ArgumentError
from delineate.postprocess.refinement import DEFAULT, Refine
from delineate.registry import Registry
from delineate.report.objects import report_objects
from delineate.report.reported import ReportedRun
from delineate.report.run_facts import data_name
from delineate.report.semantic import report_labels, step_fact

REPORTS: Registry[Callable[..., Evaluation]] = Registry(
    "task",
    {
        "semantic": report_labels,
        "detection": report_objects,
        "instances": report_objects,
        "keypoints": report_objects,
    },
)


ALSO_MEASURED = ("boundary", "cells")
"""Options that add figures, and change none."""


def report_run(
    run: Run | str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a run, write ``metrics.json`` and ``report.html``, and return the scores.

    Args:
        run: the run or its folder.
        data: a data set's folder; the run's own when left out.
        split: of the data; the run's validation split when left out.
        out: the folder of both files, made where it is missing; :func:`report_folder` when left out.
        progress: called with (images done, images in all).
        options: of :func:`~delineate.report.semantic.report_labels` or
            :func:`~delineate.report.objects.report_objects`, as the run's task is.

    Raises:
        RunError: when the folder is no run or has no weights yet.
        DataError: when the data cannot be read or has other classes.
        ArgumentError: when an option is not one of the task, or has another form.
        UnknownNameError: when an option names what is not known; says the nearest.
    """
    run = run if isinstance(run, Run) else open_run(run)
    whole = build_recipe(read_recipe(run.recipe))
    recipe = final_recipe(whole)
    report = REPORTS[recipe.task]
    known = task_options(recipe.task)
    for option, value in options.items():
        if option not in known and value:
            listed = ", ".join(known)
            raise ArgumentError(f"option must be one of the task {recipe.task} ({listed}); got '{option}'.")
    options = {option: value for option, value in options.items() if option in known}
    predictor = load(run.path)
    if data is None:
        asked = recipe
    else:
        read = msgspec.structs.replace(recipe.data, path=str(data), classes=None, format="auto")
        asked = msgspec.structs.replace(recipe, data=read)
    dataset = LEARNT[recipe.task].open_split(asked, split or recipe.data.val_split)
    folder = report_folder(run, data=data, split=split, **options) if out is None else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    reported = ReportedRun(run, whole, recipe, predictor, dataset, folder, data, progress)
    return report(reported, **options)


def task_options(task: str) -> tuple[str, ...]:
    """What the report of a task takes besides what all of them take.

    Example:
        >>> task_options("detection")
        ('score_threshold', 'iou_threshold', 'most')
    """
    parameters = inspect.signature(REPORTS[task]).parameters.values()
    named = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return tuple(named)


def report_folder(
    run: Run,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    **refinement: Any,
) -> Path:
    """Where the report of an evaluation goes when nobody says: a run's own scores are not overwritten by others.

    Returns:
        The run's folder for its own validation split; ``evaluations/<data>-<split>`` inside it for anything else, with
        the refinement behind it.
    """
    refinement = {option: value for option, value in refinement.items() if option not in ALSO_MEASURED}
    own = final_recipe(build_recipe(read_recipe(run.recipe))).data
    if data is None and split in (None, own.val_split) and all(value in (None, "", 0) for value in refinement.values()):
        return run.path
    named = [data_name(own, data), split or own.val_split, *refinement.get("tta", "").replace(" ", "").split(",")]
    if crf := refinement.get("crf"):
        named += ["crf", _file_name(crf)]
    if superpixels := refinement.get("superpixels"):
        named += ["superpixels", _file_name(superpixels)]
    if islands := refinement.get("islands"):
        named += ["islands", str(islands)]
    if holes := refinement.get("holes"):
        named += ["holes", str(holes)]
    for option in ("score_threshold", "iou_threshold", "most"):
        if (value := refinement.get(option)) is not None:
            named += [option.replace("_", "-"), f"{value:g}"]
    return run.path / "evaluations" / "-".join(part for part in named if part)


def _file_name(step: str | Refine) -> str:
    """What a step adds to a folder's name: nothing by default, a file's stem, or its parameters."""
    text = (step if isinstance(step, str) else step_fact(step)[1]).strip()
    if text.lower().endswith(".json"):
        return Path(text).stem.removeprefix("crf").strip("-")
    return "" if text.lower() == DEFAULT else re.sub(r"[^\w.]+", "-", text)

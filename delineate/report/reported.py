"""A run that is being reported on: what every task's report is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delineate.engine.recipe import Recipe
from delineate.engine.run import Run


@dataclass(frozen=True)
class ReportedRun:
    """A run, on data, on its way to a folder.

    Args:
        run: the run.
        whole: its recipe.
        recipe: of its last stage.
        predictor: on its weights, of its task.
        dataset: what it is measured on, opened.
        folder: where files go.
        data: the data set's folder where it is not the run's own.
        progress: called with (images done, images in all).
    """

    run: Run
    whole: Recipe
    recipe: Recipe
    predictor: Any
    dataset: Any
    folder: Path
    data: str | Path | None = None
    progress: Callable[[int, int], None] | None = None

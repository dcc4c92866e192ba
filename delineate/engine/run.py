"""The folder a training run leaves, and what is still missing from it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from delineate.errors import RunError
from delineate.machine import processor_name

# set by the first process of a run, so that the processes it starts find the same folder
RUN_VARIABLE = "DELINEATE_RUN"

_LIBRARIES = ("delineate", "torch", "torchvision", "timm", "lightning", "torchmetrics", "numba", "numpy", "pillow")


@dataclass(frozen=True)
class Run:
    """A run folder: ``recipe.yaml``, weights, checkpoints, scores and the report.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The complete, re-runnable recipe."""
        return self.path / "recipe.yaml"

    @property
    def weights(self) -> Path:
        """The weights a Predictor loads; ``model.json`` beside it says what they belong to."""
        return self.path / "model.safetensors"

    @property
    def last_checkpoint(self) -> Path:
        """Where training resumes from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The state with the best validation score."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def curves(self) -> Path:
        """One row an epoch: losses, learning rate, validation scores."""
        return self.path / "metrics.csv"

    @property
    def metrics(self) -> Path:
        """The validation scores of the saved weights."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The page a person looks at."""
        return self.path / "report.html"

    @property
    def environment(self) -> Path:
        """Versions, seed, hardware and revision the run was made with."""
        return self.path / "environment.json"

    def missing(self) -> list[str]:
        """The files a finished run has and this one has not; empty when it is complete."""
        wanted = (self.recipe, self.weights, self.weights.with_suffix(".json"), self.last_checkpoint, self.curves)
        return [str(file.relative_to(self.path)) for file in (*wanted, self.environment) if not file.is_file()]

    def read_environment(self) -> dict[str, Any]:
        """The content of ``environment.json``, or an empty dict where there is none."""
        return json.loads(self.environment.read_text(encoding="utf-8")) if self.environment.is_file() else {}

    def read_metrics(self) -> dict[str, Any]:
        """The scores in ``metrics.json``; what is undefined is NaN.

        Raises:
            RunError: when the run was not evaluated.
        """
        if not self.metrics.is_file():
            raise RunError(
                f"run must be evaluated; got '{self.path}' without metrics.json. Run: delineate evaluate {self.path}"
            )
        restored: dict[str, Any] = _with_nan(json.loads(self.metrics.read_text(encoding="utf-8")))
        return restored

    def read_curves(self) -> dict[str, list[tuple[float, float]]]:
        """The learning curves: name to (epoch, value) points; an epoch without a value has no point."""
        if not self.curves.is_file():
            return {}
        header, *rows = self.curves.read_text(encoding="utf-8").splitlines()
        names = header.split(",")
        curves: dict[str, list[tuple[float, float]]] = {name: [] for name in names[2:]}
        for row in rows:
            cells = row.split(",")
            for name, cell in zip(names[2:], cells[2:], strict=True):
                if cell:
                    curves[name].append((float(cells[0]), float(cell)))
        return curves


def open_run(path: str | Path) -> Run:
    """The run in an existing folder.

    Raises:
        RunError: when the folder holds no recipe, so it is not a run.
    """
    run = Run(Path(path))
    if not run.recipe.is_file():
        raise RunError(f"run must be a folder that training made; got '{path}', which holds no recipe.yaml.")
    return run


def new_run(name: str, out: str | Path | None = None) -> Run:
    """A fresh run folder: ``out``, or ``runs/<name>`` with a number behind it when that is taken.

    Raises:
        RunError: when ``out`` already holds weights or a checkpoint, so nothing that cost time is overwritten.
    """
    inherited = os.environ.get(RUN_VARIABLE)
    if inherited and int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return Run(Path(inherited))
    if out is not None:
        folder = Path(out)
        found = Run(folder)
        kept = next((file for file in (found.weights, found.last_checkpoint) if file.exists()), None)
        failed = found.environment.exists() and kept is None  # a run that stopped before its first checkpoint
        if found.recipe.exists() and not failed:
            raise RunError(
                f"out must be a folder without a run; got '{out}'. Choose another, or continue it with --resume {out}"
            )
        if kept is not None or (folder.exists() and not folder.is_dir()):
            what = "which is a file" if kept is None else f"which holds '{kept.relative_to(folder)}'"
            raise RunError(f"out must be a folder without weights; got '{out}', {what}. Choose another.")
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = _first_free(Path("runs"), name)
    os.environ[RUN_VARIABLE] = str(folder.resolve())
    return Run(folder)


def _first_free(parent: Path, name: str) -> Path:
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def environment_facts(**more: Any) -> dict[str, Any]:
    """Versions, hardware and time, as plain values; ``more`` is added."""
    facts: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": " ".join(sys.argv),
        "revision": _revision(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }
    return facts | more


def _with_nan(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _with_nan(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_with_nan(value) for value in values]
    return float("nan") if values is None else values


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None

"""Small folders and one trained run that the commands work on, and a way to type a command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from delineate.cli.main import app
from delineate.engine.run import Run
from delineate.engine.training import train

SIZE = (24, 32)


def write_halves(root: Path, *, train: int = 4, val: int = 3) -> Path:
    """Images of two colours side by side, with masks 0 left and 1 right."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            labels = np.zeros(SIZE, np.uint8)
            labels[:, int(random.integers(8, 24)) :] = 1
            pixels = random.integers(0, 60, (*SIZE, 3)) + labels[..., None] * random.integers(80, 180, 3)
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / "images" / f"{split}{number}.png")
            Image.fromarray(labels).save(root / split / "masks" / f"{split}{number}.png")
    (root / "classes.txt").write_text("road\ntree\n")
    return root


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    return write_halves(tmp_path / "halves")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """ENet after one step; for reading only."""
    folder = tmp_path_factory.mktemp("cli")
    recipe = {
        "model": {"name": "enet"},
        "data": {"path": str(write_halves(folder / "halves")), "batch_size": 4, "workers": 0},
        "augmentation": {"preset": "none", "crop": [16, 16]},
        "trainer": {"max_epochs": 1, "threads": 1, "precision": "float32"},
    }
    return train(recipe, out=folder / "run", progress=False)


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Types a command in an empty folder: ``result.output`` was printed, ``result.exception`` was raised."""
    (tmp_path / "desk").mkdir()
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest's workers inherit the width of somebody's terminal
    monkeypatch.chdir(tmp_path / "desk")
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Types a command in a process of its own, as a person does."""

    def run(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "delineate", *map(str, words)]
        root = str(Path(__file__).parents[2])
        environment = os.environ | {"PYTHONPATH": root} | variables
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    return run

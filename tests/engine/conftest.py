"""A folder of a dozen tiny images with coloured squares, and a recipe that trains on it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delineate.engine.predictors import load
from delineate.engine.run import Run
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.training import train


def write_squares(root: Path, *, train: int = 12, val: int = 5, size: int = 32) -> Path:
    """Images of a bright square of one of two colours on noise, with masks: 0 nothing, 1 red, 2 green."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 90, (size, size, 3), dtype=np.uint8)
            labels = np.zeros((size, size), np.uint8)
            top, left = random.integers(0, size // 2, 2)
            kind = 1 + number % 2
            pixels[top : top + size // 2, left : left + size // 2, kind - 1] = 220
            labels[top : top + size // 2, left : left + size // 2] = kind
            Image.fromarray(pixels).save(root / split / "images" / f"{split}{number:02}.png")
            Image.fromarray(labels).save(root / split / "masks" / f"{split}{number:02}.png")
    (root / "classes.txt").write_text("nothing\nred\ngreen\n")
    return root


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Three steps an epoch, three epochs; dropout, augmentation, average and schedule all at work."""
    return {
        "model": {"name": "enet"},
        "data": {"batch_size": 4, "workers": 0, "val_batch_size": 2},
        "augmentation": {"preset": "medium", "crop": [32, 32]},
        "optimizer": {"lr": 0.003},
        "trainer": {"max_epochs": 3, "ema_decay": 0.9, "threads": 1, "precision": "float32"},
    }


@pytest.fixture(scope="session")
def tiny_run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """ENet after two epochs of three steps, with an average of its weights; for reading only."""
    recipe = {
        "model": {"name": "enet"},
        "data": {"batch_size": 4, "workers": 0, "val_batch_size": 2, "path": str(squares)},
        "augmentation": {"preset": "light", "crop": [32, 32]},
        "optimizer": {"lr": 0.003},
        "trainer": {"max_epochs": 2, "ema_decay": 0.9, "threads": 1, "precision": "float32"},
    }
    return train(recipe, out=tmp_path_factory.mktemp("runs") / "tiny", progress=False)


@pytest.fixture(scope="session")
def tiny_predictor(tiny_run: Run) -> SemanticPredictor:
    return load(tiny_run.path, precision="float32")

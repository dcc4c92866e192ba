"""The whole way on built-in scenes: train, evaluate, predict, report. ``make demo`` runs it; no data set is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

import delineate as dl

ROOT = Path(__file__).resolve().parents[1]


def delineate(*arguments: str | Path) -> None:
    """Run one command the way a person would, showing it first."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ delineate {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "delineate", *words], check=True)


def free_folder(parent: Path) -> Path:
    """A folder that is not there yet, so that an earlier demo is kept."""
    number = 1
    while (parent / f"demo-{number}").exists():
        number += 1
    return parent / f"demo-{number}"


def main(settings: tuple[str, ...] = (), out: Path | None = None) -> Path:
    """Train on the digits, predict some unseen scenes, and return the report's path."""
    run = out or free_folder(Path("runs"))
    changes = [word for setting in settings for word in ("--set", setting)]
    delineate("train", ROOT / "recipes" / "digits" / "unet.yaml", "--out", run, *changes)

    scenes = run / "scenes"
    scenes.mkdir()
    unseen = dl.open_dataset("digits", split="test")
    for index in range(6):
        image, _ = unseen.read(index)
        Image.fromarray(image).save(scenes / f"scene{index}.png")
    delineate("predict", run, scenes, "--out", run / "predictions")

    scores = dl.open_run(run).read_metrics()
    print(f"\nmean IoU on the validation scenes: {scores['miou']:.4f}")
    print(f"overlays to look at: {run / 'predictions' / 'overlays'}")
    print(f"report: {(run / 'report.html').resolve()}")
    return run / "report.html"


if __name__ == "__main__":
    main()

"""The whole way on built-in scenes: train, evaluate, predict, report. ``make demo`` runs it; no data set is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

import delineate as dl

ROOT = Path(__file__).resolve().parents[1]
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>delineate: a demo</title>
<style>body {{ font: 16px/1.5 system-ui; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
img {{ width: 31%; margin: 1%; image-rendering: pixelated }}</style>
<h1>Digits, found and outlined</h1>{parts}"""
PART = '<h2>{title}</h2><p>{score}. <a href="{report}">The report</a> says what went wrong, and where.</p><p>{pictures}'


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


def part(page: Path, run: Path, title: str, score: str) -> str:
    """A section of the page: pictures of unseen scenes, and the way to the report."""
    overlays = sorted((run / "predictions" / "overlays").iterdir())[:6]
    pictures = "".join(f'<img src="{overlay.relative_to(page.parent)}" alt="{overlay.stem}">' for overlay in overlays)
    report = (run / "report.html").relative_to(page.parent)
    return PART.format(title=title, score=score, report=report, pictures=pictures)


def main(settings: tuple[str, ...] = (), out: Path | None = None, detector: tuple[str, ...] = ()) -> Path:
    """Train a segmenter and a detector on the digits, predict some unseen scenes, and return the page's path."""
    run = out or free_folder(Path("runs"))
    runs = {"unet": (run, settings), "retinanet": (run / "detector", detector)}
    for recipe, (folder, changes) in runs.items():
        words = [word for setting in changes for word in ("--set", setting)]
        delineate("train", ROOT / "recipes" / "digits" / f"{recipe}.yaml", "--out", folder, *words)

    scenes = run / "scenes"
    scenes.mkdir()
    unseen = dl.open_dataset("digits", split="test")
    for index in range(6):
        image, _ = unseen.read(index)
        Image.fromarray(image).save(scenes / f"scene{index}.png")
    for recipe, (folder, _) in runs.items():
        surer = ("--score", "0.5") if recipe == "retinanet" else ()  # about where its report finds the best F1
        delineate("predict", folder, scenes, "--out", folder / "predictions", *surer)

    labels, objects = (dl.open_run(folder).read_metrics() for folder, _ in runs.values())
    told = f"mean IoU on the validation scenes: {labels['miou']:.4f}", f"AP50 of the boxes: {objects['ap50']:.4f}"
    titles = "Every pixel named: U-Net", "Every digit boxed: RetinaNet"
    page = run / "demo.html"
    parts = [
        part(page, folder, title, score) for (folder, _), title, score in zip(runs.values(), titles, told, strict=True)
    ]
    page.write_text(PAGE.format(parts="\n".join(parts)), encoding="utf-8")
    print("", *told, sep="\n")
    for folder, _ in runs.values():
        print(f"report: {(folder / 'report.html').resolve()}")
    print(f"all of it: {page.resolve()}")
    return page


if __name__ == "__main__":
    main()

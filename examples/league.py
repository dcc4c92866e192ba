"""A league of recipes: train each on the same data, score it, and print one table.

    python examples/league.py recipes/camvid/league/*.yaml --data camvid --out runs/league
    python examples/league.py recipes/bccd/league/*.yaml --data bccd --out runs/cells

Segmenters are scored a second time behind a dense CRF, whose parameters are searched on training images, never on those
that are scored. What is there already is not done again, so a league that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import delineate as dl
from delineate.engine.crf_search import CRFGrid, tune_crf
from delineate.engine.model_facts import model_facts
from delineate.engine.recipe import build_recipe, read_recipe

# weights from hardly any; the reach is that of a frame of 360 x 480
GRID = CRFGrid(
    bilateral_weight=(1, 3, 6), bilateral_sigma_xy=(40,), bilateral_sigma_rgb=(5, 10), gaussian_weight=(1, 3)
)
CROP = (192, 256)

SEGMENTERS = {"miou": "mIoU", "accuracy": "pixel accuracy", "boundary": "boundary F1"}
SEGMENTERS |= {"miou_crf": "mIoU, CRF", "boundary_crf": "boundary F1, CRF"}
DETECTORS = {"ap50": "AP50", "ap": "AP", "ap75": "AP75", "recall": "recall at IoU 0.5"}


def played(recipe: Path, data: str, out: Path) -> dl.Run:
    """The run of a recipe, trained and scored."""
    run = dl.open_run(out) if (out / "recipe.yaml").is_file() else None
    if run is None:
        run = dl.train(recipe, data=data, out=out)
    elif not run.weights.is_file():
        run = dl.train(resume=out)
    if not run.metrics.is_file():
        dl.report_run(run)
    return run


def costs(run: dl.Run, size: tuple[int, int]) -> dict[str, Any]:
    """What a network is and what training it took; of a two-stage detector the work up to its proposals."""
    card = json.loads((run.path / "model.json").read_text(encoding="utf-8"))["model"]
    facts = model_facts(card["name"], size=size, **card["options"])
    assert facts.multiply_adds is not None
    return {
        "network": card["name"],
        "parameters": facts.parameters / 1e6,
        "work": facts.multiply_adds / 1e9,
        "minutes": sum(session.get("seconds", 0.0) for session in run.read_environment()["sessions"]) / 60,
    }


def segmenter(run: dl.Run, images: int) -> dict[str, Any]:
    """One row: what a segmenter scores, and what a CRF makes of it."""
    crf = run.path / "crf.json"
    if not crf.is_file():
        tune_crf(run, split="train", grid=GRID, images=images, rounds=1, out=crf)
    refined = run.path / "evaluations" / "crf"
    if not (refined / "metrics.json").is_file():
        dl.report_run(run, crf=str(crf), out=refined)
    scores, behind = run.read_metrics(), json.loads((refined / "metrics.json").read_text(encoding="utf-8"))
    own = {"miou": scores["miou"], "accuracy": scores["pixel_accuracy"], "boundary": scores["boundary_f1"]}
    return costs(run, CROP) | own | {"miou_crf": behind["miou"], "boundary_crf": behind["boundary_f1"]}


def detector(run: dl.Run) -> dict[str, Any]:
    """One row: how well a detector's boxes are placed."""
    scores = run.read_metrics()
    size = tuple(build_recipe(read_recipe(run.recipe)).augmentation["size"])
    return costs(run, size) | {key: scores[key] for key in ("ap50", "ap", "ap75")} | {"recall": scores["ar_iou50"]}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, the best first by their first score."""
    columns = SEGMENTERS if "miou" in rows[0] else DETECTORS
    first = next(iter(columns))
    lines = [
        f"| network | parameters | an image | minutes | {' | '.join(columns.values())} |",
        "|---|" + "--:|" * (3 + len(columns)),
    ]
    for row in sorted(rows, key=lambda row: -row[first]):
        scores = " | ".join(f"{row[key]:.3f}" for key in columns)
        lines.append(
            f"| `{row['network']}` | {row['parameters']:.2f} M | {row['work']:.1f} GMAC | {row['minutes']:.1f} "
            f"| {scores} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Play the league of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path, help="all of segmenters, or all of detectors")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/league"))
    parser.add_argument("--images", type=int, default=24, help="training images that the CRF is searched on")
    given = parser.parse_args(arguments)
    semantic = {build_recipe(read_recipe(recipe)).task == "semantic" for recipe in given.recipes}
    if len(semantic) > 1:
        parser.error("recipes must be all of segmenters or all of detectors, whose scores can be compared")
    rows = []
    for recipe in given.recipes:
        run = played(recipe, given.data, given.out / recipe.stem)
        rows.append(segmenter(run, given.images) if True in semantic else detector(run))
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()

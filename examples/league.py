"""A league of recipes: train each on the same data, score it, score it again behind a dense CRF, and print one table.

    python examples/league.py recipes/camvid/league/*.yaml --data camvid --out runs/league

What is there already is not done again, so a league that was stopped goes on. The CRF's parameters are searched on
training images, never on those that are scored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import delineate as dl
from delineate.engine.crf_search import CRFGrid, tune_crf
from delineate.engine.model_facts import model_facts

# weights from hardly any; the reach is that of a frame of 360 x 480
GRID = CRFGrid(
    bilateral_weight=(1, 3, 6), bilateral_sigma_xy=(40,), bilateral_sigma_rgb=(5, 10), gaussian_weight=(1, 3)
)
CROP = (192, 256)


def entry(recipe: Path, data: str, out: Path, images: int) -> dict[str, Any]:
    """One row: what the recipe trained, what it scores, and what a CRF makes of it."""
    run = dl.open_run(out) if (out / "recipe.yaml").is_file() else None
    if run is None:
        run = dl.train(recipe, data=data, out=out)
    elif not run.weights.is_file():
        run = dl.train(resume=out)
    if not run.metrics.is_file():
        dl.report_run(run)
    if not (out / "crf.json").is_file():
        tune_crf(run, split="train", grid=GRID, images=images, rounds=1, out=out / "crf.json")
    refined = out / "evaluations" / "crf"
    if not (refined / "metrics.json").is_file():
        dl.report_run(run, crf=str(out / "crf.json"), out=refined)
    card = json.loads((out / "model.json").read_text(encoding="utf-8"))["model"]
    facts = model_facts(card["name"], size=CROP, **card["options"])
    scores, behind = run.read_metrics(), json.loads((refined / "metrics.json").read_text(encoding="utf-8"))
    assert facts.multiply_adds is not None
    return {
        "network": card["name"],
        "parameters": facts.parameters / 1e6,
        "work": facts.multiply_adds / 1e9,
        "minutes": sum(session.get("seconds", 0.0) for session in run.read_environment()["sessions"]) / 60,
        "miou": scores["miou"],
        "accuracy": scores["pixel_accuracy"],
        "boundary": scores["boundary_f1"],
        "miou_crf": behind["miou"],
        "boundary_crf": behind["boundary_f1"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, best first."""
    lines = [
        "| network | parameters | a crop | minutes "
        "| mIoU | pixel accuracy | boundary F1 | mIoU, CRF | boundary F1, CRF |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in sorted(rows, key=lambda row: -row["miou"]):
        lines.append(
            f"| `{row['network']}` | {row['parameters']:.2f} M | {row['work']:.1f} GMAC | {row['minutes']:.1f} "
            f"| {row['miou']:.3f} | {row['accuracy']:.3f} | {row['boundary']:.3f} "
            f"| {row['miou_crf']:.3f} | {row['boundary_crf']:.3f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Play the league of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/league"))
    parser.add_argument("--images", type=int, default=24, help="training images that the CRF is searched on")
    given = parser.parse_args(arguments)
    rows = []
    for recipe in given.recipes:
        rows.append(entry(recipe, given.data, given.out / recipe.stem, given.images))
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()

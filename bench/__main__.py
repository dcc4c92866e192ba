"""Every ratio in one run: ``make bench``, or ``python -m bench training_step confusion_matrix`` for some of them."""

from __future__ import annotations

import os
import platform
import sys
import warnings
from datetime import UTC, datetime

import torch

from bench import confusion_matrix, precision, prediction, training_step
from delineate.engine.run import processor_name

GOALS = {"confusion_matrix": 20.0, "training_step": training_step.GOAL, "prediction": prediction.GOAL}


def main(names: list[str]) -> None:
    """Run the named measurements (all when none is named) and print one table at the end."""
    warnings.simplefilter("ignore")
    unknown = [name for name in names if name not in (*GOALS, "precision")]
    if unknown:
        sys.exit(f"bench must be one of precision, {', '.join(GOALS)}; got '{unknown[0]}'")
    wanted = names or ["precision", *GOALS]
    day = datetime.now(UTC).date()
    print(f"{processor_name()}, {os.cpu_count()} cores, {day}")
    print(f"torch {torch.__version__}, Python {platform.python_version()}")
    rows = []
    if "precision" in wanted:
        precision.main()
    if "confusion_matrix" in wanted:
        measured = confusion_matrix.main()
        slowest = min(values["ratio torchmetrics"] for values in measured.values())
        rows.append(
            ("confusion matrix, 4 x 1024 x 2048, 19 classes", "torchmetrics", slowest, GOALS["confusion_matrix"])
        )
    if "training_step" in wanted:
        ratio = training_step.main().ratio
        rows.append(
            ("training step, U-Net / ResNet-18, 8 x 320 x 416", "the same in float32 NCHW", ratio, training_step.GOAL)
        )
    if "prediction" in wanted:
        rows.append(("image file to mask file, 960 x 720", "smp in float32", prediction.main().ratio, prediction.GOAL))
    if rows:
        print(f"\n{'work':50} {'against':26} {'times faster':>12} {'goal':>6}")
        for work, peer, ratio, goal in rows:
            print(f"{work:50} {peer:26} {ratio:11.1f}x {goal:5.0f}x")


if __name__ == "__main__":
    main(sys.argv[1:])

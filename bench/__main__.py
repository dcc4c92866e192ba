"""Every ratio in one run: ``make bench``, or ``python -m bench training_step confusion_matrix`` for some of them."""

from __future__ import annotations

import os
import platform
import sys
import warnings
from datetime import UTC, datetime

import torch

from bench import (
    coco,
    confusion_matrix,
    convolution,
    dense_crf,
    detectors,
    networks,
    precision,
    prediction,
    roi_align,
    saliency,
    sliding,
    suppression,
    training_step,
)
from delineate.machine import processor_name

NAMES = (
    "precision",
    "convolution",
    "confusion_matrix",
    "coco",
    "saliency",
    "dense_crf",
    "sliding",
    "suppression",
    "roi_align",
    "training_step",
    "prediction",
    "networks",
    "detectors",
)
CONFUSION_GOAL = 20.0


def main(names: list[str]) -> None:
    """Run the named measurements (all when none is named) and print one table at the end."""
    warnings.simplefilter("ignore")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        sys.exit(f"bench must be one of {', '.join(NAMES)}; got '{unknown[0]}'")
    wanted = names or NAMES
    day = datetime.now(UTC).date()
    print(f"{processor_name()}, {os.cpu_count()} cores, {day}")
    print(f"torch {torch.__version__}, Python {platform.python_version()}")
    rows = []
    if "precision" in wanted:
        precision.main()
    if "convolution" in wanted:
        convolution.main()
    if "confusion_matrix" in wanted:
        measured = confusion_matrix.main()
        slowest = min(values["ratio torchmetrics"] for values in measured.values())
        rows.append(("confusion matrix, 4 x 1024 x 2048, 19 classes", "torchmetrics", slowest, CONFUSION_GOAL))
    if "coco" in wanted:
        for task, sides in coco.main().items():
            ours = sides["delineate"]
            for peer in ("pycocotools", "faster-coco-eval"):
                work = f"COCO {task}, 500,000 detections, file to figures"
                rows.append((work, peer, sides[peer].seconds / ours.seconds, coco.GOALS[task, peer]))
            work = f"COCO {task}, peak memory"
            rows.append((work, "pycocotools", sides["pycocotools"].peak_mib / ours.peak_mib, coco.MEMORY_GOAL))
    if "saliency" in wanted:
        rows.append(("saliency, five measures of a 400 x 300 map", "PySODMetrics", saliency.main(), saliency.GOAL))
    if "dense_crf" in wanted:
        rows.append(("dense CRF, 21 labels, 5 iterations", "pydensecrf's figures", dense_crf.main(), dense_crf.GOAL))
    if "sliding" in wanted:
        rows.append(("a window classifier on 17 x 17 windows", "one window at a time", sliding.main(), sliding.GOAL))
    if "suppression" in wanted:
        ratios = suppression.main()
        rows.append(("NMS, 20,000 disjoint boxes", "torchvision", ratios["disjoint"], suppression.GOAL))
        rows.append(("NMS, 20,000 boxes in 80 groups", "torchvision", ratios["batched"], suppression.BATCHED_GOAL))
    if "roi_align" in wanted:
        work = "RoIAlign, 1,000 boxes of 256 channels, 7 x 7"
        rows.append((work, "torchvision", roi_align.main(), roi_align.GOAL))
    if "training_step" in wanted:
        ratio = training_step.main().ratio
        rows.append(
            ("training step, U-Net / ResNet-18, 8 x 320 x 416", "the same in float32 NCHW", ratio, training_step.GOAL)
        )
    if "prediction" in wanted:
        rows.append(("image file to mask file, 960 x 720", "smp in float32", prediction.main().ratio, prediction.GOAL))
    if "networks" in wanted:
        networks.main()
    if "detectors" in wanted:
        for name, _, _, ratio in detectors.main():
            rows.append((f"{name}, pixels to boxes, one image", "torchvision", ratio, detectors.GOAL))
    if rows:
        print(f"\n{'work':52} {'against':26} {'times less':>12} {'goal':>6}")
        for work, peer, ratio, goal in rows:
            print(f"{work:52} {peer:26} {ratio:11.1f}x {goal:5.0f}x")


if __name__ == "__main__":
    main(sys.argv[1:])

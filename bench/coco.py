"""COCO's figures of half a million boxes and masks, from files to figures: delineate, pycocotools, faster-coco-eval.

Each side runs in a process of its own, in turn, so that its peak memory is its own; the median of its runs counts, and
the figures of all sides must be equal. The floor is what no evaluator of these files can go below: reading them and
decoding their JSON, with the decoder that delineate uses, into records and nothing more. Run: ``python -m bench.coco``.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.coco_scene import DETECTIONS, IMAGES, OBJECTS, write_scene
from delineate.data.objects.coco_json import RESULTS, read_predictions, read_truth
from delineate.kernels.threads import thread_count
from delineate.ops.matching import grouped

GOALS = {
    ("boxes", "pycocotools"): 30.0,
    ("boxes", "faster-coco-eval"): 6.0,
    ("masks", "pycocotools"): 12.0,
    ("masks", "faster-coco-eval"): 6.0,
}
MEMORY_GOAL = 2.0  # of pycocotools
_RUNS = {"delineate": 5, "faster-coco-eval": 2, "pycocotools": 1}


@dataclass(frozen=True)
class Measured:
    """The median time of a side, and its largest peak memory."""

    seconds: float
    peak_mib: float


def main(tasks: tuple[str, ...] = ("boxes", "masks")) -> dict[str, dict[str, Measured]]:
    """Print a table for each task and return what was measured."""
    peers = {"pycocotools": "pycocotools", "faster-coco-eval": "faster_coco_eval"}
    missing = [name for name, module in peers.items() if importlib.util.find_spec(module) is None]
    if missing:
        sys.exit(f"bench.coco needs {' and '.join(missing)}. Install it with: pip install -e '.[bench]'")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder, "whole"), Path(folder, "small")
        work = f"{IMAGES:,} images, {OBJECTS:,} true objects, {DETECTIONS:,} detections"
        print(f"COCO figures: {work}, {thread_count()} threads")
        print("writing the files ...", flush=True)
        write_scene(whole)
        write_scene(small, images=50, objects=300, detections=2000)
        for task in tasks:
            results[task] = _task(task, whole, small)
    return results


def _task(task: str, whole: Path, small: Path) -> dict[str, Measured]:
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in _RUNS}
    for i in range(max(_RUNS.values())):
        for side, count in _RUNS.items():
            if i < count:
                runs[side].append(_side(side, task, whole, small))
    figures = {side: outcomes[0]["figures"] for side, outcomes in runs.items()}
    for side, values in figures.items():
        pairs = zip(figures["delineate"], values, strict=True)
        if not all(abs(a - b) < 1e-9 or (math.isnan(a) and b == -1) for a, b in pairs):
            sys.exit(f"the figures of {task} differ: delineate {figures['delineate']}, {side} {values}")
    measured = {
        side: Measured(statistics.median(run["seconds"] for run in outcomes), max(run["peak_mib"] for run in outcomes))
        for side, outcomes in runs.items()
    }
    ours = measured["delineate"]
    print(f"\n{task}: AP {figures['delineate'][0]:.6f}, the twelve figures equal to 1e-9")
    for side, value in measured.items():
        times, memory = value.seconds / ours.seconds, value.peak_mib / ours.peak_mib
        print(f"  {side:18} {value.seconds:7.2f} s {times:6.1f} x   {value.peak_mib:6.0f} MiB {memory:5.1f} x")
    size, decode, pairs = _floor(task, whole)
    print(
        f"  {'floor':18} {decode:7.2f} s: read and decode {size / 1e6:.0f} MB of JSON; {pairs:,} pairs to compare. "
        f"delineate is {ours.seconds / decode:.1f} x above it"
    )
    return measured


def _side(side: str, task: str, whole: Path, small: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.coco_side", side, task, str(whole), str(small)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed: {done.stderr[-2000:]}")
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def _floor(task: str, whole: Path) -> tuple[int, float, int]:
    """Bytes to read, seconds to decode them, pairs to compare."""
    path = whole / f"{task}.json"
    seconds = []
    for _ in range(3):
        gc.disable()
        start = time.perf_counter()
        records = msgspec.json.decode(path.read_bytes(), type=list[RESULTS[task]])  # type: ignore[index,misc]
        msgspec.json.decode((whole / "truth.json").read_bytes(), type=dict[str, msgspec.Raw])
        seconds.append(time.perf_counter() - start)
        gc.enable()
        del records
    truth = read_truth(whole / "truth.json")
    groups = grouped(truth, read_predictions(whole / "boxes.json", truth), max_detections=100)
    pairs = int(np.dot(np.diff(groups.detection_starts), np.diff(groups.truth_starts)))
    return path.stat().st_size + (whole / "truth.json").stat().st_size, min(seconds), pairs


if __name__ == "__main__":
    main()

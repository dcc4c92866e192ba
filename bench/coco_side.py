"""One evaluator in a process of its own: ``python -m bench.coco_side SIDE TASK FOLDER SMALL``, a line of JSON out.

Time runs from the paths of the files to the twelve figures. What a person pays once (imports, compiled kernels read
from disk) is paid before, on a small data set, by every side alike.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
from pathlib import Path

FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
FIGURES += ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")


def delineate(task: str, truth: str, found: str) -> list[float]:
    from delineate.data.objects.coco_json import read_predictions, read_truth
    from delineate.metrics.detection import box_scores, mask_scores

    annotations = read_truth(truth, columns=task)  # type: ignore[arg-type]
    predictions = read_predictions(found, annotations, columns=task)  # type: ignore[arg-type]
    scores = {"boxes": box_scores, "masks": mask_scores}[task](annotations, predictions)
    return [scores[name] for name in FIGURES]


def pycocotools(task: str, truth: str, found: str) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return _evaluated(COCO, COCOeval, task, truth, found)


def faster_coco_eval(task: str, truth: str, found: str) -> list[float]:
    from faster_coco_eval import COCO, COCOeval_faster

    return _evaluated(COCO, COCOeval_faster, task, truth, found)


def _evaluated(coco: type, evaluator: type, task: str, truth: str, found: str) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = coco(truth)
        predictions = annotations.loadRes(found)
        evaluation = evaluator(annotations, predictions, {"boxes": "bbox", "masks": "segm"}[task])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:12]]


SIDES = {"delineate": delineate, "pycocotools": pycocotools, "faster-coco-eval": faster_coco_eval}


def main(side: str, task: str, folder: str, small: str) -> None:
    run = SIDES[side]
    run(task, str(Path(small) / "truth.json"), str(Path(small) / f"{task}.json"))
    start = time.perf_counter()
    figures = run(task, str(Path(folder) / "truth.json"), str(Path(folder) / f"{task}.json"))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "figures": figures}))


def peak_mib() -> float:
    """The most memory this process has had; getrusage would also count what its parent had before it."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # bytes on macOS: only ratios are printed there


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Non-maximum suppression against torchvision's CPU operator, on easy and on hard boxes, in one run.

Both sides must return the same boxes, which is checked before anything is timed. Identical boxes leave one, so that
nothing but the sort and one pass remains; disjoint ones all stay, so that torchvision compares every pair; clusters are
what a detector emits, many boxes around each object; random ones overlap at will. The batched row has the clusters'
boxes in groups. Run as ``python -m bench.suppression``; ``--boxes N`` for other sizes, and with ``OMP_NUM_THREADS=1``
for one thread: torchvision's operator has one in any case, ours too but for batches.
"""

from __future__ import annotations

import argparse
import sys

import torch
import torchvision
from torch import Tensor

from bench.timing import Comparison, compare
from delineate.ops.suppression import batched_nms, nms

BOXES, GROUPS, THRESHOLD = 20_000, 80, 0.5
GOAL, BATCHED_GOAL = 10.0, 1.0


def scenes(count: int) -> dict[str, Tensor]:
    """Boxes (count, 4) of each kind on an image of about 1000 x 1000 pixels."""
    generator = torch.Generator().manual_seed(0)
    side = int(count**0.5) + 1
    places = torch.arange(count)
    corner = torch.stack([places % side, places // side], dim=1) * (1000.0 / side)
    objects = torch.rand(300, 2, generator=generator) * 850, 15 + 135 * torch.rand(300, 2, generator=generator)
    of = places % 300
    jitter = 0.1 * torch.randn(count, 4, generator=generator)
    random = torch.rand(count, 2, generator=generator) * 800, 5 + 195 * torch.rand(count, 2, generator=generator)
    return {
        "identical": torch.tensor([[100.0, 100, 300, 200]]).repeat(count, 1),
        "disjoint": torch.cat([corner, corner + 900.0 / side], dim=1),
        "300 clusters": torch.cat([objects[0], objects[0] + objects[1]], dim=1)[of]
        + jitter * objects[1][of].repeat(1, 2),
        "random": torch.cat([random[0], random[0] + random[1]], dim=1),
    }


def measured(count: int = BOXES, runs: int = 5) -> dict[str, Comparison]:
    """Print a row for each kind of boxes, and one for batches; returns them by name."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(count, generator=generator)
    groups = torch.randint(0, GROUPS, (count,), generator=generator)
    found = {}
    for name, boxes in scenes(count).items():

        def ours(boxes: Tensor = boxes) -> Tensor:
            return nms(boxes, scores, iou_threshold=THRESHOLD)

        def theirs(boxes: Tensor = boxes) -> Tensor:
            return torchvision.ops.nms(boxes, scores, THRESHOLD)

        kept = ours()
        if not torch.equal(kept, theirs()):
            sys.exit(f"the two sides differ on {name} boxes")
        found[name] = compare(ours, theirs, runs=runs, warmup=0)
        print(" ".join(found[name].row(f"{count} {name} boxes, {len(kept)} kept", "torchvision", GOAL)))

    boxes = scenes(count)["300 clusters"]

    def batched() -> Tensor:
        return batched_nms(boxes, scores, groups, iou_threshold=THRESHOLD)

    def their_batched() -> Tensor:
        return torchvision.ops.batched_nms(boxes, scores, groups, THRESHOLD)

    kept = batched()
    # of boxes of equal scores in two groups torchvision returns either first: its last sort is not stable
    if not torch.equal(kept.sort().values, their_batched().sort().values):
        sys.exit("the two sides differ on batches")
    found["batched"] = compare(batched, their_batched, runs=runs, warmup=0)
    work = f"{count} boxes in {GROUPS} groups, {len(kept)} kept"
    print(" ".join(found["batched"].row(work, "torchvision", BATCHED_GOAL)))
    return found


def main(count: int = BOXES, runs: int = 5) -> dict[str, float]:
    """Print the table; returns how many times faster ours is, by the kind of boxes."""
    return {name: comparison.ratio for name, comparison in measured(count, runs).items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=BOXES)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.boxes, arguments.runs)

"""Maps of a mask head to COCO's run lengths, against torch's sampler and pycocotools' encoder, in one run.

Both sides start from maps of 28 x 28 probabilities and the boxes of one picture, and end with compressed run lengths,
which must be the same but for pixels at the threshold. The other side does as Detectron2 on a CPU: it samples each map
at the pixels around its box and makes a picture of bytes for each object, which pycocotools then encodes. Run as
``python -m bench.mask_pasting``; ``--objects N`` for other numbers.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from pycocotools import mask as coco
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from bench.timing import Comparison, compare
from delineate.postprocess.mask_pasting import paste_masks

GOAL = 10.0
SIZE = (800, 1333)
OBJECTS = 100
MOST_DIFFERENT = 1e-6  # of all pixels


def objects(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Smooth maps (count, 28, 28), and boxes from a fiftieth of the picture's side to all of it."""
    generator = torch.Generator().manual_seed(0)
    coarse = 3 * torch.randn(count, 1, 5, 5, generator=generator)
    maps = interpolate(coarse, size=28, mode="bicubic", align_corners=False)[:, 0].sigmoid()
    whole = torch.tensor([size[1], size[0]])
    sides = whole * 0.02 ** torch.rand(count, 2, generator=generator)
    corners = torch.rand(count, 2, generator=generator) * (whole - sides)
    return maps, torch.cat([corners, corners + sides], dim=1)


def sampled(values: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """One map's mask in a picture: read at the middle of each pixel around its box."""
    mask = torch.zeros(size, dtype=torch.bool)
    left, top = (box[:2].floor().int() - 1).clamp(min=0).tolist()
    right, bottom = torch.minimum(box[2:].ceil().int() + 1, torch.tensor([size[1], size[0]])).tolist()
    columns, rows = ((torch.arange(a, b) + 0.5) for a, b in ((left, right), (top, bottom)))
    x, y = (
        (places - low) / (high - low) * 2 - 1
        for places, low, high in ((columns, box[0], box[2]), (rows, box[1], box[3]))
    )
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
    mask[top:bottom, left:right] = grid_sample(values[None, None], grid[None], align_corners=False)[0, 0] > 0.5
    return mask


def main(count: int = OBJECTS, size: tuple[int, int] = SIZE, runs: int = 5) -> Comparison:
    """Print the row; returns it."""
    maps, boxes = objects(count, size)

    def ours() -> list[str]:
        return [mask.counts for mask in paste_masks(maps, boxes, size)]

    def theirs() -> list[str]:
        pasted = torch.stack([sampled(values, box, size) for values, box in zip(maps, boxes, strict=True)])
        columns = np.asfortranarray(pasted.numpy().transpose(1, 2, 0).astype(np.uint8))
        return [run["counts"].decode("ascii") for run in coco.encode(columns)]

    different = 0
    for one, other in zip(ours(), theirs(), strict=True):
        if one != other:
            pair = coco.decode([{"size": list(size), "counts": counts} for counts in (one, other)])
            different += int((pair[..., 0] != pair[..., 1]).sum())
    if different > MOST_DIFFERENT * count * size[0] * size[1]:
        sys.exit(f"the two sides differ in {different} pixels")
    result = compare(ours, theirs, runs=runs)
    work = f"{count} masks of 28 x 28 into {size[0]} x {size[1]}, to run lengths"
    print(" ".join(result.row(work, "torch's sampler and pycocotools", GOAL)))
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=OBJECTS)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.objects, runs=arguments.runs)

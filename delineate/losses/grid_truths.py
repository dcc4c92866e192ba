"""What the true boxes of a batch are to a grid: which cell each falls into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from delineate.checks import require
from delineate.losses.precision import full_precision
from delineate.ops.box_coding import box_cells
from delineate.ops.true_boxes import true_boxes
from delineate.structures.outputs import GridOutputs


class GridTruths(NamedTuple):
    """The true boxes of a whole batch, and the image and cell of each."""

    boxes: Float[Tensor, "T 4"]
    labels: Int64[Tensor, " T"]
    images: Int64[Tensor, " T"]
    cells: Int64[Tensor, " T"]

    def select(self, rows: Tensor) -> GridTruths:
        """These rows."""
        return GridTruths(*(column[rows] for column in self))


def grid_truths(
    outputs: GridOutputs, targets: Sequence[Mapping[str, Any]]
) -> tuple[GridTruths, list[Float[Tensor, "C 4"]]]:
    """The objects of all images in one table, and the crowds of each."""
    require(len(targets) == len(outputs.values), "targets", f"be {len(outputs.values)}, one an image", len(targets))
    found = [true_boxes(target, num_classes=outputs.logits.shape[3]) for target in targets]
    boxes = torch.cat([truths.boxes for truths in found]).to(full_precision(outputs.values))
    counts = torch.tensor([len(truths.boxes) for truths in found], device=boxes.device)
    images = torch.arange(len(found), device=boxes.device).repeat_interleave(counts)
    cells = box_cells(boxes, size=outputs.size, grid=outputs.grid)
    labels = torch.cat([truths.labels for truths in found])
    return GridTruths(boxes, labels, images, cells), [truths.crowds.to(boxes) for truths in found]


def first_of_each(places: Int64[Tensor, " T"]) -> Int64[Tensor, " U"]:
    """The first row of each different place, in the order of the rows."""
    known, inverse = places.unique(return_inverse=True)
    rows = torch.arange(len(places), device=places.device)
    first = torch.full_like(known, len(places)).scatter_reduce(0, inverse, rows, "amin")
    return first.sort().values

"""RoIAlign on the CPU against torchvision's own, in one run.

Both sides pool the same boxes and are compared before anything is timed. The maps are channels last for ours, as the
networks here make them, and contiguous for torchvision, which would copy them first otherwise. Run as
``python -m bench.roi_align``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import ops

from bench.timing import Comparison, compare
from delineate.ops.roi_align import roi_align

GOAL = 4.0
IMAGE = (600, 800)
CHANNELS = 256


def boxes_of(count: int, shortest: float, longest: float) -> Tensor:
    """Boxes inside the image, their sides spread evenly over the orders of magnitude."""
    sides = shortest * (longest / shortest) ** torch.rand(count, 2)
    centres = torch.rand(count, 2) * torch.tensor([IMAGE[1], IMAGE[0]])
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    return ops.clip_boxes_to_image(boxes, IMAGE)


def measured(
    work: str, count: int, bins: int, stride: int, sampling_ratio: int, *, channels: int, runs: int, train: bool = False
) -> Comparison:
    """Print one row; with ``train`` of both directions."""
    contiguous = torch.randn(1, channels, IMAGE[0] // stride, IMAGE[1] // stride, requires_grad=train)
    ours_map = contiguous.detach().to(memory_format=torch.channels_last).requires_grad_(train)
    boxes, images = boxes_of(count, 4.0 * stride, 25.0 * stride), torch.zeros(count, dtype=torch.int64)
    rois = torch.cat([images[:, None].float(), boxes], dim=1)

    def stepped(pooled: Tensor, features: Tensor) -> Tensor:
        return torch.autograd.grad(pooled.sum(), features)[0] if train else pooled

    def ours() -> Tensor:
        scale = 1 / stride
        pooled = roi_align(
            ours_map, boxes, images, output_size=bins, spatial_scale=scale, sampling_ratio=sampling_ratio
        )
        return stepped(pooled, ours_map)

    def theirs() -> Tensor:
        return stepped(ops.roi_align(contiguous, rois, bins, 1 / stride, sampling_ratio, True), contiguous)

    if not torch.allclose(ours(), theirs(), rtol=1e-4, atol=1e-3 if train else 1e-5):
        raise SystemExit("the two sides differ")
    result = compare(ours, theirs, runs=runs)
    print(" ".join(result.row(work, "torchvision", GOAL)))
    return result


def main(runs: int = 5, *, boxes: int = 1000, channels: int = CHANNELS) -> float:
    """Print every row; returns how many times faster the first is, 1,000 boxes on a map of stride 16."""
    torch.manual_seed(0)
    few = max(1, boxes // 10)
    options = {"channels": channels, "runs": runs}
    first = measured(f"{boxes} boxes, 7 x 7, stride 16, adaptive", boxes, 7, 16, 0, **options)
    measured(f"{boxes} boxes, 7 x 7, stride 4, 2 samples", boxes, 7, 4, 2, **options)
    measured(f"{few} boxes, 14 x 14, stride 4, 2 samples", few, 14, 4, 2, **options)
    measured(f"{boxes} boxes, 7 x 7, stride 16, and gradient", boxes, 7, 16, 0, **options, train=True)
    return first.ratio


if __name__ == "__main__":
    main()

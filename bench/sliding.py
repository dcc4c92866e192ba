"""A window classifier made convolutional against cutting its windows out, one after another, in one run.

Both sides compute the same logits, which are compared before anything is timed: of every sixteenth pixel by
:func:`~delineate.models.convolutionize.convolutionize`, of every pixel by the patch classifier's own dense pass. The
windows go through the network in batches. Run as ``python -m bench.sliding``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.timing import Comparison, compare
from delineate.models.convolutionize import convolutionize
from delineate.models.patch_classifier import WINDOW, patch_classifier

GOAL = 10.0
BATCH = 32


def slid(classifier: nn.Module, images: Tensor, stride: int) -> Tensor:
    """The logits of every window of one image, ``stride`` pixels apart."""
    views = images[0].unfold(1, WINDOW, stride).unfold(2, WINDOW, stride).movedim(0, 2)  # h w C 95 95
    rows, columns = views.shape[:2]
    windows = [views[row, column] for row in range(rows) for column in range(columns)]
    logits = [classifier(torch.stack(windows[first : first + BATCH])) for first in range(0, len(windows), BATCH)]
    return torch.cat(logits).view(1, rows, columns, -1).movedim(3, 1)


@torch.inference_mode()
def measured(work: str, images: Tensor, stride: int, *, runs: int) -> Comparison:
    """Print one row."""
    classifier = patch_classifier(2).window_classifier.eval()
    sliding = convolutionize(classifier, (WINDOW, WINDOW)).eval()

    def ours() -> Tensor:
        return classifier.everywhere(images) if stride == 1 else sliding(images)

    def theirs() -> Tensor:
        return slid(classifier, images, stride)

    if not torch.allclose(ours(), theirs(), rtol=1e-4, atol=1e-5):
        raise SystemExit("the two sides differ")
    result = compare(ours, theirs, runs=runs, warmup=0)
    print(" ".join(result.row(work, "the windows one by one", GOAL)))
    return result


def main(runs: int = 3) -> float:
    """Print both rows; returns how many times faster the coarse map of the convolutionized network is."""
    torch.manual_seed(0)
    coarse = measured("17 x 17 windows, 16 pixels apart", torch.randn(1, 1, 351, 351), 16, runs=runs)
    measured("24 x 24 windows, one a pixel", torch.randn(1, 1, 118, 118), 1, runs=runs)
    return coarse.ratio


if __name__ == "__main__":
    main()

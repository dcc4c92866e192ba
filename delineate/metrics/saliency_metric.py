"""Saliency measures over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor

from delineate.checks import require
from delineate.kernels.threads import run_pieces, thread_count
from delineate.metrics.saliency import (
    CURVES,
    NUMBERS,
    THRESHOLDS,
    averages_of_sums,
    image_saliency,
)
from delineate.metrics.score_metric import ScoreMetric


class SaliencyScores(ScoreMetric):
    """Saliency measures over a whole data set, in the manner of torchmetrics; see :func:`saliency_scores`.

    The states are sums over images, so the result does not depend on how images are grouped into batches or spread over
    processes. The images of a batch are worked on by as many threads as torch has.

    Args:
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
        >>> scores = SaliencyScores()
        >>> scores.update(torch.tensor([[[0.1, 0.9], [0.2, 0.7]]]), torch.tensor([[[0, 1], [0, 1]]]))
        >>> round(scores.compute()["mae"], 6)
        0.09375
    """

    is_differentiable = False
    full_state_update = False

    numbers: Tensor
    curves: Tensor
    images: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        sums = {"numbers": (len(NUMBERS),), "curves": (len(CURVES), len(THRESHOLDS))}
        for name, shape in sums.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        prediction: Float[Tensor, "B H W"] | UInt8[Tensor, "B H W"],
        target: Bool[Tensor, "B H W"] | Integer[Tensor, "B H W"],
    ) -> None:
        """Count a batch of maps of one size.

        Args:
            prediction: saliency from 0 to 1, or bytes from 0 to 255; any device.
            target: the object: bool, or integers 0 and 1, or 0 and 255. Anything else is refused, since it is read in
                different ways: a grey mask (``mask > 128``), instance ids (``mask > 0``), an ignore label.

        Raises:
            ArgumentError: on shapes that differ, or values other than these.
        """
        maps, masks = _host_maps(prediction), _host_masks(target)
        require(
            maps.ndim == 3 and maps.shape == masks.shape,
            "prediction",
            f"be maps (B, H, W) of the target's shape {masks.shape}",
            maps.shape,
            "Pass logits.sigmoid().squeeze(1) rather than logits." if maps.ndim == 4 else "",
        )
        threads = max(1, min(thread_count(), len(maps)))
        shares = run_pieces(
            lambda first: [image_saliency(maps[i], masks[i]) for i in range(first, len(maps), threads)], range(threads)
        )
        images = [image for share in shares for image in share]
        numbers = np.array([[getattr(image, name) for name in NUMBERS] for image in images])
        curves = np.array([[getattr(image, name) for name in CURVES] for image in images])
        if images:  # not in place: a state that was reset under inference_mode may not be changed outside it
            self.numbers = self.numbers + torch.from_numpy(numbers.sum(axis=0)).to(self.numbers.device)
            self.curves = self.curves + torch.from_numpy(curves.sum(axis=0)).to(self.curves.device)
            self.images = self.images + len(images)

    def compute(self) -> dict[str, Any]:
        """:func:`saliency_scores` of everything counted."""
        return averages_of_sums(self.numbers.cpu().numpy(), self.curves.cpu().numpy(), int(self.images))


def _host_maps(prediction: Tensor) -> np.ndarray:
    """Maps in host memory: bytes, or the float type they came in where NumPy has it."""
    prediction = prediction.detach()
    if prediction.dtype not in (torch.uint8, torch.float32, torch.float64):
        known = prediction.is_floating_point()
        require(known, "prediction", "hold values from 0 to 1, or be uint8", prediction.dtype)
        prediction = prediction.float()
    return prediction.cpu().numpy()


def _host_masks(target: Tensor) -> np.ndarray:
    """Masks in host memory, as bool."""
    if target.dtype != torch.bool:
        condition = "be bool, or integers 0 and 1, or 0 and 255"
        require(not target.is_floating_point(), "target", condition, target.dtype)
        inside = target != 0
        odd = target[inside & (target != 1) & (target != 255)]
        wrong = int(odd[0]) if len(odd) else "both 1 and 255"
        plain = not len(odd) and not (bool((target == 1).any()) and bool((target == 255).any()))
        require(plain, "target", condition, wrong, "Pass mask > 128 for grey masks, mask > 0 for instance ids.")
        target = inside
    return target.cpu().numpy()

"""Calibration over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from delineate.metrics.calibration import bin_sums, calibration_of_sums, require_bins
from delineate.metrics.score_metric import ScoreMetric


class CalibrationScores(ScoreMetric):
    """Calibration of detections over a whole data set, in the manner of torchmetrics.

    Sums of each bin add up, so the result does not depend on how detections are grouped or spread over processes.

    Args:
        num_bins: bins of equal width.
        score_threshold: detections below it do not count.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
        >>> calibration = CalibrationScores(num_bins=2)
        >>> calibration.update(torch.tensor([0.75, 0.25]), torch.tensor([True, False]))
        >>> calibration.compute()["expected_calibration_error"]
        0.25
    """

    higher_is_better = False

    counts: Tensor
    score_sums: Tensor
    hits: Tensor

    def __init__(self, *, num_bins: int = 15, score_threshold: float | int = 0.0, **options: Any) -> None:
        super().__init__(num_bins, score_threshold, **options)
        require_bins(num_bins)
        self.num_bins, self.score_threshold = num_bins, score_threshold
        self.add_state("counts", torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("score_sums", torch.zeros(num_bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("hits", torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, states: Tensor) -> None:
        """Count detections.

        Args:
            scores: ``(N,)`` in 0 .. 1.
            states: ``(N,)`` whether each is a true positive, or 0 false positive, 1 true positive, 2 ignored.

        Raises:
            ArgumentError: on scores outside 0 .. 1, columns of different lengths, or unknown states.
        """
        sums = bin_sums(
            scores.detach().cpu().numpy().astype(np.float64), states.cpu().numpy(), self.num_bins, self.score_threshold
        )
        device = self.counts.device
        # not in place: a state that was reset under inference_mode may not be changed outside it
        counts, score_sums, hits = (torch.from_numpy(column).to(device) for column in sums)
        self.counts, self.score_sums, self.hits = (
            self.counts + counts,
            self.score_sums + score_sums,
            self.hits + hits,
        )

    def compute(self) -> dict[str, Any]:
        """What :func:`calibration_scores` returns, of everything counted."""
        return calibration_of_sums(self.counts.cpu().numpy(), self.score_sums.cpu().numpy(), self.hits.cpu().numpy())

"""Ranked detections of a whole data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from delineate.checks import require
from delineate.metrics.ranking import ranked_scores
from delineate.metrics.score_metric import ScoreMetric


class RankedOutcomes(ScoreMetric):
    """A metric that keeps the score of every detection and what became of it, and ranks them in the end.

    What becomes of a detection depends on its own image alone. So true boxes need not be kept, and processes exchange
    only these rows. Detections of one class with equal scores are ranked in the order of updates, and of processes.

    Args:
        class_names: one name a class, in label order.
        configuration: further options that decide what the states mean.
        thresholds: what the columns of outcomes stand for.
        curves: also give precision and recall after each detection.
        options: torchmetrics' own (``sync_on_compute`` ...).
    """

    labels: list[Tensor]
    scores: list[Tensor]
    outcomes: list[Tensor]
    positives: Tensor

    def __init__(
        self,
        class_names: Sequence[str],
        *configuration: Any,
        thresholds: Sequence[float | int],
        curves: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(tuple(class_names), tuple(thresholds), curves, *configuration, **options)
        self.class_names = tuple(class_names)
        require(len(self.class_names) > 0, "class_names", "name at least one class", "none")
        self.thresholds = tuple(thresholds)
        self.curves = curves
        for state in ("labels", "scores", "outcomes"):
            self.add_state(state, [], dist_reduce_fx="cat")
        self.add_state("positives", torch.zeros(len(self.class_names), dtype=torch.int64), dist_reduce_fx="sum")

    def keep(
        self,
        labels: Int64[np.ndarray, " N"],
        scores: Float64[np.ndarray, " N"],
        outcomes: UInt8[np.ndarray, "N T"],
        positives: Int64[np.ndarray, " K"],
    ) -> None:
        """Add the detections of a batch, and how many truths of each class it held."""
        self.labels.append(torch.from_numpy(labels).to(self.device))
        self.scores.append(torch.from_numpy(scores).to(self.device))
        self.outcomes.append(torch.from_numpy(outcomes).to(self.device))
        # not in place: a state that was reset under inference_mode may not be changed outside it
        self.positives = self.positives + torch.from_numpy(positives).to(self.device)

    def sync(self, *arguments: Any, **options: Any) -> None:
        """As torchmetrics; a process without data takes part with empty columns of the right type."""
        if len(self.labels) == 0:
            columns = len(self.thresholds)
            none = np.zeros(len(self.class_names), np.int64)
            self.keep(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, columns), np.uint8), none)
        super().sync(*arguments, **options)

    def compute(self) -> dict[str, Any]:
        """The figures of :func:`~delineate.metrics.voc.voc_scores`."""
        empty = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
        columns = [*empty, torch.zeros(0, len(self.thresholds), dtype=torch.uint8)]
        for i, state in enumerate((self.labels, self.scores, self.outcomes)):
            if len(state):  # a list of batches, or what all processes have
                columns[i] = state if isinstance(state, Tensor) else torch.cat(state)
        labels, scores, outcomes = (column.cpu().numpy() for column in columns)
        positives = self.positives.cpu().numpy()
        return ranked_scores(labels, scores, outcomes, positives, self.class_names, self.thresholds, curves=self.curves)

"""Why precision is lost over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delineate.checks import require
from delineate.metrics.batch_objects import batch_objects
from delineate.metrics.error_analysis import detection_errors
from delineate.metrics.score_metric import ScoreMetric
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

_COLUMNS = ("boxes", "areas", "scores", "images", "labels", "crowd", "ignored")
_WHOLE = ("images", "labels", "crowd", "ignored")  # the others are float64


class DetectionErrorScores(ScoreMetric):
    """The kinds of errors of detected boxes, see :func:`~delineate.metrics.error_analysis.detection_errors`.

    What an error costs follows from all detections together, so their boxes are kept, and processes exchange them.

    Args:
        class_names: one name a class, in label order.
        foreground_threshold: as in the function.
        background_threshold: as in the function.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
        >>> errors = DetectionErrorScores(("cat", "dog"))
        >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> found = {"boxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
        >>> errors.update([found], [{"boxes": box, "labels": torch.tensor([0])}])
        >>> errors.compute()["counts"]["classification"]
        1
    """

    higher_is_better = None

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        foreground_threshold: float | int = 0.5,
        background_threshold: float | int = 0.1,
        **options: Any,
    ) -> None:
        self.class_names = tuple(class_names)
        require(len(self.class_names) > 0, "class_names", "name at least one class", "none")
        self.foreground_threshold, self.background_threshold = foreground_threshold, background_threshold
        super().__init__(self.class_names, foreground_threshold, background_threshold, **options)
        for side in ("found", "true"):
            for name in _COLUMNS:
                if (side, name) != ("true", "scores"):
                    self.add_state(f"{side}_{name}", [], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]]) -> None:
        """Keep a batch; see :meth:`~delineate.metrics.detection_metric.BoxScores.update`."""
        count, classes = len(targets), len(self.class_names)
        require(len(predictions) == count, "predictions", f"be of {count} images, as targets", len(predictions))
        visits = self.new_visits(count)
        self._keep("found", batch_objects(predictions, "predictions", classes), visits)
        self._keep("true", batch_objects(targets, "targets", classes), visits)

    def _keep(self, side: str, objects: Objects, visits: np.ndarray) -> None:
        for name in _COLUMNS:
            column = getattr(objects, name)
            if column is not None:
                values = visits[column] if name == "images" else column
                kind = np.int64 if name in _WHOLE else np.float64
                getattr(self, f"{side}_{name}").append(torch.from_numpy(values.astype(kind)).to(self.device))

    def sync(self, *arguments: Any, **options: Any) -> None:
        """As torchmetrics; a process without data takes part with empty columns of the right type."""
        if not self.found_images:
            self._keep("found", Objects.of([], [], [], scores=[]), np.zeros(0, np.int64))
            self._keep("true", Objects.of([], [], []), np.zeros(0, np.int64))
        super().sync(*arguments, **options)

    def _objects(self, side: str) -> Objects:
        columns: dict[str, np.ndarray] = {}
        for name in _COLUMNS:
            state: Tensor | list[Tensor] | None = getattr(self, f"{side}_{name}", None)
            if state is not None:
                whole = state if isinstance(state, Tensor) else torch.cat(state) if state else torch.zeros(0)
                columns[name] = whole.cpu().numpy()
        return Objects.of(**columns)  # type: ignore[arg-type]

    def compute(self) -> dict[str, Any]:
        """The figures of :func:`~delineate.metrics.error_analysis.detection_errors`, of all images so far."""
        found, true = self._objects("found"), self._objects("true")
        visits = np.unique(np.concatenate([found.images, true.images]))
        placed = [
            Objects.of(
                np.searchsorted(visits, side.images),
                side.labels,
                side.boxes,
                areas=side.areas,
                scores=side.scores,
                crowd=side.crowd,
                ignored=side.ignored,
            )
            for side in (found, true)
        ]
        truth = Annotations.of(range(len(visits)), self.class_names, placed[1])
        return detection_errors(
            truth,
            placed[0],
            foreground_threshold=self.foreground_threshold,
            background_threshold=self.background_threshold,
        )

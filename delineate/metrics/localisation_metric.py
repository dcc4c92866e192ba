"""Figures of localisation over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Integer
from torch import Tensor

from delineate.checks import require
from delineate.metrics.batch_objects import batch_columns
from delineate.metrics.localisation import (
    MAP_IOU_THRESHOLDS,
    MAP_THRESHOLDS,
    box_accuracies,
    check_guess_options,
    check_guesses,
    error_shares,
    map_hits,
    missed_guesses,
)
from delineate.metrics.pointing import POINT_TOLERANCE, point_outcomes, without_levels
from delineate.metrics.ranking_metric import RankedOutcomes
from delineate.metrics.score_metric import ScoreMetric


class LocalisationScores(ScoreMetric):
    """The accuracy of boxes of score maps, as :func:`~delineate.metrics.localisation.max_box_accuracy` defines it.

    Counts add up, so the result does not depend on how images are grouped into batches or spread over processes.

    Example:
        >>> scores = LocalisationScores()
        >>> target = {"boxes": torch.tensor([[0., 0., 1., 2.]]), "labels": torch.tensor([0])}
        >>> scores.update(torch.tensor([[[0.9, 0.1], [0.8, 0.2]]]), [target])
        >>> scores.compute()["max_box_accuracy_v2"]
        1.0
    """

    hits: Tensor
    images: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        shape = (2, len(MAP_IOU_THRESHOLDS), len(MAP_THRESHOLDS))
        self.add_state("hits", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Float[Tensor, "B H W"], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Count a batch.

        Args:
            maps: of the class in question, at the size of the images.
            targets: for each image ``boxes`` (N, 4) xyxy and ``labels`` (N,).

        Raises:
            ArgumentError: on other numbers of targets than of maps, or numbers that are not finite.
        """
        truth = batch_columns(targets, "targets", None)
        hits, images = map_hits(maps.detach().to("cpu", torch.float64).numpy(), "maps", len(targets), truth)
        # not in place: a state that was reset under inference_mode may not be changed outside it
        self.hits = self.hits + torch.from_numpy(hits).to(self.hits.device)
        self.images = self.images + images

    def compute(self) -> dict[str, Any]:
        """The figures of :func:`~delineate.metrics.localisation.max_box_accuracy`."""
        return box_accuracies(self.hits.cpu().numpy(), int(self.images))


class TopKLocalisation(ScoreMetric):
    """Errors of the first k guesses, as :func:`~delineate.metrics.localisation.topk_localisation_error` defines them.

    Args:
        ks: as there.
        iou_threshold: as there.
        inclusive_pixels: as there.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
        >>> scores = TopKLocalisation(ks=(1,))
        >>> target = {"boxes": torch.tensor([[0., 0., 4., 4.]]), "labels": torch.tensor([1])}
        >>> scores.update(torch.tensor([[1]]), torch.tensor([[[0., 0., 4., 3.]]]), [target])
        >>> scores.compute()
        {'top1_error': 0.0, 'images': 1}
    """

    higher_is_better = False

    missed: Tensor
    images: Tensor
    lost: Tensor
    known: Tensor

    def __init__(
        self,
        *,
        ks: Sequence[int] = (1, 5),
        iou_threshold: float | int = 0.5,
        inclusive_pixels: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(tuple(ks), iou_threshold, inclusive_pixels, **options)
        check_guess_options(ks, iou_threshold)
        self.ks, self.iou_threshold, self.inclusive_pixels = tuple(ks), iou_threshold, inclusive_pixels
        self.add_state("missed", torch.zeros(len(self.ks), dtype=torch.int64), dist_reduce_fx="sum")
        for state in ("images", "lost", "known"):
            self.add_state(state, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        guess_labels: Integer[Tensor, "B G"],
        guess_boxes: Float[Tensor, "B G 4"],
        targets: Sequence[Mapping[str, Tensor]],
        *,
        known_boxes: Float[Tensor, "B 4"] | None = None,
    ) -> None:
        """Count a batch; targets hold ``boxes`` and ``labels``, the other arguments are those of the function."""
        check_guesses(guess_labels, guess_boxes, known_boxes, len(targets))
        boxes = guess_boxes.detach().to("cpu", torch.float64).numpy()
        known = None if known_boxes is None else known_boxes.detach().to("cpu", torch.float64).numpy()
        truth = batch_columns(targets, "targets", None)
        labels = guess_labels.cpu().numpy()
        pixel = 1.0 if self.inclusive_pixels else 0.0
        missed, images, lost = missed_guesses(
            labels, boxes, known, len(targets), truth, self.ks, self.iou_threshold, pixel
        )
        self.missed = self.missed + torch.from_numpy(missed).to(self.missed.device)
        self.images = self.images + images
        if known is not None:
            self.lost, self.known = self.lost + lost, self.known + images

    def compute(self) -> dict[str, float]:
        """The errors; ``known_error`` is that of the batches that had known boxes."""
        known = int(self.known)
        return error_shares(
            self.ks, self.missed.cpu().numpy(), int(self.images), int(self.lost) if known else None, known
        )


class PointLocalisation(RankedOutcomes):
    """Average precision of points, as :func:`~delineate.metrics.pointing.point_localisation` defines it.

    Args:
        class_names: one name a class, in label order.
        tolerance: pixels by which boxes are enlarged on each side.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
        >>> scores = PointLocalisation(("cat",))
        >>> target = {"boxes": torch.tensor([[30., 30., 50., 50.]]), "labels": torch.tensor([0])}
        >>> scores.update(torch.eye(2).reshape(1, 1, 2, 2), [target], image_sizes=[(80, 80)])
        >>> scores.compute()["map"]
        1.0
    """

    def __init__(self, class_names: Sequence[str], *, tolerance: float | int = POINT_TOLERANCE, **options: Any) -> None:
        require(tolerance >= 0, "tolerance", "be at least 0 pixels", tolerance)
        super().__init__(class_names, thresholds=(tolerance,), **options)

    def update(
        self,
        maps: Float[Tensor, "B K H W"],
        targets: Sequence[Mapping[str, Tensor]],
        *,
        scores: Float[Tensor, "B K"] | None = None,
        image_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Count a batch.

        Args:
            maps: a score map a class, at any resolution.
            targets: for each image ``boxes`` (N, 4) xyxy and ``labels`` (N,); ``difficult`` or ``iscrowd`` (N,).
            scores: the confidence that the image holds the class; the map's maximum when left out.
            image_sizes: (height, width) of each image; that of the maps when left out.

        Raises:
            ArgumentError: as :func:`~delineate.metrics.pointing.point_localisation` and :func:`peak_points`.
        """
        classes = len(self.class_names)
        require(maps.shape[1] == classes, "maps", f"have {classes} classes", maps.shape[1])
        require(len(maps) == len(targets), "maps", f"be of {len(targets)} images, as targets", len(maps))
        points, peaks = peak_points(maps, image_sizes=image_sizes)
        confidence = peaks if scores is None else scores.detach().to("cpu", torch.float64).numpy()
        require(confidence.shape == peaks.shape, "scores", f"be {peaks.shape}, as maps", confidence.shape)
        outcomes, positives = point_outcomes(points, batch_columns(targets, "targets", classes), self.thresholds[0])
        self.keep(np.tile(np.arange(classes), len(maps)), confidence.ravel(), outcomes, positives)

    def compute(self) -> dict[str, Any]:
        """The figures of :func:`~delineate.metrics.pointing.point_localisation`."""
        return without_levels(super().compute())


def peak_points(
    maps: Float[Tensor, "B K H W"], *, image_sizes: Sequence[tuple[int, int]] | None = None
) -> tuple[Float64[np.ndarray, "B K 2"], Float64[np.ndarray, "B K"]]:
    """Where each score map has its maximum, and what it is; of equal maxima the first.

    Args:
        maps: at any resolution.
        image_sizes: (height, width) of each image, to which points are scaled; that of the maps when left out.

    Returns:
        x, y of the pixel's centre, in pixels of the image; and the scores.

    Raises:
        ArgumentError: on other numbers of sizes than of maps, or scores that are not finite.

    Example:
        >>> points, scores = peak_points(torch.tensor([[[[0.1, 0.2], [0.7, 0.3]]]]), image_sizes=[(200, 100)])
        >>> points.tolist(), scores.round(3).tolist()
        ([[[25.0, 150.0]]], [[0.7]])
    """
    images, classes, height, width = maps.shape
    sizes = [(height, width)] * images if image_sizes is None else list(image_sizes)
    require(len(sizes) == images, "image_sizes", f"hold {images} sizes, one a map", len(sizes))
    peaks, places = maps.detach().flatten(2).max(dim=2) if maps.numel() else (torch.zeros(images, classes),) * 2
    scores, flat = peaks.to("cpu", torch.float64).numpy(), places.cpu().numpy().astype(np.int64)
    require(bool(np.isfinite(scores).all()), "maps", "hold finite scores", "NaN or infinity")
    scale = np.array([(w / width, h / height) for h, w in sizes]).reshape(images, 1, 2)
    return (np.stack([flat % width, flat // width], axis=2) + 0.5) * scale, scores

"""A predictor against a data set: the numbers, and the images that explain them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
import torch

from delineate.data.batches import SemanticCollate
from delineate.data.mixture import MixedSamples
from delineate.data.opening import open_dataset
from delineate.data.samples import Samples
from delineate.engine.cell_scoring import CellScoring
from delineate.engine.evaluation import Evaluation, check_classes
from delineate.engine.loading import validation_batches
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.losses.partial_labels import marginal_logits
from delineate.metrics.semantic import semantic_scores
from delineate.metrics.semantic_metric import SemanticScores
from delineate.ops.confusion import confusion_matrix
from delineate.postprocess.refinement import RefinementOptions


@dataclass(frozen=True)
class ImageScore:
    """How one image did.

    Args:
        index: in the data set.
        name: its stem.
        miou: mean IoU over the classes it shows or was given; NaN when every pixel is ignored.
        pixel_accuracy: of its counted pixels; NaN when there are none.
    """

    index: int
    name: str
    miou: float
    pixel_accuracy: float


@dataclass(frozen=True)
class SemanticEvaluation(Evaluation):
    """The scores of a segmenter on a split.

    Args:
        scores: see :func:`delineate.metrics.semantic.semantic_scores`; "cells" where they were asked for, see
            :meth:`delineate.engine.cell_scoring.CellScoring.compute`.
        images: how each image did, in the data set's order.
        split: what was evaluated.
        data: its path.
        skipped: files of the data set that were left out.
    """

    images: tuple[ImageScore, ...]


def measure_labels(
    predictor: SemanticPredictor,
    data: Samples | str | Path,
    *,
    split: str = "val",
    boundary: bool = True,
    cells: str = "",
    batch_size: int = 4,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **refinement: Unpack[RefinementOptions],
) -> SemanticEvaluation:
    """Scores of a predictor on a data set; absent classes are NaN, ignored pixels do not count.

    An image of a mixture is given only classes that its data set labels. What the model takes for another class counts
    as background where the data set labels one, as it would have called it; else as the likeliest class it labels.

    Args:
        predictor: of label maps.
        data: an opened data set, or the folder of one.
        split: of a folder.
        boundary: also score boundaries (boundary F1), which takes a little longer.
        cells: also score how well images are cut into regions of this class, from the probabilities; takes longer.
        batch_size: images at a time.
        workers: reading processes.
        progress: called with (images done, images in all).
        refinement: ``tta``, ``crf``, ``superpixels``, ``islands``, ``holes``, see
            :class:`~delineate.postprocess.refinement.Refinement`.

    Raises:
        DataError: when the data set cannot be read or has other classes than the predictor.
        ArgumentError: when a refinement has another form.
        UnknownNameError: when ``cells`` is no class, or a refinement names what is not known; says the nearest.
    """
    predictor = predictor.refined(**refinement)
    path = ""
    if isinstance(data, str | Path):
        path = str(data)
        data = open_dataset(data, split=split, channels=predictor.preprocessing.channels)
    check_classes(predictor, data)
    taxonomy = predictor.taxonomy
    count, ignore = taxonomy.num_classes, data.taxonomy.ignore_index
    metric = SemanticScores(taxonomy.names, ignore_index=ignore, boundary=boundary)
    cell_scoring = CellScoring(replace(taxonomy, ignore_index=ignore), cells) if cells else None
    infer, cleaned = predictor.inference(), predictor.refinement.cleaned
    images: list[ImageScore] = []
    total = len(data)
    for batch in validation_batches(data, batch_size=batch_size, collate=SemanticCollate(ignore), workers=workers):
        for part in batch.unpadded():
            logits = marginal_logits(infer(part.images), part.valid_classes, rest_class=taxonomy.background)
            if cell_scoring is not None:
                cell_scoring.update(logits.softmax(1).cpu().numpy(), part.target.numpy())
            for index, decided, target in zip(part.indices, logits.argmax(1).cpu().numpy(), part.target, strict=True):
                prediction = torch.from_numpy(cleaned(decided, ignore_index=taxonomy.ignore_index))
                metric.update(prediction[None], target[None])
                own = semantic_scores(confusion_matrix(prediction, target, num_classes=count, ignore_index=ignore))
                images.append(ImageScore(index, data.stem(index), own["miou"], own["pixel_accuracy"]))
        if progress is not None:
            progress(len(images), total)
    own_scores = {} if cell_scoring is None else {"cells": cell_scoring.compute()}
    return SemanticEvaluation(
        scores=metric.compute() | own_scores,
        images=tuple(images),
        split=str(getattr(data, "split", split) or ""),
        data=path or str(getattr(data, "name", "")),
        skipped=tuple(getattr(data, "skipped", ())),
    )


def predicted_labels(
    predictor: SemanticPredictor, data: Samples, index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image ``(H, W, C)``, target and predicted labels ``(H, W)`` of one sample."""
    image, target = data.read(index)
    batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    valid = data.valid_classes(index)[None] if isinstance(data, MixedSamples) else None
    logits = marginal_logits(predictor.inference()(batch), valid, rest_class=predictor.taxonomy.background)
    labels = logits.argmax(1)[0].cpu().numpy()
    return image, target, predictor.refinement.cleaned(labels, ignore_index=predictor.taxonomy.ignore_index)

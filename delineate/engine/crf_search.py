"""The dense CRF's parameters that suit a model and its data: a grid search on validation images, coarse to fine.

Source: Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", ICLR 2015,
section 5: weight and both deviations of the bilateral kernel on 100 validation images, 10 iterations, the Gaussian
kernel fixed at weight 3 and deviation 3, then smaller steps around the best.
Differs: a coarser first grid over the same range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import Subset

from delineate.checks import require
from delineate.data.batches import SemanticCollate
from delineate.data.mixture import open_mixture
from delineate.data.samples import Samples
from delineate.engine.evaluation import check_classes
from delineate.engine.loading import validation_batches
from delineate.engine.predictors import load
from delineate.engine.recipe import build_recipe, read_recipe
from delineate.engine.run import Run, open_run
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.stages import final_recipe
from delineate.files import write_json
from delineate.losses.partial_labels import marginal_logits
from delineate.metrics.semantic import semantic_scores
from delineate.ops.confusion import confusion_matrix
from delineate.postprocess.dense_crf import DenseCRF
from delineate.postprocess.refinement import crf_parameters, log_probs

WRITTEN = "crf.json"
Number = int | float


@dataclass(frozen=True)
class CRFGrid:
    """The values to try; every combination of them is one trial.

    Args:
        bilateral_weight: of the kernel of distance and colour.
        bilateral_sigma_xy: its standard deviations in pixels.
        bilateral_sigma_rgb: its standard deviations in grey levels, of 0..255.
        gaussian_weight: of the kernel of distance alone.
        gaussian_sigma: its standard deviations in pixels.
        iterations: of every trial.

    Raises:
        ArgumentError: when a parameter has no value, or one below 0.

    Example:
        >>> len(CRFGrid().trials())
        24
    """

    bilateral_weight: Sequence[Number] = (5, 10)
    bilateral_sigma_xy: Sequence[Number] = (50, 75, 100)
    bilateral_sigma_rgb: Sequence[Number] = (3, 5, 7, 10)
    gaussian_weight: Sequence[Number] = (3,)
    gaussian_sigma: Sequence[Number] = (3,)
    iterations: int = 10

    def __post_init__(self) -> None:
        for name, values in self.values().items():
            require(len(values) > 0 and all(value >= 0 for value in values), name, "hold values of 0 or more", values)
            object.__setattr__(self, name, values)

    def values(self) -> dict[str, tuple[float, ...]]:
        """The values of each parameter, in order and none twice."""
        names = [field.name for field in fields(self) if field.name != "iterations"]
        return {name: tuple(sorted({float(value) for value in getattr(self, name)})) for name in names}

    def trials(self) -> list[DenseCRF]:
        """Every combination."""
        values = self.values()
        combinations = product(*values.values())
        return [
            DenseCRF(iterations=self.iterations, **cast(dict[str, Any], dict(zip(values, combination, strict=True))))
            for combination in combinations
        ]

    def around(self, best: DenseCRF) -> CRFGrid:
        """Half the steps: the best value of each parameter, and the middle between it and its neighbours.

        At an end of the grid the nearest step counts on both sides, so that a search can leave its range; a single
        value stays fixed.

        Example:
            >>> best = DenseCRF(bilateral_weight=5.0, bilateral_sigma_xy=75.0, bilateral_sigma_rgb=10.0)
            >>> CRFGrid().around(best).values()
            {'bilateral_weight': (2.5, 5.0, 7.5), 'bilateral_sigma_xy': (62.5, 75.0, 87.5),
             'bilateral_sigma_rgb': (8.5, 10.0, 11.5), 'gaussian_weight': (3.0,), 'gaussian_sigma': (3.0,)}
        """
        finer: dict[str, Any] = {}
        for name, values in self.values().items():
            middle = float(getattr(best, name))
            if len(values) < 2:
                finer[name] = values
                continue
            steps = [abs(value - middle) / 2 for value in values if value != middle]
            below = [(middle - value) / 2 for value in values if value < middle]
            above = [(value - middle) / 2 for value in values if value > middle]
            left, right = min(below, default=min(steps)), min(above, default=min(steps))
            finer[name] = [value for value in (middle - left, middle, middle + right) if value > 0 or value == middle]
        return replace(self, **finer)


@dataclass(frozen=True)
class CRFTrial:
    """What one set of parameters scored.

    Args:
        crf: the parameters; None for the predictions as they were.
        miou: mean IoU; NaN when every pixel is ignored.
        pixel_accuracy: NaN when every pixel is ignored.
    """

    crf: DenseCRF | None
    miou: float
    pixel_accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        scores = {"miou": self.miou, "pixel_accuracy": self.pixel_accuracy}
        return scores if self.crf is None else {**crf_parameters(self.crf), **scores}


@dataclass(frozen=True)
class CRFSearch:
    """The result of a search.

    Args:
        trials: all of them, the best mean IoU first.
        without: the same images without a CRF.
        images: how many were searched on.
        split: which they are of.
        data: its path.
    """

    trials: tuple[CRFTrial, ...]
    without: CRFTrial
    images: int
    split: str = ""
    data: str = ""

    @property
    def best(self) -> DenseCRF:
        """The parameters with the highest mean IoU."""
        assert self.trials[0].crf is not None
        return self.trials[0].crf

    def write(self, path: str | Path) -> None:
        """Write all of it as JSON, whole or not at all; ``--crf`` takes the file for its best parameters."""
        write_json(
            Path(path),
            {
                "crf": crf_parameters(self.best),
                "data": self.data,
                "split": self.split,
                "images": self.images,
                "without": self.without.to_dict(),
                "trials": [trial.to_dict() for trial in self.trials],
            },
        )


def search_crf(
    predictor: SemanticPredictor | str | Path,
    data: Samples,
    *,
    grid: CRFGrid | None = None,
    images: int = 100,
    rounds: int = 2,
    tta: str = "",
    batch_size: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> CRFSearch:
    """Try every combination of a grid on some images of a data set, then finer steps around the best.

    The model runs once an image and round, and no logits are kept: all combinations see an image before the next one is
    read. Search on other images than those that judge the result. Images of a mixture are judged as by
    :func:`~delineate.engine.evaluation.measure`.

    Args:
        predictor: a loaded one, or the run or weights to load.
        data: an opened data set.
        grid: of the first round; :class:`CRFGrid`'s own values when None.
        images: at most this many, spread evenly over the data set.
        rounds: the first grid, and how often its steps are halved around the best.
        tta: test-time augmentations before the CRF.
        batch_size: images at a time.
        progress: called with (refinements done, refinements in all).

    Raises:
        ArgumentError: when ``images`` or ``rounds`` is below 1, or no pixel of these images counts.
        DataError: when the data cannot be read or has other classes than the predictor.
    """
    require(images >= 1, "images", "be at least 1", images)
    require(rounds >= 1, "rounds", "be at least 1", rounds)
    ready = predictor if isinstance(predictor, SemanticPredictor) else load(predictor)
    require(isinstance(ready, SemanticPredictor), "predictor", "make label maps", f"a model of {ready.card.task}")
    check_classes(ready, data)
    count = min(images, len(data))
    chosen = [place * len(data) // count for place in range(count)]
    grid = grid or CRFGrid()
    finer = 3 ** sum(len(values) > 1 for values in grid.values().values()) - 1
    total, done = count * (len(grid.trials()) + (rounds - 1) * finer), 0

    def move() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, max(total, done))

    counts: dict[DenseCRF | None, torch.Tensor] = {None: torch.zeros(0)}
    waiting: list[DenseCRF | None] = [None]
    for _ in range(rounds):
        waiting += [crf for crf in grid.trials() if crf not in counts]
        counts |= _confusions(ready, data, chosen, waiting, tta=tta, batch_size=batch_size, move=move)
        trials = [_trial(crf, matrix) for crf, matrix in counts.items() if crf is not None]
        trials.sort(key=lambda trial: -trial.miou)
        advice = "Take more images, or another split."
        require(bool(counts[None].any()), "data", "have pixels that count", f"{count} images without", advice)
        assert trials[0].crf is not None
        grid, waiting = grid.around(trials[0].crf), []
    return CRFSearch(
        trials=tuple(trials),
        without=_trial(None, counts[None]),
        images=count,
        split=str(getattr(data, "split", "") or ""),
        data=str(getattr(data, "name", "")),
    )


def _confusions(
    predictor: SemanticPredictor,
    data: Samples,
    chosen: Sequence[int],
    crfs: Iterable[DenseCRF | None],
    *,
    tta: str,
    batch_size: int,
    move: Callable[[], None],
) -> dict[DenseCRF | None, torch.Tensor]:
    """The confusion matrix of each CRF over the chosen images."""
    classes, ignore = predictor.taxonomy.num_classes, data.taxonomy.ignore_index
    counts = {crf: torch.zeros(classes, classes, dtype=torch.int64) for crf in crfs}
    infer, rest_class = predictor.refined(tta=tta, crf="", superpixels="").inference(), predictor.taxonomy.background
    subset = cast(Samples, Subset(cast(Any, data), chosen))
    for batch in validation_batches(subset, batch_size=batch_size, collate=SemanticCollate(ignore)):
        for part in batch.unpadded():
            logits = infer(part.images).cpu()
            for crf, matrix in counts.items():
                scores = logits if crf is None else log_probs(crf(part.images, logits))
                labels = marginal_logits(scores, part.valid_classes, rest_class=rest_class).argmax(1)
                matrix += confusion_matrix(labels, part.target, num_classes=classes, ignore_index=ignore)
                for _ in part.indices if crf is not None else ():
                    move()
    return counts


def _trial(crf: DenseCRF | None, matrix: torch.Tensor) -> CRFTrial:
    scores = semantic_scores(matrix)
    return CRFTrial(crf, scores["miou"], scores["pixel_accuracy"])


def tune_crf(
    run: Run | str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> CRFSearch:
    """:func:`search_crf` for a run on its own data, or other; writes the result for ``--crf``.

    Args:
        run: the run or its folder.
        data: a data set's folder; the run's own when left out.
        split: of the data; the run's validation split when left out.
        out: the file; ``crf.json`` in the run's folder when left out.
        options: as of :func:`search_crf`.

    Raises:
        RunError: when the folder is no run or has no weights yet.
        DataError: when the data cannot be read or has other classes.
    """
    run = run if isinstance(run, Run) else open_run(run)
    read = final_recipe(build_recipe(read_recipe(run.recipe))).data
    dataset = open_mixture(
        data or read.path,
        split=split or read.val_split,
        classes=read.classes if data is None else None,
        format=read.format if data is None else "auto",
        on_error=read.on_error,
        channels=read.channels,
    )
    found = search_crf(run.path, dataset, **options)
    found.write(run.path / WRITTEN if out is None else out)
    return found

"""The report of a semantic segmentation run: scores, curves, and the images that explain them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch

from delineate.data.samples import Samples
from delineate.engine.predictor import displayed
from delineate.engine.semantic_evaluation import ImageScore, SemanticEvaluation, measure_labels, predicted_labels
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.postprocess.dense_crf import DenseCRF
from delineate.postprocess.refinement import (
    Refine,
    Refinement,
    RefinementOptions,
    crf_parameters,
    superpixel_parameters,
)
from delineate.postprocess.superpixels import SuperpixelVoting
from delineate.report.page import Example, ReportContent, write_report
from delineate.report.reported import ReportedRun
from delineate.report.run_facts import Fact, data_facts, data_name, environment, left_out, run_facts

EXAMPLES = 4  # images in each of the three groups


def report_labels(
    reported: ReportedRun,
    *,
    boundary: bool = True,
    cells: str = "",
    tta: str = "",
    crf: str | Refine = "",
    superpixels: str | Refine = "",
    islands: int = 0,
    holes: int = 0,
) -> SemanticEvaluation:
    """Measure label maps, write ``metrics.json`` and ``report.html``, and return the scores.

    Args:
        reported: the run, its data and where files go.
        boundary: also score boundaries.
        cells: the class whose regions are scored as cells, see
            :func:`~delineate.engine.semantic_evaluation.measure_labels`.
        tta: views whose answers are fused, see :class:`~delineate.postprocess.refinement.Refinement`.
        crf: the dense CRF behind the model.
        superpixels: that vote.
        islands: regions of fewer pixels are removed.
        holes: holes of at most so many pixels are filled.

    Raises:
        DataError: when the data cannot be read or has other classes.
        ArgumentError: when a refinement has another form.
        UnknownNameError: when ``cells`` is no class, or a refinement names what is not known; says the nearest.
    """
    run, recipe, dataset, read = reported.run, reported.recipe, reported.dataset, reported.recipe.data
    refinement: RefinementOptions = {"tta": tta, "crf": crf, "superpixels": superpixels}
    refinement |= {"islands": islands, "holes": holes}
    predictor: SemanticPredictor = reported.predictor.refined(**refinement)
    evaluation = measure_labels(
        predictor, dataset, boundary=boundary, cells=cells, batch_size=read.val_batch_size, progress=reported.progress
    )
    evaluation.write(reported.folder / run.metrics.name)
    sessions = run.read_environment().get("sessions", [{}])
    taxonomy = predictor.taxonomy
    facts = run_facts(recipe, reported.whole, predictor, sessions) + _refinement_facts(predictor.refinement)
    if cells:
        facts.append((f"Cells of '{cells}'", cells_in_words(evaluation.scores["cells"])))
    skipped = list(dict.fromkeys([*sessions[-1].get("skipped", []), *evaluation.skipped]))
    content = ReportContent(
        title=f"{recipe.model['name']} on {data_name(read, reported.data)}",
        facts=facts,
        scores=evaluation.scores,
        class_names=taxonomy.names,
        colours=taxonomy.colours,
        ignore_index=dataset.taxonomy.ignore_index,
        background=taxonomy.background,
        curves={name: points for name, points in run.read_curves().items() if points},
        examples=_examples(predictor, dataset, evaluation, seed=recipe.trainer.seed),
        data_facts=data_facts(reported, evaluation.split, len(evaluation.images), taxonomy.num_classes),
        environment=environment(sessions[-1]),
        warnings=[left_out(len(skipped))] if skipped else [],
        skipped=skipped,
    )
    write_report(reported.folder / run.report.name, content)
    return evaluation


def cells_in_words(cells: Mapping[str, Any]) -> str:
    """The scores of cells in one line, from what :meth:`CellScoring.compute` returns; undefined ones are n/a.

    Example:
        >>> scores = {"rand": 0.93, "rand_split": 0.95, "rand_merge": 0.91, "information": 0.97, "threshold": 0.45}
        >>> cells_in_words({**scores, "pixel_error": 0.0612})
        'Rand F 0.9300 at threshold 0.45, split 0.9500, merge 0.9100, information 0.9700, pixel error 0.0612'
    """
    parts = [
        ("Rand F {:.4f}", "rand"),
        (" at threshold {:.2f}", "threshold"),
        (", split {:.4f}", "rand_split"),
        (", merge {:.4f}", "rand_merge"),
        (", information {:.4f}", "information"),
        (", pixel error {:.4f}", "pixel_error"),
    ]
    return "".join(text.format(cells[key]) for text, key in parts).replace("nan", "n/a")


def _examples(
    predictor: SemanticPredictor, dataset: Samples, evaluation: SemanticEvaluation, *, seed: int
) -> list[Example]:
    """The best, the worst and some other images, predicted again so that no prediction is kept for all."""
    known = [image for image in evaluation.images if not math.isnan(image.miou)]
    ranked = sorted(known, key=lambda image: image.miou)
    worst = ranked[: min(EXAMPLES, len(ranked) // 2)]
    best = ranked[::-1][: min(EXAMPLES, len(ranked) - len(worst))]
    rest = [image for image in evaluation.images if image not in worst and image not in best]
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed)).tolist()
    drawn = [rest[place] for place in order[:EXAMPLES]]
    examples = []
    groups: dict[Literal["best", "worst", "random"], list[ImageScore]] = {"best": best, "worst": worst, "random": drawn}
    for group, images in groups.items():
        for image in images:
            pixels, target, labels = predicted_labels(predictor, dataset, image.index)
            shown = displayed(pixels)
            examples.append(Example(group, image.name, shown, target, labels, image.miou, image.pixel_accuracy))
    return examples


def _refinement_facts(refinement: Refinement) -> list[Fact]:
    """What was done to the model's answers, by all its parameters."""
    facts = [("Test-time augmentation", refinement.tta)] if refinement.tta else []
    facts += [step_fact(step) for step in refinement.steps]
    if refinement.islands:
        facts.append(("Islands removed", f"fewer than {refinement.islands:,} pixels"))
    if refinement.holes:
        facts.append(("Holes filled", f"at most {refinement.holes:,} pixels"))
    return facts


def step_fact(step: Refine) -> Fact:
    """What a step of refinement is called, and its parameters."""
    if isinstance(step, DenseCRF):
        return "Dense CRF", _listed(crf_parameters(step))
    if isinstance(step, SuperpixelVoting):
        return "Superpixels", f"{step.method}, {_listed(superpixel_parameters(step))}"
    return "Refined by", getattr(step, "__name__", type(step).__name__)


def _listed(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())

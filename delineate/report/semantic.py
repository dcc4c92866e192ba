"""The report of a semantic segmentation run: scores, curves, and the images that explain them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Unpack

import msgspec
import torch

from delineate.data.mixture import open_mixture
from delineate.data.samples import Samples
from delineate.engine.evaluation import Evaluation, ImageScore, measure, predicted_labels
from delineate.engine.predictor import Predictor, displayed, load
from delineate.engine.recipe import Recipe, build_recipe, read_recipe
from delineate.engine.recipe_sections import DataRecipe
from delineate.engine.run import Run, open_run
from delineate.engine.stages import final_recipe, stage_recipes
from delineate.models.catalogue import model_options
from delineate.postprocess.dense_crf import DenseCRF
from delineate.postprocess.refinement import (
    DEFAULT,
    Refine,
    Refinement,
    RefinementOptions,
    crf_parameters,
    superpixel_parameters,
)
from delineate.postprocess.superpixels import SuperpixelVoting
from delineate.report.page import Example, Fact, ReportContent, write_report

EXAMPLES = 4  # images in each of the three groups


def report_run(
    run: Run | str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    boundary: bool = True,
    cells: str = "",
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **refinement: Unpack[RefinementOptions],
) -> Evaluation:
    """Evaluate a run, write ``metrics.json`` and ``report.html``, and return the scores.

    Args:
        run: the run or its folder.
        data: a data set's folder; the run's own when left out.
        split: of the data; the run's validation split when left out.
        boundary: also score boundaries.
        cells: the class whose regions are scored as cells, see :func:`~delineate.engine.evaluation.measure`.
        out: the folder of both files, made where it is missing; :func:`report_folder` when left out.
        progress: called with (images done, images in all).
        refinement: ``tta``, ``crf``, ``superpixels``, ``islands``, ``holes``, see
            :class:`~delineate.postprocess.refinement.Refinement`.

    Raises:
        RunError: when the folder is no run or has no weights yet.
        DataError: when the data cannot be read or has other classes.
        ArgumentError: when a refinement has another form.
        UnknownNameError: when ``cells`` is no class, or a refinement names what is not known; says the nearest.
    """
    run = run if isinstance(run, Run) else open_run(run)
    whole = build_recipe(read_recipe(run.recipe))
    recipe = final_recipe(whole)
    predictor = load(run.path).refined(**refinement)
    read = recipe.data
    dataset = open_mixture(
        data or read.path,
        split=split or read.val_split,
        classes=read.classes if data is None else None,
        format=read.format if data is None else "auto",
        on_error=read.on_error,
        channels=read.channels,
    )
    evaluation = measure(
        predictor, dataset, boundary=boundary, cells=cells, batch_size=read.val_batch_size, progress=progress
    )
    folder = report_folder(run, data=data, split=split, **refinement) if out is None else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.write(folder / run.metrics.name)
    sessions = run.read_environment().get("sessions", [{}])
    taxonomy = predictor.taxonomy
    scheduled = recipe.schedule.name
    facts: list[Fact] = [
        ("Model", _named(_chosen(recipe.model))),
        ("Parameters", f"{sum(p.numel() for p in predictor.model.parameters()):,}"),
        ("Loss", " + ".join(_named(loss) for loss in recipe.loss)),
        ("Optimizer", f"{recipe.optimizer.name}, peak rate {recipe.optimizer.lr:g}, {scheduled} schedule"),
        ("Batch", f"{read.batch_size} images of {_size(recipe.augmentation.get('crop'))}"),
        ("Augmentation", str(recipe.augmentation.get("preset"))),
        *_training_facts(recipe),
        *_origin_facts(whole),
        ("Epochs", str(recipe.trainer.max_epochs)),
        ("Seed", str(recipe.trainer.seed)),
        ("Precision", str(sessions[-1].get("precision", predictor.precision))),
        ("Training time", _duration(sum(session.get("seconds", 0.0) for session in sessions))),
        ("Sessions", str(len(sessions))),
    ]
    facts += _refinement_facts(predictor.refinement)
    if cells:
        facts.append((f"Cells of '{cells}'", cells_in_words(evaluation.scores["cells"])))
    skipped = list(dict.fromkeys([*sessions[-1].get("skipped", []), *evaluation.skipped]))
    content = ReportContent(
        title=f"{recipe.model['name']} on {_data_name(read, data)}",
        facts=facts,
        scores=evaluation.scores,
        class_names=taxonomy.names,
        colours=taxonomy.colours,
        ignore_index=dataset.taxonomy.ignore_index,
        background=taxonomy.background,
        curves={name: points for name, points in run.read_curves().items() if points},
        examples=_examples(predictor, dataset, evaluation, seed=recipe.trainer.seed),
        data_facts=[
            ("Path", str(data or ", ".join(read.paths))),
            ("Evaluated split", f"{evaluation.split}, {len(evaluation.images)} images"),
            ("Training images", str(sessions[-1].get("train_images", "unknown"))),
            ("Classes", str(taxonomy.num_classes)),
        ],
        environment=_environment(sessions[-1]),
        warnings=[_left_out(len(skipped))] if skipped else [],
        skipped=skipped,
    )
    write_report(folder / run.report.name, content)
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


def report_folder(
    run: Run,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    **refinement: Unpack[RefinementOptions],
) -> Path:
    """Where the report of an evaluation goes when nobody says: a run's own scores are not overwritten by others.

    Returns:
        The run's folder for its own validation split; ``evaluations/<data>-<split>`` inside it for anything else, with
        the refinement behind it.
    """
    own = final_recipe(build_recipe(read_recipe(run.recipe))).data
    if data is None and split in (None, own.val_split) and not any(refinement.values()):
        return run.path
    named = [_data_name(own, data), split or own.val_split, *refinement.get("tta", "").replace(" ", "").split(",")]
    if crf := refinement.get("crf"):
        named += ["crf", _file_name(crf)]
    if superpixels := refinement.get("superpixels"):
        named += ["superpixels", _file_name(superpixels)]
    if islands := refinement.get("islands"):
        named += ["islands", str(islands)]
    if holes := refinement.get("holes"):
        named += ["holes", str(holes)]
    return run.path / "evaluations" / "-".join(part for part in named if part)


def _file_name(step: str | Refine) -> str:
    """What a step adds to a folder's name: nothing by default, a file's stem, or its parameters."""
    text = (step if isinstance(step, str) else _step_fact(step)[1]).strip()
    if text.lower().endswith(".json"):
        return Path(text).stem.removeprefix("crf").strip("-")
    return "" if text.lower() == DEFAULT else re.sub(r"[^\w.]+", "-", text)


def _training_facts(recipe: Recipe) -> list[Fact]:
    """What training did beyond the ordinary: a fact for each of it that the recipe asks for."""
    facts: list[Fact] = []
    if recipe.data.sampling != "uniform":
        facts.append(("Sampling", recipe.data.sampling.replace("_", " ")))
    for key, name in (("cutmix", "CutMix"), ("copy_paste", "Copy-paste")):
        if share := recipe.augmentation.get(key, 0):
            facts.append((name, f"{100 * share:g} % of the images"))
    if (adversary := recipe.adversarial) is not None:
        after = f", after {adversary.after_epochs} epochs" if adversary.after_epochs else ""
        facts.append(("Adversary", f"{adversary.input}, weight {adversary.weight:g}{after}"))
    return facts


def _origin_facts(whole: Recipe) -> list[Fact]:
    """In how many stages the weights came about, and what the first one began with, where the recipe says so."""
    facts: list[Fact] = [("Stages", str(len(whole.stages)))] if whole.stages else []
    if weights := stage_recipes(whole)[0].start.weights:
        facts.append(("Starting weights", weights))
    return facts


def _refinement_facts(refinement: Refinement) -> list[Fact]:
    """What was done to the model's answers, by all its parameters."""
    facts = [("Test-time augmentation", refinement.tta)] if refinement.tta else []
    facts += [_step_fact(step) for step in refinement.steps]
    if refinement.islands:
        facts.append(("Islands removed", f"fewer than {refinement.islands:,} pixels"))
    if refinement.holes:
        facts.append(("Holes filled", f"at most {refinement.holes:,} pixels"))
    return facts


def _step_fact(step: Refine) -> Fact:
    if isinstance(step, DenseCRF):
        return "Dense CRF", _listed(crf_parameters(step))
    if isinstance(step, SuperpixelVoting):
        return "Superpixels", f"{step.method}, {_listed(superpixel_parameters(step))}"
    return "Refined by", getattr(step, "__name__", type(step).__name__)


def _listed(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def _data_name(own: DataRecipe, data: str | Path | None) -> str:
    """The folder's name, or the run's own data's."""
    return own.name if data is None else Path(data).resolve().name


def _examples(predictor: Predictor, dataset: Samples, evaluation: Evaluation, *, seed: int) -> list[Example]:
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


def _environment(session: dict[str, Any]) -> list[Fact]:
    libraries = session.get("libraries", {})
    named = ("time", "processor", "cores", "gpu", "platform", "python", "command", "revision")
    facts = [(name, str(session[name])) for name in named if session.get(name) is not None]
    return [*facts, ("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items() if version))]


def _chosen(model: dict[str, Any]) -> dict[str, Any]:
    """The model with its encoder and what else is not as by default: the recipe says the rest."""
    defaults = msgspec.json.decode(msgspec.json.encode(model_options(model["name"])))  # lists, as in a recipe
    return {key: value for key, value in model.items() if key in ("name", "encoder") or value != defaults.get(key)}


def _named(part: dict[str, Any]) -> str:
    """A model or a loss with its options, and the weight where that is not one."""
    weight = part.get("weight", 1)
    options = ", ".join(f"{key}={value}" for key, value in part.items() if key not in ("name", "weight"))
    return ("" if weight == 1 else f"{weight:g} x ") + part["name"] + (f" ({options})" if options else "")


def _left_out(count: int) -> str:
    if count == 1:
        return "1 file could not be read and was left out."
    return f"{count} files could not be read and were left out."


def _size(crop: Any) -> str:
    return f"{crop[0]} x {crop[1]} pixels" if crop else "full size"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

"""Files in, files out: what ``delineate predict`` does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delineate.engine.object_predictor import ObjectOptions
from delineate.engine.predictor import Predictor, image_files
from delineate.engine.predictors import loaded
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.streams import in_order
from delineate.errors import DataError
from delineate.files import replaced_file, write_text
from delineate.postprocess.refinement import RefinementOptions
from delineate.registry import unknown_name
from delineate.structures.detections import Detections
from delineate.structures.semantic_map import SemanticMap

MASKS, OVERLAYS, RESULTS = "masks", "overlays", "predictions.json"
LARGEST_JPEG = 65_500  # pixels a side that libjpeg writes


@dataclass(frozen=True)
class WrittenPredictions:
    """What was written.

    Args:
        count: images predicted.
        failures: one line for each file that could not be read.
    """

    count: int
    failures: tuple[str, ...] = field(default=())


def predict_files(
    predictor: Predictor | str | Path,
    images: Iterable[str | Path],
    *,
    out: str | Path,
    tile: int | None = None,
    overlap: int = 64,
    overlays: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> WrittenPredictions:
    """Predict image files; ``out`` gets ``overlays/*.jpg``, ``predictions.json`` (COCO), of segmenters ``masks/*.png``.

    A file that cannot be read is named in the result and the others go on. Masks and overlays of an earlier call in
    ``out``, which its ``predictions.json`` names, are removed first; results are never taken for images when ``out``
    lies in a folder of them. An overlay too long for a JPEG is a PNG.

    Args:
        predictor: a loaded one, or the run or weights to load.
        images: files, folders or globs.
        out: the folder to write to.
        tile: work in squares of this many pixels, see :meth:`Predictor.predict`.
        overlap: pixels that neighbouring tiles share.
        overlays: whether to write pictures.
        progress: called with (images done, images in all).
        options: of segmenters ``tta``, ``crf``, ``superpixels``, ``islands`` and ``holes``, of detectors
            ``score_threshold``, ``iou_threshold``, ``most`` and ``specific``; see the ``predict`` of either predictor.

    Raises:
        DataError: when ``images`` names no file, or ``out`` holds masks or overlays that are not of this making.
        ArgumentError: when a tile is not larger than its overlap, or a refinement has another form.
    """
    folder = Path(out)
    files = _without_results(image_files(images), folder)
    predictor = loaded(predictor)
    known = (RefinementOptions if isinstance(predictor, SemanticPredictor) else ObjectOptions).__annotations__
    for option in options:
        if option not in known:
            raise unknown_name(f"option of a model of {predictor.card.task}", option, known)
    if isinstance(predictor, SemanticPredictor):
        predictor, options = predictor.refined(**options), {}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    failures: list[str] = []
    named = list(zip(files, _names(files), strict=True))

    def attempt(one: tuple[Path, str]) -> SemanticMap | Detections | DataError:
        file, name = one
        try:
            return predictor.predict(file, tile=tile, overlap=overlap, name=name, **options)
        except DataError as error:
            return error

    results = in_order(attempt, named, at_once=predictor.at_once(tile=tile))
    for number, ((file, name), result) in enumerate(zip(named, results, strict=True), start=1):
        if isinstance(result, DataError):
            failures.append(str(result))
        else:
            if not entries:  # not sooner: options that predict nothing leave the earlier results alone
                _begin(folder)
            if isinstance(result, SemanticMap):
                with replaced_file(folder / MASKS / f"{name}.png") as temporary:
                    result.to_png(temporary)
            if overlays:
                picture = result.plot()
                suffix = "jpg" if max(picture.size) <= LARGEST_JPEG else "png"
                with replaced_file(folder / OVERLAYS / f"{name}.{suffix}") as temporary:
                    picture.save(temporary, quality=92)
            entries.append({"id": number, "file_name": str(file), **_described(result, name)})
            annotations += [{"id": len(annotations) + i, **a} for i, a in enumerate(result.to_coco(number), start=1)]
        if progress is not None:
            progress(number, len(files))
    if not entries:
        if (folder / RESULTS).exists():  # nothing was predicted that could replace what is there
            return WrittenPredictions(0, tuple(failures))
        _begin(folder)
    categories = [
        {"id": label, "name": name, "color": list(colour)}
        for label, (name, colour) in enumerate(zip(predictor.taxonomy.names, predictor.taxonomy.colours, strict=True))
    ]
    coco = {"images": entries, "annotations": annotations, "categories": categories}
    write_text(folder / RESULTS, json.dumps(coco) + "\n")
    return WrittenPredictions(len(entries), tuple(failures))


def _described(result: SemanticMap | Detections, name: str) -> dict[str, Any]:
    """The size of a result, and which of the written files are its own."""
    if isinstance(result, Detections):
        return {"height": result.size[0], "width": result.size[1], "name": name}
    height, width = result.labels.shape
    return {"height": height, "width": width, "mask_file": f"{MASKS}/{name}.png"}


def _without_results(files: list[Path], out: Path) -> list[Path]:
    """``files`` without what an earlier call wrote to ``out``; refuses an ``out`` with masks of another origin."""
    folders = [out / MASKS, out / OVERLAYS]
    foreign = next((folder for folder in folders if folder.is_dir() and any(folder.iterdir())), None)
    if foreign is not None and not (out / RESULTS).is_file():
        raise DataError(
            f"out must be a new folder or one with earlier predictions; got '{out}', whose '{foreign.name}' folder "
            f"holds other files. Choose another, so that they are not overwritten."
        )
    results = {folder.resolve() for folder in folders}
    kept = [file for file in files if file.parent.resolve() not in results]
    if not kept:
        raise DataError(f"image must name a file besides the predictions in out; got only those in '{out}'.")
    return kept


def _begin(out: Path) -> None:
    """Make ``out`` a folder of results without any: written first, they say whose masks these are, should work stop."""
    _remove_results(out)
    write_text(out / RESULTS, json.dumps({"images": [], "annotations": [], "categories": []}) + "\n")


def _remove_results(out: Path) -> None:
    """Remove the masks that an earlier call's results in ``out`` name, and their overlays; nothing else."""
    try:
        entries = json.loads((out / RESULTS).read_text(encoding="utf-8"))["images"]
        masks = [Path(e["mask_file"] if "mask_file" in e else f"{MASKS}/{e['name']}.png") for e in entries]
    except (OSError, ValueError, LookupError, TypeError):  # none, or not of this making
        return
    for mask in masks:
        if mask.parts == (MASKS, mask.name) and mask.suffix == ".png":
            (out / mask).unlink(missing_ok=True)
            for suffix in ("jpg", "png"):
                (out / OVERLAYS / f"{mask.stem}.{suffix}").unlink(missing_ok=True)


def _names(files: list[Path]) -> list[str]:
    """A file name for each result: the stem, with the folder's name before it where two stems are the same."""
    stems = Counter(file.stem for file in files)
    names: dict[str, None] = {}
    for file in files:
        stem, number = file.stem, 2
        name = stem if stems[stem] == 1 else f"{file.resolve().parent.name}_{stem}{file.suffix.replace('.', '_')}"
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names[name] = None
    return list(names)

"""Files in, files out: what ``delineate predict`` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delineate.engine.predictor import Predictor, image_files, load
from delineate.errors import DataError
from delineate.files import replaced_file, write_text


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
    tta: str = "",
    overlays: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> WrittenPredictions:
    """Predict image files; ``out`` gets ``masks/*.png`` (ids), ``overlays/*.jpg`` and ``predictions.json`` (COCO).

    A file that cannot be read is named in the result and the others go on.

    Args:
        predictor: a loaded one, or the run or weights to load.
        images: files, folders or globs.
        out: the folder to write to.
        tile: work in squares of this many pixels, see :meth:`Predictor.predict`.
        overlap: pixels that neighbouring tiles share.
        tta: test-time augmentations, such as "flip,scale".
        overlays: whether to write pictures.
        progress: called with (images done, images in all).
    """
    files = image_files(images)
    if not isinstance(predictor, Predictor):
        predictor = load(predictor)
    folder = Path(out)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    failures: list[str] = []
    for number, (file, name) in enumerate(zip(files, _names(files), strict=True), start=1):
        try:
            result = predictor.predict(file, tile=tile, overlap=overlap, tta=tta, name=name)
        except DataError as error:
            failures.append(str(error))
        else:
            with replaced_file(folder / "masks" / f"{name}.png") as temporary:
                result.to_png(temporary)
            if overlays:
                with replaced_file(folder / "overlays" / f"{name}.jpg") as temporary:
                    result.plot().save(temporary, quality=92)
            height, width = result.labels.shape
            entries.append({"id": number, "file_name": str(file), "height": height, "width": width})
            annotations += [{"id": len(annotations) + i, **a} for i, a in enumerate(result.to_coco(number), start=1)]
        if progress is not None:
            progress(number, len(files))
    categories = [
        {"id": label, "name": name, "color": list(colour)}
        for label, (name, colour) in enumerate(zip(predictor.taxonomy.names, predictor.taxonomy.colours, strict=True))
    ]
    coco = {"images": entries, "annotations": annotations, "categories": categories}
    write_text(folder / "predictions.json", json.dumps(coco) + "\n")
    return WrittenPredictions(len(entries), tuple(failures))


def _names(files: list[Path]) -> list[str]:
    """A file name for each result: the stem, with the folder's name before it where two stems are the same."""
    stems = [file.stem for file in files]
    names: list[str] = []
    for file, stem in zip(files, stems, strict=True):
        name = stem if stems.count(stem) == 1 else f"{file.resolve().parent.name}_{stem}{file.suffix.replace('.', '_')}"
        number = 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names

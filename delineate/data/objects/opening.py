"""True and predicted objects by their path: the format is recognised, or the error says what was looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from delineate.data.objects import coco_json, instance_maps, json_lines, shards, voc_text, voc_xml, yolo
from delineate.data.objects.coco_json import Columns
from delineate.errors import DataError
from delineate.registry import Registry
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def _of(path: Path, columns: Columns, *held: Columns) -> Path:
    """``path``, whose format holds these and no other columns."""
    if columns not in held:
        raise DataError(f"{columns} must be in a format that has them; got {path}. COCO JSON has them.")
    return path


TRUTH_FORMATS: Registry[Callable[[Path, Columns], Annotations]] = Registry(
    "truth format",
    {
        "coco": lambda path, columns: coco_json.read_truth(path, columns=columns),
        "instance-maps": lambda path, columns: instance_maps.read_truth(_of(path, columns, "boxes", "masks")),
        "voc": lambda path, columns: voc_xml.read_truth(_of(path, columns, "boxes")),
        "yolo": lambda path, columns: yolo.read_truth(
            _of(path, columns, "boxes", "masks"), columns="masks" if columns == "masks" else "boxes"
        ),
    },
)
PREDICTION_FORMATS: Registry[Callable[[Path, Annotations, Columns], Objects]] = Registry(
    "prediction format",
    {
        "coco": lambda path, truth, columns: coco_json.read_predictions(path, truth, columns=columns),
        "instance-maps": lambda path, truth, columns: instance_maps.read_predictions(
            _of(path, columns, "boxes", "masks"), truth
        ),
        "json-lines": lambda path, truth, columns: json_lines.read_predictions(path, truth, columns=columns),
        "shards": lambda path, truth, columns: shards.read_predictions(path, truth, columns=columns),
        "voc": lambda path, truth, columns: voc_text.read_predictions(_of(path, columns, "boxes"), truth),
        "yolo": lambda path, truth, columns: yolo.read_predictions(
            _of(path, columns, "boxes", "masks"), truth, columns="masks" if columns == "masks" else "boxes"
        ),
        "text-xyxy": lambda path, truth, columns: voc_text.read_predictions_by_image(
            _of(path, columns, "boxes"), truth, box_format="xyxy"
        ),
        "text-xywh": lambda path, truth, columns: voc_text.read_predictions_by_image(
            _of(path, columns, "boxes"), truth, box_format="xywh"
        ),
        "text-relative": lambda path, truth, columns: voc_text.read_predictions_by_image(
            _of(path, columns, "boxes"), truth, box_format="cxcywh_relative"
        ),
    },
)


def open_truth(
    path: str | Path, *, columns: Columns = "boxes", format: str = "auto", split: str | None = None
) -> Annotations:
    """Images, classes and true objects.

    Args:
        path: a COCO JSON file, a folder of VOC XML files (or a VOC root), a YOLO folder, or a folder
            of instance maps.
        columns: what is to be compared.
        format: one of :data:`TRUTH_FORMATS`, or "auto" to go by what lies there.
        split: of a VOC root, the images that ``ImageSets/Main/<split>.txt`` lists; all when left out.

    Raises:
        DataError: when nothing lies there, it is none of these, or it cannot be read.
        UnknownNameError: on an unknown format.
    """
    path = _existing(path, "ground truth")
    chosen = _truth_format(path) if format == "auto" else format
    if split is None:
        return TRUTH_FORMATS[chosen](path, columns)
    if chosen != "voc":
        raise DataError(
            f"split must be left out but for a VOC root; got '{split}' for {path}. Name the split's own files."
        )
    return voc_xml.read_truth(_of(path, columns, "boxes"), images=voc_xml.split_images(path, split))


def open_predictions(
    path: str | Path,
    truth: Annotations,
    *,
    columns: Columns = "boxes",
    format: str = "auto",
    class_agnostic: bool = False,
) -> Objects:
    """Predicted objects.

    Args:
        path: a COCO results JSON file, JSON Lines (``.jsonl``, perhaps ``.gz``), a folder of ``.npz`` shards, of VOC
            result files, of text files, one an image, or of instance maps.
        truth: what they refer to.
        columns: what is to be compared.
        format: one of :data:`PREDICTION_FORMATS`, or "auto" to go by what lies there.
        class_agnostic: take all classes as one; instance maps, which say none, then fit any truth.

    Raises:
        DataError: when nothing lies there, it is none of these, or it cannot be read.
        UnknownNameError: on an unknown format.
    """
    path = _existing(path, "predictions")
    chosen = _prediction_format(path) if format == "auto" else format
    listed = truth.class_agnostic() if class_agnostic and chosen == "instance-maps" else truth
    found = PREDICTION_FORMATS[chosen](path, listed, columns)
    return found.class_agnostic() if class_agnostic else found


def prediction_blocks(
    path: str | Path, truth: Annotations, *, columns: Columns = "boxes", format: str = "auto"
) -> Iterator[Objects] | None:
    """Predicted objects in parts, in order, of the formats that are read so (JSON Lines, shards); None of others.

    Raises:
        DataError: as :func:`open_predictions`, some of it only when the parts are taken.
        UnknownNameError: on an unknown format.
    """
    path = _existing(path, "predictions")
    chosen = _prediction_format(path) if format == "auto" else format
    PREDICTION_FORMATS[chosen]  # an unknown name is an error
    streamed = {"json-lines": json_lines.prediction_blocks, "shards": shards.prediction_blocks}
    return streamed[chosen](path, truth, columns=columns) if chosen in streamed else None


def _existing(path: str | Path, what: str) -> Path:
    try:
        path = Path(path).expanduser()
    except RuntimeError:  # a home that nobody has
        path = Path(path)
    if not path.exists():
        raise DataError(f"{what} must be a file or a folder; got nothing at {path}. Check the name.")
    return path


def _truth_format(path: Path) -> str:
    if path.is_file():
        if path.suffix.lower() == ".json":
            return "coco"
        raise DataError(f"ground truth must be COCO JSON, a VOC folder or a YOLO folder; got the file {path}.")
    if (path / "Annotations").is_dir() or any(path.glob("*.xml")):
        return "voc"
    if (path / "labels").is_dir() or any(path.glob("*.txt")) or any(path.glob("*.yaml")):
        return "yolo"
    if _pictures(path):
        return "instance-maps"
    listed = sorted(path.rglob("*.json"))
    advice = f" Name one of its JSON files, {listed[0]} say." if listed else ""
    raise DataError(
        f"ground truth must be COCO JSON, a folder of VOC .xml or of YOLO labels/*.txt; got {path} with none.{advice}"
    )


def _prediction_format(path: Path) -> str:
    if path.is_file():
        name = path.name.lower()
        if name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
            return "json-lines"
        if name.endswith(".json"):
            return "coco"
        raise DataError(
            f"predictions must be COCO results (.json), JSON Lines (.jsonl) or a folder; got the file {path}."
        )
    if any(path.glob("*.npz")):
        return "shards"
    texts = sorted(path.glob("*.txt"))
    if not texts and (path / "labels").is_dir():
        return "yolo"
    if any("_det_" in text.name for text in texts):
        return "voc"
    if texts:
        raise DataError(
            f"predictions must be of a known format; got text files in {path}, which may mean several things. "
            "Say --prediction-format voc (a file for each class), yolo, text-xyxy, text-xywh or text-relative."
        )
    if _pictures(path):
        return "instance-maps"
    listed = sorted(path.rglob("*.json"))
    advice = f" Name one of its JSON files, {listed[0]} say." if listed else ""
    raise DataError(f"predictions must be JSON, JSON Lines, .npz shards or text files; got {path} with none.{advice}")


def _pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in (".png", ".npy", ".tif", ".tiff") for path in folder.iterdir())

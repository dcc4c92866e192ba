"""Scores of folders of maps (labels, saliency, segments), read image by image, whatever their number and sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from delineate.data.class_lists import ClassList, find_class_list, read_class_list
from delineate.data.formats.layout import Layout, Record, describe_id
from delineate.data.formats.mask_folders import MaskFiles
from delineate.data.formats.mask_ids import Meaning, interpreted
from delineate.data.formats.pairing import mask_core, pictures_under
from delineate.data.image_io import read_map
from delineate.data.objects.panoptic import panoptic_pairs, read_panoptic
from delineate.data.read_ahead import read_ahead
from delineate.errors import ArgumentError, DataError
from delineate.kernels.confusion import confusion_counts
from delineate.metrics.averages import defined_mean, share
from delineate.metrics.boundary import boundary_f1
from delineate.metrics.panoptic import PanopticCounts, panoptic_counts, panoptic_scores
from delineate.metrics.saliency import image_saliency, saliency_scores
from delineate.metrics.semantic import semantic_scores

Progress = Callable[[int, int], None]
_BINARY_SHARE = 128 / 255  # of the range of a true saliency map, above which a pixel is object


def measure_semantic(
    ground_truth: Path,
    predictions: Path,
    progress: Progress,
    *,
    classes: str | Path | None = None,
    ignore_index: int | None = None,
    boundary: bool = False,
) -> tuple[dict[str, Any], None]:
    """Scores of a folder of label maps (PNG or ``.npy``) against a folder of true ones of the same names.

    Args:
        ground_truth: folder of true maps.
        predictions: folder of predicted maps.
        progress: called with (images done, images in all).
        classes: a class list; when left out, the one beside the true maps, else the ids found in both folders.
        ignore_index: a raw id of the true maps that does not count, besides those the class list ignores.
        boundary: also score the boundaries.

    Raises:
        DataError: naming the file, when a map has no partner, another size, or (true maps) an id that is no class.
    """
    pairs = paired_maps(ground_truth, predictions)
    listed = read_class_list(classes) if classes is not None else find_class_list(ground_truth, ground_truth.parent)
    meaning, found_meaning = _meanings(pairs, listed)
    ids = dict(meaning.label_of_id)
    if ignore_index is not None:
        ids[ignore_index] = meaning.taxonomy.ignore_index
    layout = _layout(ground_truth, meaning, ids)
    found_layout = _layout(predictions, found_meaning, dict(found_meaning.label_of_id))
    taxonomy = layout.taxonomy
    count = taxonomy.num_classes

    def read(pair: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        target, unknown = layout.labels_of(layout.reader(Record(pair[0].stem, pair[0], pair[0])))
        if unknown:
            named = describe_id(next(iter(unknown)))
            advice = "Name every class in a class list and pass it as --classes."
            raise DataError(f"ground truth must hold ids of the {count} classes; got {named} in {pair[0]}. {advice}")
        prediction, _ = found_layout.labels_of(found_layout.reader(Record(pair[1].stem, pair[1], pair[1])))
        _same_size(target, prediction, pair)
        edges = None
        if boundary:
            options = {"num_classes": count, "ignore_index": taxonomy.ignore_index}
            edges = boundary_f1(prediction, target, **options)
        return target, prediction, edges

    confusion = np.zeros((count, count), np.int64)
    missed, edge_sum, edge_images = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)
    progress(0, len(pairs))
    for done, (target, prediction, edges) in enumerate(read_ahead(read, pairs), start=1):
        counts, no_class = confusion_counts(target, prediction, count, taxonomy.ignore_index)
        confusion += counts
        missed += no_class
        if edges is not None:
            edge_sum += np.nan_to_num(edges)
            edge_images += ~np.isnan(edges)
        progress(done, len(pairs))
    scores = semantic_scores(confusion, class_names=taxonomy.names, missed=missed)
    scores["images"] = len(pairs)
    if boundary:
        each = share(edge_sum, edge_images)
        scores["boundary_f1"] = defined_mean(each)
        for values, value in zip(scores["per_class"].values(), each, strict=True):
            values["boundary_f1"] = float(value)
    return scores, None


def _meanings(pairs: list[tuple[Path, Path]], listed: ClassList | None) -> tuple[Meaning, Meaning]:
    """What ids mean in the true and in the predicted maps.

    Two classes may be written as 0 and 1 on one side and as 0 and 255 on the other; more than two, without a list, are
    those that either side holds.
    """
    true, found = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    meaning = interpreted(true, listed)
    if listed is None and meaning.taxonomy.num_classes > 2:
        both = interpreted([*true, *found], None)
        return both, both
    other = interpreted(found, listed)
    return meaning, other if other.taxonomy.names == meaning.taxonomy.names else meaning


def _layout(root: Path, meaning: Meaning, label_of_id: dict[int, int]) -> Layout:
    return Layout(
        root=root,
        format="mask-folders",
        taxonomy=meaning.taxonomy,
        splits={},
        problems=(),
        reader=MaskFiles(colours=meaning.id_of_colour, black_and_white=meaning.black_and_white),
        label_of_id=label_of_id,
        other_label=meaning.other_label,
    )


def measure_saliency(ground_truth: Path, predictions: Path, progress: Progress) -> tuple[dict[str, Any], None]:
    """Scores of a folder of saliency maps against a folder of true masks of the same names.

    A true pixel is object above 128 of 255. A mask that holds no number above 1 has the range 0 .. 1, so that 1 is
    object in one of 0 and 1; a ``.npy`` with numbers above 255 has that of 16 bits. A map is brought to 0 .. 1 by its
    least and largest value.

    Args:
        ground_truth: folder of true masks.
        predictions: folder of maps.
        progress: called with (images done, images in all).

    Raises:
        DataError: naming the file, when a map has no partner or another size.
    """
    pairs = paired_maps(ground_truth, predictions)

    def read(pair: tuple[Path, Path]) -> Any:
        target, prediction = read_map(pair[0]), read_map(pair[1])
        _same_size(target, prediction, pair)
        try:
            return image_saliency(prediction, _object_pixels(target))
        except ArgumentError as error:  # values out of range
            raise DataError(f"{error} The map is {pair[1]}.") from None

    progress(0, len(pairs))
    images = []
    for done, image in enumerate(read_ahead(read, pairs), start=1):
        images.append(image)
        progress(done, len(pairs))
    return saliency_scores(images), None


def _object_pixels(target: np.ndarray) -> np.ndarray:
    """The object of a true saliency map, as numbers from 0 to 1, to 255 or to what 16 bits hold."""
    most = target.max(initial=0)
    if most <= 1:
        return target > 0.5
    return target > _BINARY_SHARE * (255 if most <= 255 else max(most, 65535))


def measure_panoptic(
    ground_truth: Path,
    predictions: Path,
    progress: Progress,
    *,
    truth_folder: str | Path | None = None,
    prediction_folder: str | Path | None = None,
) -> tuple[dict[str, Any], None]:
    """Panoptic quality of a panoptic JSON file and its PNGs against the true one.

    Args:
        ground_truth: COCO panoptic JSON.
        predictions: the same form.
        progress: called with (images done, images in all).
        truth_folder: where the true PNGs are, when not beside the JSON under its name.
        prediction_folder: the same of the predictions.

    Raises:
        DataError: naming file and segment, when something is missing or does not fit.
    """
    truth = read_panoptic(ground_truth, truth_folder)
    found = read_panoptic(predictions, prediction_folder, classes=truth.classes)
    total = len(truth.image_ids)
    if not total:
        raise DataError(f"images must list at least one image; got none in {ground_truth}.")
    names = truth.classes.names
    columns = [column.name for column in fields(PanopticCounts)]
    sums: dict[str, np.ndarray] = {}
    progress(0, total)
    for done, (_, prediction, target) in enumerate(panoptic_pairs(truth, found), start=1):
        counts = panoptic_counts(prediction, target, num_classes=len(names))
        sums = {name: sums.get(name, 0) + getattr(counts, name) for name in columns}
        progress(done, total)
    scores = panoptic_scores(PanopticCounts(**sums), class_names=names, things=truth.classes.things, images=total)
    return {**{name: scores["all"][name] for name in ("pq", "sq", "rq")}, **scores}, None


def paired_maps(ground_truth: Path, predictions: Path) -> list[tuple[Path, Path]]:
    """The files of two folders that have the same path and stem, or the same but for words such as "_mask".

    Raises:
        DataError: when a folder is missing or empty, two files mean the same, or a true map has no prediction.
    """
    true, found = _by_key(ground_truth, "ground truth"), _by_key(predictions, "predictions")
    cores: dict[str, Path] = {}
    for key, path in found.items():
        cores.setdefault(_core(key), path)
    pairs, missing = [], []
    for key, path in true.items():
        partner = found.get(key, cores.get(_core(key)))
        if partner is None:
            missing.append(path)
        else:
            pairs.append((path, partner))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"predictions must cover every true map; got none for {missing[0]}{more} in {predictions}.")
    return pairs


def _by_key(folder: Path, what: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{what} must be a folder of maps; got {folder}, where {_kind(folder)} is. Check the name.")
    paths: dict[str, Path] = {}
    cores: dict[str, Path] = {}
    for path in pictures_under(folder):
        key = path.relative_to(folder).with_suffix("").as_posix()
        paths[key] = path
        other = cores.setdefault(_core(key), path)
        if other != path:
            raise DataError(f"{what} must have one map an image; got {other.name} and {path} of the same name.")
    if not paths:
        raise DataError(f"{what} must be a folder of maps (PNG or .npy); got none in {folder}.")
    return paths


def _kind(path: Path) -> str:
    return "a file" if path.exists() else "nothing"


def _core(key: str) -> str:
    folder, slash, stem = key.rpartition("/")
    return folder + slash + mask_core(stem)


def _same_size(target: np.ndarray, prediction: np.ndarray, pair: tuple[Path, Path]) -> None:
    if target.shape != prediction.shape:
        size, other = (f"{shape[0]} x {shape[1]}" for shape in (target.shape, prediction.shape))
        raise DataError(f"prediction must be {size} as {pair[0]}; got {other} in {pair[1]}.")

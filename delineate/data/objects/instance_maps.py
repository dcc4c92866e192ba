"""Folders of instance maps: a pixel of a picture (or ``.npy``) holds its object's number, 0 where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer

from delineate.data.formats.pairing import mask_core, pictures_under
from delineate.data.image_io import read_ids
from delineate.data.objects.class_names import AMBIGUOUS, UNKNOWN, existing_folder, image_index
from delineate.data.read_ahead import read_ahead
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle_masks import RLEMasks

CLASS = "object"


def read_truth(path: str | Path) -> Annotations:
    """Images, called after their maps, and their objects, all of one class.

    Args:
        path: a folder of maps, one an image; 16-bit PNGs hold up to 65,535 objects.

    Raises:
        DataError: when there is no such folder or no map in it, two maps are called the same, or one cannot be read.
    """
    maps = _maps(path)
    names = sorted(maps)
    objects, sizes = _objects([(i, maps[name]) for i, name in enumerate(names)])
    return Annotations.of(names, (CLASS,), objects, image_sizes=sizes, image_files=[maps[name].name for name in names])


def read_predictions(path: str | Path, truth: Annotations) -> Objects:
    """The objects of predicted maps. Maps hold no confidence: every object has a score of 1, in order of its number.

    Args:
        path: a folder of maps, one for each image; where nothing was found, a map of zeros.
        truth: what they refer to; it must have one class.

    Raises:
        DataError: naming the file, when a map is called after no image, has another size, or cannot be read; naming
            the image, when it has no map.
    """
    if truth.num_classes != 1:
        advice = "Instance maps say no class; write COCO results, or score boxes and masks with --class-agnostic."
        raise DataError(f"truth must have one class for the maps in {path}; got {truth.num_classes}. {advice}")
    names = image_index(truth)
    found: list[tuple[int, Path]] = []
    seen: dict[int, Path] = {}
    for name, file in sorted(_maps(path).items()):
        whole, core = (int(place) for place in names.find([name, mask_core(name)]))
        image = core if whole == UNKNOWN else whole
        if image == AMBIGUOUS:
            raise DataError(f"maps must be called after one image of the truth; got {file}, which stands for two.")
        if image == UNKNOWN:
            raise DataError(f"maps must be called after an image of the truth; got {file}.")
        if seen.setdefault(image, file) != file:
            raise DataError(f"maps must be one an image; got {seen[image]} and {file}.")
        found.append((image, file))
    missing = sorted(set(range(truth.num_images)) - {image for image, _ in found})
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"maps must cover every image; got none for {truth.image_ids[missing[0]]}{more} in {path}.")
    objects, sizes = _objects(found, scored=True)
    for (image, file), size in zip(found, sizes, strict=True):
        true = tuple(truth.image_sizes[image])
        if all(true) and size != true:
            raise DataError(f"map must be {true[0]} x {true[1]}, as its image; got {size[0]} x {size[1]} in {file}.")
    return objects


def _maps(path: str | Path) -> dict[str, Path]:
    folder = existing_folder(path, "instance maps")
    maps: dict[str, Path] = {}
    for file in pictures_under(folder):
        if maps.setdefault(file.stem, file) != file:
            raise DataError(f"maps must be one an image; got {maps[file.stem]} and {file}.")
    if not maps:
        raise DataError(f"instance maps must be pictures or .npy; got none in {folder}.")
    return maps


def _objects(maps: list[tuple[int, Path]], *, scored: bool = False) -> tuple[Objects, list[tuple[int, int]]]:
    images: list[int] = []
    masks: list[RLEMasks] = []
    sizes: list[tuple[int, int]] = []
    for (image, _), (size, _, own) in zip(maps, read_ahead(lambda entry: read_map(entry[1]), maps), strict=True):
        images += [image] * len(own)
        masks.append(own)
        sizes.append(size)
    table = RLEMasks.concatenate(masks)
    objects = Objects.of(
        images,
        np.zeros(len(images), np.int64),
        table.boxes(),
        areas=table.areas(),
        masks=table,
        scores=np.ones(len(images)) if scored else None,
    )
    return objects, sizes


def read_map(file: Path) -> tuple[tuple[int, int], Int64[np.ndarray, " N"], RLEMasks]:
    """The size of a map, its numbers above 0, ascending, and the mask of each.

    Raises:
        DataError: naming the file, when it cannot be read or holds negative numbers.
    """
    ids = read_ids(file)
    if ids.size and int(ids.min()) < 0:
        raise DataError(f"instance map must hold numbers from 0; got {int(ids.min())} in {file}.")
    return (ids.shape[0], ids.shape[1]), *masks_of_map(ids)


def masks_of_map(ids: Integer[np.ndarray, "H W"]) -> tuple[Int64[np.ndarray, " N"], RLEMasks]:
    """The numbers above 0 of a map, ascending, and the mask of each: one pass, however many there are.

    Example:
        >>> values, masks = masks_of_map(np.array([[0, 7], [7, 2]]))
        >>> values.tolist(), masks.areas().tolist()
        ([2, 7], [1, 2])
    """
    height, width = ids.shape
    columns = ids.T.reshape(-1)  # run lengths go down the columns
    changes = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    starts, ends = np.append(0, changes), np.append(changes, columns.size)
    inside = np.flatnonzero(columns[starts] > 0) if columns.size else np.zeros(0, np.int64)
    order = inside[np.argsort(columns[starts[inside]], kind="stable")]
    starts, ends, owners = starts[order], ends[order], columns[starts[order]].astype(np.int64)
    first = np.flatnonzero(np.diff(owners, prepend=-1))  # of the runs of each number
    before = np.append(0, ends)[:-1]
    before[first] = 0
    counts = np.stack([starts - before, ends - starts], axis=1).reshape(-1)
    last = np.append(first, len(owners))[1:]
    rest = columns.size - ends[last - 1]
    counts = np.insert(counts, 2 * last[rest > 0], rest[rest > 0])
    lengths = 2 * (last - first) + (rest > 0)
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
    sizes = np.full((len(first), 2), (height, width), np.int64)
    return owners[first], RLEMasks.from_counts(counts, offsets, sizes)

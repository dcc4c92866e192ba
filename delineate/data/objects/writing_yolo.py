"""Objects as YOLO's text files: ``labels/`` beside ``images/``, lists of the splits, and ``data.yaml``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from delineate.data.objects.content import Content, write_lists
from delineate.data.objects.joining import joined_outlines
from delineate.structures.rle_masks import RLEMasks

IMAGES = "images"
_NUDGE = 1e-9  # pixels: outlines are drawn on a grid of fifths, whose lines a rounding must not cross


def write(content: Content, folder: Path) -> int:
    """Write a text file a picture, empty where there is no object.

    An object with a mask is a polygon; several parts are joined by slits of no width, as a line holds one polygon.
    Boxes are cut to their images, since a fraction above 1 makes other tools refuse the whole file.

    Args:
        content: what to write.
        folder: an empty one.

    Returns:
        How many objects were written.
    """
    objects = content.annotations.objects
    content = content.without(objects.crowd | objects.ignored, "crowds and difficult objects, left out")
    objects = content.annotations.objects
    posed = objects.keypoints is not None and (objects.keypoints[:, :, 2] > 0).any(axis=1)
    content.lose("objects whose keypoints are left out", int(np.sum(posed)))
    if objects.masks is not None:
        apart = (np.abs(objects.masks.boxes() - objects.boxes) > 1).any(axis=1)
        content.lose("boxes that are not those of their masks, which replace them", int(apart.sum()))
        coordinates = _polygons(content, objects.masks)
    else:
        coordinates = _boxes(content)
    (folder / "labels").mkdir(parents=True)
    for image in range(len(content.names)):
        lines = [
            " ".join([str(objects.labels[row]), *(f"{value!r}" for value in coordinates[row])]) + "\n"
            for row in content.rows(image)
        ]
        (folder / "labels" / f"{content.stem(image)}.txt").write_text("".join(lines), encoding="utf-8")
    lists = {split: [f"./{IMAGES}/{content.names[i]}" for i in images] for split, images in content.splits.items()}
    write_lists(folder, lists)
    known = [split for split in ("train", "val", "test") if split in content.splits]
    others = [split for split in content.splits if split not in (*known, "all")]
    content.lose("splits that data.yaml cannot name, though their lists are written", len(others))
    classes = content.annotations.classes
    config = {split: f"{split}.txt" for split in known} | {"nc": len(classes), "names": dict(enumerate(classes))}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return len(objects)


def _boxes(content: Content) -> list[list[float]]:
    """Centre and size of each box as fractions of its image."""
    objects = content.annotations.objects
    sizes = content.annotations.image_sizes[objects.images]
    low, high = objects.boxes[:, :2], objects.boxes[:, :2] + objects.boxes[:, 2:]
    limits = sizes[:, ::-1].astype(np.float64)
    cut = (low < 0).any(axis=1) | (high > limits).any(axis=1)
    content.lose("boxes that leave their image, cut at its frame", int(cut.sum()))
    low, high = np.clip(low, 0, limits), np.clip(high, 0, limits)
    return np.concatenate([(low + high) / 2 / limits, (high - low) / limits], axis=1).tolist()


def _polygons(content: Content, masks: RLEMasks) -> list[list[float]]:
    """The corners of each mask as fractions of its image, that draw the same mask."""
    sizes = masks.sizes[:, ::-1].astype(np.float64)

    def as_read(polygon: list[float], row: int) -> list[float]:
        return (_fractions(polygon, sizes[row]) * sizes[row]).reshape(-1).tolist()

    polygons, changed = joined_outlines(masks, content.outlines, as_read)
    content.lose("outlines that are drawn anew along the pixels of their masks, being in overlapping parts", changed)
    corners = [_fractions(polygon, size) for polygon, size in zip(polygons, sizes, strict=True)]
    return [_closed(places).reshape(-1).tolist() for places in corners]


def _fractions(polygon: list[float], size: np.ndarray) -> np.ndarray:
    """Corners as fractions that lead back to their places, or just beyond them."""
    places = np.array(polygon, np.float64).reshape(-1, 2)
    fractions = places / size
    return np.where(fractions * size < places, (places + _NUDGE) / size, fractions)


def _closed(corners: np.ndarray) -> np.ndarray:
    """The corners, with the first one again at the end where a line could be read as a box and a track or keypoints."""
    after = 2 * len(corners) - 4
    return np.concatenate([corners, corners[:1]]) if after == 2 or after % 3 == 0 else corners

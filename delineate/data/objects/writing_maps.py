"""Objects as instance maps: 16-bit PNGs whose pixels number the objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from delineate.data.formats.layout import split_name
from delineate.data.objects.content import Content, write_lists
from delineate.data.objects.instance_maps import CLASS
from delineate.errors import DataError

IMAGES = "images"
_MOST = 65535  # numbers that 16 bits hold
_NO_FOLDERS = ("/", "\\", ":", "\0")


def write(content: Content, folder: Path) -> int:
    """Write ``labels/<picture>.png``, or ``labels/<class>/<picture>.png`` where there is more than one kind.

    A pixel belongs to one object: smaller objects are drawn over larger ones of their map.

    Args:
        content: what to write.
        folder: an empty one.

    Returns:
        How many objects were written.

    Raises:
        DataError: on objects without masks, more than 65,535 of them in a map, and classes that no folder can be called
            after.
    """
    objects, classes = content.annotations.objects, content.annotations.classes
    if objects.masks is None:
        raise DataError("objects must have masks to be drawn; got boxes alone. Convert to coco, voc or yolo.")
    _require_folders(classes)
    content = content.without(objects.crowd | objects.ignored, "crowds and difficult objects, left out")
    objects = content.annotations.objects
    masks = objects.masks
    assert masks is not None  # as above
    posed = objects.keypoints is not None and (objects.keypoints[:, :, 2] > 0).any(axis=1)
    content.lose("objects whose keypoints are left out", int(np.sum(posed)))
    apart = (np.abs(masks.boxes() - objects.boxes) > 1).any(axis=1)
    content.lose("boxes that are not those of their masks, which replace them", int(apart.sum()))
    places = [folder / "labels"] if classes == (CLASS,) else [folder / "labels" / name for name in classes]
    for place in places:
        place.mkdir(parents=True)
    hidden = covered = 0
    for image in range(len(content.names)):
        size = tuple(content.annotations.image_sizes[image].tolist())
        rows = np.array(content.rows(image), np.int64)
        labels = objects.labels[rows]
        for label, place in enumerate(places):
            own = rows[labels == label]
            if not len(own) and (len(rows) or label):
                continue  # a picture without any object has one map, so that it counts as labelled
            if len(own) > _MOST:
                got = f"{len(own):,} in {content.names[image]}"
                raise DataError(f"objects must be at most {_MOST:,} in a map of 16 bits; got {got}.")
            drawn = np.zeros(size, np.uint16)
            for at in np.argsort(-masks.areas()[own], kind="stable").tolist():
                drawn[masks[own[at]].decode()] = at + 1
            left = np.bincount(drawn.reshape(-1), minlength=len(own) + 1)[1:]
            hidden += int((left == 0).sum())
            covered += int(((left < masks.areas()[own]) & (left > 0)).sum())
            Image.fromarray(drawn).save(place / f"{content.stem(image)}.png")
    content.lose("objects that others cover whole, which are gone", hidden)
    content.lose("masks that lose pixels to smaller objects over them", covered)
    write_lists(folder, {split: [content.names[i] for i in images] for split, images in content.splits.items()})
    return len(objects) - hidden


def _require_folders(classes: tuple[str, ...]) -> None:
    for name in classes:
        bad = any(sign in name for sign in _NO_FOLDERS) or name.startswith(".") or split_name(name) is not None
        if bad or len(name.encode()) > 200:
            raise DataError(f"classes must have names that folders can have; got '{name[:80]}'. Rename it.")
    if len({name.casefold() for name in classes}) < len(classes):
        raise DataError("classes must have names that differ by more than case; got two alike. Rename one.")

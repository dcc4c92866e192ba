"""Objects as LabelMe's JSON files, one an image, beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from delineate.data.objects.content import Content, plain, write_lists
from delineate.errors import DataError

IMAGES = ""
_VERSION = "5.2.1"  # of LabelMe, whose files these are like
_NO_CLASSES = ("__ignore__", "_background_")


def write(content: Content, folder: Path) -> int:
    """Write a JSON file a picture: polygons where there are masks, else rectangles.

    Several parts of an object have a ``group_id`` in common; holes are slits in the polygon around them.

    Args:
        content: what to write.
        folder: an empty one.

    Returns:
        How many objects were written.

    Raises:
        DataError: on a class that LabelMe takes for none.
    """
    special = [name for name in content.annotations.classes if name.strip().lower() in _NO_CLASSES]
    if special:
        raise DataError(f"classes must have names that LabelMe takes for classes; got '{special[0]}'. Rename it.")
    objects = content.annotations.objects
    content = content.without(objects.crowd | objects.ignored, "crowds and difficult objects, left out")
    objects = content.annotations.objects
    posed = objects.keypoints is not None and (objects.keypoints[:, :, 2] > 0).any(axis=1)
    content.lose("objects whose keypoints are left out", int(np.sum(posed)))
    unused = content.annotations.num_classes - len(np.unique(objects.labels))
    content.lose("classes without an object, which LabelMe's files cannot name", unused)
    outlines = _outlines(content)
    apart = 0
    for image, name in enumerate(content.names):
        shapes: list[dict[str, Any]] = []
        for number, row in enumerate(content.rows(image), 1):
            label = content.annotations.classes[objects.labels[row]]
            x, y, width, height = objects.boxes[row].tolist()
            parts = outlines[row]
            if not parts:
                shapes.append(_shape(label, [x, y, x + width, y + height], "rectangle", None))
                continue
            shapes += [_shape(label, part, "polygon", number if len(parts) > 1 else None) for part in parts]
            corners = np.concatenate([np.array(part, np.float64).reshape(-1, 2) for part in parts])
            span = np.concatenate([corners.min(axis=0), np.ptp(corners, axis=0)])
            apart += bool((np.abs(span - objects.boxes[row]) > 1).any())
        sides = content.annotations.image_sizes[image].tolist()
        whole: dict[str, Any] = {"version": _VERSION, "flags": {}, "shapes": shapes}
        whole |= {"imagePath": name, "imageData": None}
        whole |= {"imageHeight": sides[0], "imageWidth": sides[1]}
        (folder / f"{content.stem(image)}.json").write_bytes(msgspec.json.format(msgspec.json.encode(whole)))
    content.lose("boxes that are not those of their outlines, which replace them", apart)
    write_lists(folder, {split: [content.names[i] for i in images] for split, images in content.splits.items()})
    return len(objects)


def _outlines(content: Content) -> list[list[list[float]]]:
    """The polygons of each object; none where it has no mask."""
    masks = content.annotations.objects.masks
    if masks is None:
        return [[] for _ in content.outlines]
    return [masks[row].to_polygons() if outline is None else outline for row, outline in enumerate(content.outlines)]


def _shape(label: str, corners: list[float], kind: str, group: int | None) -> dict[str, Any]:
    values = [plain(value) for value in corners]
    points = [list(point) for point in zip(values[::2], values[1::2], strict=True)]
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}

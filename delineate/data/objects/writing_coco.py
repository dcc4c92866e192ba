"""Objects as COCO's JSON: ``annotations/instances_<split>.json`` and ``images/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from delineate.data.objects.content import Content, plain

IMAGES = "images"


def write(content: Content, folder: Path) -> int:
    """Write the annotations of each split.

    Masks are the polygons of the source where it states any, else compressed run lengths, which hold every mask.
    A difficult object becomes a crowd, the only kind here that counts neither as found nor as missed, and keeps a note:
    ``"ignore": 1``. Numbers are those of the source where it is COCO itself, else they count from 1.

    Args:
        content: what to write.
        folder: an empty one.

    Returns:
        How many objects were written.
    """
    annotations = content.annotations
    objects = annotations.objects
    count = annotations.num_images
    image_ids = list(annotations.image_ids) if content.numbered else list(range(1, count + 1))
    class_ids = annotations.class_ids if content.numbered else tuple(range(1, annotations.num_classes + 1))
    own = objects.ids.tolist()
    keep_ids = content.numbered and len(set(own)) == len(own) and min(own, default=1) > 0
    ids = own if keep_ids else list(range(1, len(own) + 1))
    content.lose("difficult objects that become crowds", int((objects.ignored & ~objects.crowd).sum()))
    posed = _posed_classes(content)
    categories = [
        {"id": class_id, "name": name}
        | ({"keypoints": list(annotations.keypoint_names), "skeleton": []} if label in posed else {})
        for label, (class_id, name) in enumerate(zip(class_ids, annotations.classes, strict=True))
    ]
    (folder / "annotations").mkdir(parents=True)
    for split, images in content.splits.items():
        records = [
            _record(content, row, ids[row], image_ids[image], class_ids)
            for image in images
            for row in content.rows(image)
        ]
        sizes = annotations.image_sizes[images].reshape(-1, 2).tolist()
        entries = [
            {"id": image_ids[image], "file_name": content.names[image], "height": height, "width": width}
            for image, (height, width) in zip(images, sizes, strict=True)
        ]
        whole = {"images": entries, "annotations": records, "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_bytes(msgspec.json.encode(whole))
    return len(objects)


def _posed_classes(content: Content) -> set[int]:
    """The classes with keypoints; all of them where no object has any labelled."""
    objects = content.annotations.objects
    if objects.keypoints is None:
        return set()
    labelled = (objects.keypoints[:, :, 2] > 0).any(axis=1)
    return set(objects.labels[labelled].tolist()) or set(range(content.annotations.num_classes))


def _record(content: Content, row: int, number: int, image: Any, class_ids: tuple[int, ...]) -> dict[str, Any]:
    objects = content.annotations.objects
    record: dict[str, Any] = {
        "id": number,
        "image_id": image,
        "category_id": class_ids[objects.labels[row]],
        "bbox": [plain(value) for value in objects.boxes[row].tolist()],
        "area": plain(float(objects.areas[row])),
        "iscrowd": int(objects.crowd[row] or objects.ignored[row]),
    }
    if objects.ignored[row] and not objects.crowd[row]:
        record["ignore"] = 1
    if objects.masks is not None:
        outline = content.outlines[row]
        record["segmentation"] = objects.masks[row].to_coco() if outline is None else outline
    if objects.keypoints is not None:
        points = objects.keypoints[row]
        record["keypoints"] = [plain(value) for value in points.reshape(-1).tolist()]
        record["num_keypoints"] = int(np.count_nonzero(points[:, 2] > 0))
    return record

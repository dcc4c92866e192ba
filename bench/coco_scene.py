"""A data set of COCO's size and shape for timing evaluators: 5,000 images, 33,671 true objects, 500,000 detections.

Everything follows from one seed. Objects have COCO's spread of classes and sizes; detections are moved copies of the
objects, some of the wrong class, and false ones, a hundred an image. Run as ``python -m bench.coco_scene DIR``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np

from delineate.files import replaced_file
from delineate.structures.rle_masks import RLEMasks

IMAGES, OBJECTS, DETECTIONS, CLASSES = 5000, 33_671, 500_000, 80
_CORNERS = 24
FILES = ("truth.json", "boxes.json", "masks.json")


def write_scene(folder: Path, images: int = IMAGES, objects: int = OBJECTS, detections: int = DETECTIONS) -> None:
    """Write ``truth.json`` (boxes and outlines), ``boxes.json`` and ``masks.json`` (results) into ``folder``."""
    generator = np.random.default_rng(0)
    sizes = np.array([(480, 640), (640, 480), (427, 640), (500, 375)])[generator.integers(0, 4, images)]
    image = np.sort(generator.integers(0, images, objects))
    weights = 1 / np.arange(1, CLASSES + 1) ** 0.9
    label = generator.choice(CLASSES, objects, p=weights / weights.sum())
    extent = np.exp(generator.normal(4.0, 0.9, (objects, 1)) + generator.normal(0, 0.3, (objects, 2)))
    extent = np.clip(extent, 6, sizes[image][:, ::-1] * 0.9)
    centre = extent / 2 + generator.random((objects, 2)) * (sizes[image][:, ::-1] - extent)
    radius = 1 - 0.35 * generator.random((objects, _CORNERS))
    crowd = generator.random(objects) < 0.01

    outline = _outlines(centre, extent, radius)
    masks = _masks(outline, sizes[image])
    corners = np.clip(np.round(outline, 2), 0, sizes[image][:, None, ::-1])
    low, high = corners.min(axis=1), corners.max(axis=1)
    boxes = np.round(np.concatenate([low, high - low], axis=1), 2)
    areas = masks.areas()
    annotations = [
        {
            "id": i + 1,
            "image_id": int(image[i]) + 1,
            "category_id": int(label[i]) + 1,
            "bbox": boxes[i].tolist(),
            "area": float(areas[i]),
            "iscrowd": int(crowd[i]),
            "segmentation": (
                {"size": sizes[image[i]].tolist(), "counts": masks[i].runs().tolist()}
                if crowd[i]
                else [corners[i].reshape(-1).tolist()]
            ),
        }
        for i in range(objects)
    ]
    _write(
        folder / "truth.json",
        {
            "info": {"description": "generated for timing"},
            "images": [
                {"id": i + 1, "file_name": f"{i + 1:012d}.jpg", "height": int(h), "width": int(w)}
                for i, (h, w) in enumerate(sizes)
            ],
            "categories": [{"id": k + 1, "name": f"class {k + 1}"} for k in range(CLASSES)],
            "annotations": annotations,
        },
    )
    del annotations

    each = detections // images
    found_boxes, found_masks = [], []
    starts = np.searchsorted(image, np.arange(images + 1))
    for i in range(images):
        own = np.arange(starts[i], starts[i + 1])
        copies = own[generator.integers(0, len(own), each)] if len(own) else np.zeros(0, int)
        copies = copies[generator.random(len(copies)) < 0.6]
        false = each - len(copies)
        shift = generator.normal(0, 0.12, (len(copies), 2)) * (0.3 + generator.random((len(copies), 1)))
        size = np.concatenate([extent[copies] * np.exp(shift), np.exp(generator.normal(4, 0.9, (false, 2)))])
        limit = sizes[i][::-1] * 0.95
        size = np.clip(size, 4, limit)
        place = np.concatenate([centre[copies] + shift * extent[copies], generator.random((false, 2)) * sizes[i][::-1]])
        place = np.clip(place, size / 2, sizes[i][::-1] - size / 2)
        wobble = np.concatenate([radius[copies], 1 - 0.35 * generator.random((false, _CORNERS))])
        wobble = np.clip(wobble + generator.normal(0, 0.05, wobble.shape), 0.3, 1)
        kind = np.concatenate([label[copies], generator.choice(CLASSES, false, p=weights / weights.sum())])
        wrong = generator.random(each) < 0.1
        kind[wrong] = generator.integers(0, CLASSES, int(wrong.sum()))
        good = np.concatenate([np.exp(-6 * np.abs(shift).sum(axis=1)), np.full(false, 0.15)])
        score = np.round(np.clip(good * generator.beta(4, 2, each), 0.001, 0.999), 6)
        outline = _outlines(place, size, wobble)
        low, high = outline.min(axis=1), outline.max(axis=1)
        box = np.round(np.concatenate([low, high - low], axis=1), 2).tolist()
        mask = _masks(outline, np.repeat(sizes[i][None], each, axis=0))
        for j in range(each):
            head = {"image_id": i + 1, "category_id": int(kind[j]) + 1}
            tail = {"score": float(score[j])}
            found_boxes.append(msgspec.json.encode({**head, "bbox": box[j], **tail}))
            found_masks.append(msgspec.json.encode({**head, "segmentation": mask[j].to_coco(), **tail}))
    for name, records in (("boxes.json", found_boxes), ("masks.json", found_masks)):
        with replaced_file(folder / name) as temporary:
            temporary.write_bytes(b"[" + b",".join(records) + b"]")


def _outlines(centre: np.ndarray, extent: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Star-shaped outlines ``(N, corners, 2)``."""
    angle = np.linspace(0, 2 * np.pi, radius.shape[1], endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return centre[:, None] + extent[:, None] / 2 * radius[:, :, None] * circle[None]


def _masks(outline: np.ndarray, sizes: np.ndarray) -> RLEMasks:
    count = len(outline)
    starts = np.arange(count + 1, dtype=np.int64)
    return RLEMasks.from_polygons(outline.reshape(-1), starts * outline[0].size, starts, sizes)


def _write(path: Path, content: object) -> None:
    with replaced_file(path) as temporary:
        temporary.write_bytes(msgspec.json.encode(content))


if __name__ == "__main__":
    write_scene(Path(sys.argv[1]))

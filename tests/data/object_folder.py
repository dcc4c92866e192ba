"""A small folder of pictures with objects, for whoever needs one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_objects(root: Path, *, train: int = 6, val: int = 3, size: tuple[int, int] = (64, 96)) -> Path:
    """Two kinds of bright squares on noise as COCO files; the last picture of each split shows nothing."""
    random = np.random.default_rng(0)
    height, width = size
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(count):
            pixels = random.integers(0, 90, (height, width, 3), dtype=np.uint8)
            for _ in range(0 if number == count - 1 else 2):
                side, kind = int(random.integers(16, 30)), int(random.integers(2))
                left, top = int(random.integers(width - side)), int(random.integers(height - side))
                pixels[top : top + side, left : left + side, kind] = 220
                box = [left, top, side, side]
                corners = [left, top, left + side, top, left + side, top + side, left, top + side]
                entry = {"id": len(annotations) + 1, "image_id": number, "category_id": kind + 1, "bbox": box}
                joints = [left, top, 2, left + side, top, 2, left, top + side, 0 if number == 0 else 1]
                entry |= {"keypoints": joints, "num_keypoints": 3}
                annotations.append({**entry, "area": side * side, "iscrowd": 0, "segmentation": [corners]})
            Image.fromarray(pixels).save(root / split / f"{split}{number}.png")
            images.append({"id": number, "file_name": f"{split}{number}.png", "height": height, "width": width})
        named = {"keypoints": ["origin", "across", "down"], "skeleton": []}
        categories = [{"id": 1, "name": "red", **named}, {"id": 2, "name": "green", **named}]
        written = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(written))
    return root

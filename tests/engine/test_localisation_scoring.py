"""Weak localisation from files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.engine.scoring import score
from delineate.errors import DataError


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """A cat at 10, 10 and a dog at 40, 20 in image 1; a dog in image 2; nothing in image 3."""
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 10, 10]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [40, 20, 10, 10]},
        {"id": 3, "image_id": 2, "category_id": 2, "bbox": [0, 0, 20, 20]},
    ]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 50, "width": 60} for i in (1, 2, 3)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def guess(image: int, category: int, box: list[float], confidence: float) -> dict:
    return {"image_id": image, "category_id": category, "bbox": box, "score": confidence}


def test_guessed_boxes_by_hand(truth, tmp_path):
    found = tmp_path / "found.json"
    found.write_text(
        json.dumps(
            [
                guess(1, 1, [10, 10, 10, 10], 0.9),  # right at once
                guess(1, 1, [0, 0, 5, 5], 0.8),  # a second box of the same class is no second guess
                guess(2, 1, [0, 0, 20, 20], 0.9),  # the wrong class first
                guess(2, 2, [0, 0, 20, 18], 0.2),  # then the right one, IoU 0.9
                guess(3, 2, [0, 0, 20, 18], 0.2),  # an image without objects does not count
            ]
        )
    )
    scores = score("localisation", truth, found)
    assert scores == {"top1_error": 0.5, "top5_error": 0.0, "known_error": 0.0, "images": 2}


def blob(left: int, top: int, width: int, height: int) -> np.ndarray:
    values = np.zeros((50, 60))
    values[top : top + height, left : left + width] = 0.8
    values[top + height // 2, left + width // 2] = 1
    return values


def test_score_maps_by_hand(truth, tmp_path):
    maps = tmp_path / "maps"
    for name in ("cat", "dog"):
        (maps / name).mkdir(parents=True)
    np.save(maps / "cat/1.npy", blob(10, 10, 10, 10))
    Image.fromarray((255 * blob(40, 20, 10, 10)).astype(np.uint8)).save(maps / "dog/1.png")
    np.save(maps / "dog/2.npy", blob(30, 30, 20, 20))  # its peak at 40, 40 is 20 pixels off the box
    scores = score("localisation", truth, maps)
    assert scores["max_box_accuracy"] == pytest.approx(2 / 3)
    assert (scores["images"], scores["maps"]) == (2, 3)
    points = scores["point_localisation"]["per_class"]
    assert points["cat"]["ap"] == 1
    assert points["dog"]["true_positives"] == 1
    wide = score("localisation", truth, maps, tolerance=25)
    assert wide["point_localisation"]["per_class"]["dog"]["true_positives"] == 2


def test_what_does_not_fit(truth, tmp_path):
    maps = tmp_path / "maps"
    (maps / "cat").mkdir(parents=True)
    np.save(maps / "cat/1.npy", blob(10, 10, 10, 10))
    with pytest.raises(DataError, match=r"maps must cover every class of every image; got none called dog/1"):
        score("localisation", truth, maps)
    np.save(maps / "cat/9.npy", blob(10, 10, 10, 10))
    with pytest.raises(DataError, match=r"9\.npy, whose image '9' is not in the truth"):
        score("localisation", truth, maps)
    (maps / "cat/9.npy").unlink()
    (maps / "dog").mkdir()
    np.save(maps / "dog/1.npy", np.zeros((5, 5)))
    np.save(maps / "dog/2.npy", blob(0, 0, 20, 20))
    with pytest.raises(DataError, match=r"map must be 50 x 60, as its image; got 5 x 5 in .*1\.npy"):
        score("localisation", truth, maps)

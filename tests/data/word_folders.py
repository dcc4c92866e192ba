"""Small data of words: squares and circles with boxes, and folders of pictures whose colours are named below them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = ("round", "square")
COLOURS = {"red": (220, 40, 40), "blue": (40, 70, 230)}
PATHS = ("round/red round", "round/blue round", "square/red square", "square/blue square")


def write_words(
    root: Path, *, train: int = 6, val: int = 3, named: int = 2, size: tuple[int, int] = (64, 96), seed: int = 0
) -> tuple[Path, Path, Path]:
    """A COCO set that knows shapes alone, a folder a coloured shape, and the tree of both; returned in this order.

    Args:
        root: where all three go.
        train, val: pictures with boxes, one or two objects each.
        named: pictures of each coloured shape, one object each.
        size: of all pictures.
        seed: of everything.
    """
    random = np.random.default_rng(seed)
    boxes, classes, tree = root / "boxes", root / "named", root / "words.txt"
    (boxes / "annotations").mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        (boxes / split).mkdir()
        images, annotations = [], []
        for number in range(count):
            pixels = _ground(random, size)
            for place in range(1 + number % 2):
                shape, colour = int(random.integers(2)), str(random.choice(list(COLOURS)))
                left, top, side = _painted(pixels, random, SHAPES[shape], colour, half=place if number % 2 else None)
                entry = {"id": len(annotations) + 1, "image_id": number, "category_id": shape + 1, "iscrowd": 0}
                annotations.append({**entry, "bbox": [left, top, side, side], "area": side * side})
            Image.fromarray(pixels).save(boxes / split / f"{split}{number}.png")
            file = {"id": number, "file_name": f"{split}{number}.png", "height": size[0], "width": size[1]}
            images.append(file)
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(SHAPES)]
        written = {"images": images, "annotations": annotations, "categories": categories}
        (boxes / "annotations" / f"instances_{split}.json").write_text(json.dumps(written))
    for shape in SHAPES:
        for colour in COLOURS:
            folder = classes / "train" / f"{colour} {shape}"
            folder.mkdir(parents=True)
            for number in range(named):
                pixels = _ground(random, size)
                _painted(pixels, random, shape, colour)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    tree.write_text("\n".join(PATHS) + "\n")
    return boxes, classes, tree


def coloured_pictures(
    count: int, *, size: tuple[int, int] = (64, 96), seed: int = 1
) -> list[tuple[np.ndarray, str, list[int]]]:
    """Pictures of one coloured shape each, what it is called, and its xyxy box."""
    random = np.random.default_rng(seed)
    pictures = []
    for number in range(count):
        shape, colour = SHAPES[number % 2], list(COLOURS)[number // 2 % 2]
        pixels = _ground(random, size)
        left, top, side = _painted(pixels, random, shape, colour)
        pictures.append((pixels, f"{colour} {shape}", [left, top, left + side, top + side]))
    return pictures


def _ground(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return random.integers(90, 150, (*size, 3), dtype=np.uint8)


def _painted(
    pixels: np.ndarray, random: np.random.Generator, shape: str, colour: str, *, half: int | None = None
) -> tuple[int, int, int]:
    """Paint one object, in the left or right half where there are two; its left, top and side."""
    height, width = pixels.shape[:2]
    side = int(random.integers(22, 34))
    low, high = (0, width) if half is None else (half * width // 2, (half + 1) * width // 2)
    left, top = int(random.integers(low, high - side + 1)), int(random.integers(height - side + 1))
    window = pixels[top : top + side, left : left + side]
    inside = np.ones((side, side), bool)
    if shape == "round":
        y, x = (np.indices((side, side)) + 0.5) / side * 2 - 1
        inside = x**2 + y**2 <= 1
    window[inside] = COLOURS[colour]
    return left, top, side

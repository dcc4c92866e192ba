"""A report's content as an evaluation would hand it over: handwritten digits on photographs, and plausible mistakes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from delineate.report.page import Example, ReportContent, render_report
from delineate.structures.taxonomy import voc_colours

NAMES = ("background", *(f"digit {digit}" for digit in range(10)), 'never <b>seen</b> & "quoted"')
HOSTILE = '<script>alert("x")</script> it\'s & co.png'


def _scenes(count: int, size: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sklearn.datasets import load_digits, load_sample_images
    digits, photos = load_digits(), load_sample_images().images
    scenes = []
    for _ in range(count):
        photo = photos[rng.integers(len(photos))]
        top, left = rng.integers(photo.shape[0] - size), rng.integers(photo.shape[1] - size)
        image = photo[top : top + size, left : left + size].astype(np.float32)
        labels = np.zeros((size, size), np.uint8)
        for _ in range(rng.integers(2, 6)):
            number = rng.integers(len(digits.images))
            factor = int(rng.integers(size // 32, size // 19))
            ink = np.kron(digits.images[number] / 16, np.ones((factor, factor)))
            side = 8 * factor
            top, left = rng.integers(size - side, size=2)
            window = (slice(top, top + side), slice(left, left + side))
            opacity = ink[:, :, None]
            image[window] = image[window] * (1 - opacity) + rng.integers(0, 256, 3) * opacity
            labels[window][ink > 0.45] = digits.target[number] + 1
        scenes.append((image.astype(np.uint8), labels))
    return scenes


def _mistaken(labels: np.ndarray, rng: np.random.Generator, badness: float) -> np.ndarray:
    """Shifted by a pixel or so, sometimes with the wrong digit, sometimes with a piece missing."""
    guess = np.roll(labels, tuple(rng.integers(-1, 2, 2)), axis=(0, 1))
    for label in np.unique(guess[guess > 0]):
        if rng.random() < badness:
            guess[guess == label] = {4: 10, 8: 2, 2: 8}.get(int(label), int(rng.integers(1, 11)))
    if rng.random() < badness:
        top = rng.integers(len(labels) // 2)
        guess[top : top + len(labels) // 5] = 0
    return guess


def _scores(confusion: np.ndarray) -> dict[str, Any]:
    hits, true, guessed = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore"):
        iou, dice = hits / (true + guessed - hits), 2 * hits / (true + guessed)
        recall, precision = hits / true, hits / guessed
    return {
        "pixel_accuracy": hits.sum() / true.sum(),
        "mean_accuracy": np.nanmean(recall),
        "miou": np.nanmean(iou),
        "fwiou": np.nansum(iou * true) / true.sum(),
        "mean_dice": np.nanmean(dice),
        "per_class": {
            name: {
                "iou": float(iou[k]),
                "dice": float(dice[k]),
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "pixels": int(true[k]),
                "predicted": int(guessed[k]),
            }
            for k, name in enumerate(NAMES)
        },
        "confusion": confusion.tolist(),
    }


@pytest.fixture(scope="session")
def demo_content() -> ReportContent:
    rng = np.random.default_rng(5)
    confusion = np.zeros((len(NAMES), len(NAMES)), np.int64)
    examples = []
    for group, badness, size in [("best", 0.0, 96), ("worst", 0.8, 96), ("random", 0.15, 96), ("random", 0.3, 400)]:
        for number, (image, target) in enumerate(_scenes(3 if size == 96 else 1, size, rng)):
            prediction = _mistaken(target, rng, badness)
            if size == 400:
                target[:, :40] = 255
            counted = target != 255
            np.add.at(confusion, (target[counted], prediction[counted]), 1)
            accuracy = float((target == prediction)[counted].mean())
            name = HOSTILE if group == "worst" and number == 0 else f"scene-{group}-{number}"
            examples.append(Example(group, name, image, target, prediction, accuracy**6, accuracy))
    epochs = np.arange(1, 41)
    fall = 2.1 * np.exp(-epochs / 7) + 0.12
    return ReportContent(
        title="unet on digits",
        facts=[
            ("Model", "unet, encoder resnet18"),
            ("Parameters", "14 328 499"),
            ("Data", "digits, split val, 64 images"),
            ("Recipe", "recipes/digits/unet_resnet18.yaml"),
            ("Seed", "0"),
            ("Training time", "3 min 12 s"),
            ("Machine", "2 cores, bf16"),
        ],
        scores=_scores(confusion),
        class_names=NAMES,
        colours=voc_colours(len(NAMES)),
        background=0,
        curves={
            "train/loss": [(int(e), float(v)) for e, v in zip(epochs, fall + rng.normal(0, 0.03, 40), strict=True)],
            "val/loss": [(int(e), float(v) + 0.06) for e, v in zip(epochs[1::2], fall[1::2], strict=True)],
            "val/miou": [(int(e), float(0.9 - 0.4 * v)) for e, v in zip(epochs[1::2], fall[1::2], strict=True)],
            "learning_rate": [(int(e), float(1e-3 * (1 - e / 41) ** 0.9)) for e in epochs],
        },
        examples=examples,
        data_facts=[
            ("Train images", "512"),
            ("Validation images", "64"),
            ("Image size", "96 x 96"),
            ("Ignore label", "255"),
        ],
        environment=[("delineate", "0.1.0"), ("torch", "2.14.1"), ("Python", "3.11.2"), ("Precision", "bf16")],
        warnings=["Class 'never <b>seen</b> & \"quoted\"' has no pixels in this split."],
        skipped=["images/broken.jpg", HOSTILE],
    )


@pytest.fixture(scope="session")
def demo_page(demo_content: ReportContent) -> str:
    return render_report(demo_content)

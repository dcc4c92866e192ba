"""Damaged and hostile files for ``delineate score``, of every task and format; by hand, not part of the tests.

    python tests/fuzz/fuzz_score.py --seconds 60 --seed 0
    python tests/fuzz/fuzz_score.py --seed 0 --only 1234 --keep /tmp/case    # one case again, its files kept

Small valid inputs are changed: bytes, JSON values, arrays, pixels, whole files, options. What comes of it must be
figures or one clear line that names a file. Figures must lie in their range, be the same in the JSON file, and equal
pycocotools' (boxes, masks, keypoints), those of the same detections as JSON Lines and as shards, or those of a few
plain lines (semantic, saliency). No other exception, no warning, no file left behind, no more than 5 seconds or 1 GiB.
Each distinct finding is told once, with the number of its case; the exit status is 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gzip
import io
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image

from delineate.cli.main import error_line
from delineate.engine.scoring import TASKS, Score, measure_files
from delineate.errors import ArgumentError, DataError, DelineateError, UnknownNameError
from delineate.report.scores import write_score_report
from tests.coco_scenes import reference, scene

SECONDS, MEBIBYTES = 5.0, 1024
SIZE = (20, 30)
FREE = {"iou_thresholds", "max_detections", "thresholds", "confusion", "iou_sum", "threshold", "delta_ap"}
FREE |= {"e_curve", "max_e", "mean_e", "adaptive_e"}  # their definition may exceed 1
NAMES = ("猫", "", " ", "a\nb", "\x00", "../x", "/", ".", "a" * 300, "[/]", "<script>", "1", "7", "-1", "nan", "\u202e")
INTEGERS = (-1, 0, 1, 2, 3, 255, 256, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30)
FLOATS = (0.5, -0.5, -0.0, 1e-320, 1e9, 1e15, 1e16, 1e38, 1e308, -1e308, math.nan, math.inf, -math.inf, 0.1 + 0.2)
NESTED = (None, True, [], {}, [[]], [None], [1, 2], {"size": [0, 0], "counts": []}, [[0, 0, 5, 0, 5, 5]], [[1e9] * 8])
SEGMENTS = ("0Z1", "1", "", "\x7f", "ooooooooooooo", "x.png", "truth.json", {"size": [2**31, 2**31], "counts": "1"})
WORDS = ("nan", "inf", "-1", "0", "-0.0", "1e308", "1e13", "1e-320", "1_000", "٣", "0x10", "9" * 400, "猫", "\x00", "1")
WORDS += ("&lt;", "&amp;lol;", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "<object>", "</object>", "\ufeff", "\x1c", "1 1", "\r")
OPTIONS: dict[str, list[Any]] = {
    "iou_thresholds": [[0.5], [0.0, 1.0], [0.5, 0.5], [], [math.nan], [2.0], [0.9, 0.1], [1e-320]],
    "max_detections": [[1], [10, 1], [0], [-1], [2**40], [10**20], [3, 3]],
    "area_ranges": [{"all": (0, 1e10), "x": (5, 100)}, {"all": (0, math.inf), "x": (0, math.inf)}, {"": (0, 1)}, {}],
    "sigmas": [[0.1] * 17, [0.1], [], [math.inf] * 17, [1e-320] * 17, [math.nan] * 17],
    "errors": [True],
    "boundary": [True],
    "class_agnostic": [True],
    "keep_masks": [True],
    "inclusive_pixels": [False],
    "ignore_index": [0, 1, 255, -1, 2**40, 10**30],
    "tolerance": [0, 5.5, -1, math.inf, math.nan],
    "truth_format": ["coco", "voc", "yolo", "instance-maps", "", "cocoo"],
    "prediction_format": ["coco", "json-lines", "shards", "voc", "yolo", "instance-maps", "text-xyxy", "text-relative"],
}


@dataclass
class Case:
    """A pair of files, and what is asked of them."""

    name: str
    task: str
    truth: Path
    found: Path
    options: dict[str, Any] = field(default_factory=dict)
    images: Path | None = None
    changes: list[str] = field(default_factory=list)
    optional: bool = False  # whether an option was changed


class TooLongError(BaseException):
    """No handler of the code under test may swallow it."""


# --- small valid inputs -----------------------------------------------------------------------------------------------


def coco_case(kind: str) -> Callable[[Path, np.random.Generator], Case]:
    def build(folder: Path, generator: np.random.Generator) -> Case:
        truth, results = scene(int(generator.integers(2**31)), kind)
        for image in truth["images"]:
            save(np.zeros((image["height"], image["width"], 3), np.uint8), folder / "images" / image["file_name"])
        shape = {"annotations": results} if generator.random() < 0.2 else results
        return Case(
            f"coco {kind}",
            kind,
            write_json(folder / "truth.json", truth),
            write_json(folder / "found.json", shape),
            images=folder / "images",
        )

    return build


def lines_case(kind: str, packed: bool) -> Callable[[Path, np.random.Generator], Case]:
    def build(folder: Path, generator: np.random.Generator) -> Case:
        truth, results = scene(int(generator.integers(2**31)), kind)
        path = folder / ("found.jsonl.gz" if packed else "found.jsonl")
        text = "".join(json.dumps(result) + "\n" for result in results).encode()
        path.write_bytes(gzip.compress(text) if packed else text)
        return Case(f"lines {kind}", kind, write_json(folder / "truth.json", truth), path)

    return build


def shards_case(kind: str) -> Callable[[Path, np.random.Generator], Case]:
    def build(folder: Path, generator: np.random.Generator) -> Case:
        truth, results = scene(int(generator.integers(2**31)), kind)
        (folder / "shards").mkdir()
        for number, part in enumerate((results[::2], results[1::2])):
            np.savez(folder / f"shards/{number}.npz", **shard_arrays(part, kind))
        return Case(f"shards {kind}", kind, write_json(folder / "truth.json", truth), folder / "shards")

    return build


def shard_arrays(results: list[dict[str, Any]], kind: str) -> dict[str, np.ndarray]:
    arrays = {
        "image_ids": np.array([result["image_id"] for result in results], np.int64),
        "labels": np.array([result["category_id"] for result in results], np.int64),
        "scores": np.array([result["score"] for result in results], np.float64),
    }
    if kind == "boxes":
        arrays["boxes"] = np.array([result["bbox"] for result in results], np.float64).reshape(-1, 4)
    elif kind == "keypoints":
        arrays["keypoints"] = np.array([result["keypoints"] for result in results], np.float64).reshape(-1, 17, 3)
    else:
        texts = [r["segmentation"]["counts"] if isinstance(r["segmentation"], dict) else "" for r in results]
        usable = [i for i, text in enumerate(texts) if isinstance(text, str) and text]
        arrays = {name: column[usable] for name, column in arrays.items()}
        arrays["mask_text"] = np.frombuffer("".join(texts[i] for i in usable).encode(), np.uint8)
        arrays["mask_offsets"] = np.cumsum([0, *(len(texts[i]) for i in usable)])
        sizes = [results[i]["segmentation"]["size"] for i in usable]
        arrays["mask_sizes"] = np.array(sizes, np.int64).reshape(-1, 2)
    return arrays


def random_boxes(generator: np.random.Generator, count: int) -> list[tuple[int, int, int, int, int]]:
    """(class, left, top, right, bottom), edges of pixels, inside :data:`SIZE`."""
    rows = []
    for _ in range(count):
        left, top = int(generator.integers(0, 20)), int(generator.integers(0, 12))
        right, bottom = left + int(generator.integers(1, 10)), top + int(generator.integers(1, 8))
        rows.append((int(generator.integers(0, 3)), left, top, right, bottom))
    return rows


def voc_case(folder: Path, generator: np.random.Generator) -> Case:
    place = folder / "truth" / ("Annotations" if generator.random() < 0.5 else "")
    (folder / "found").mkdir()
    place.mkdir(parents=True)
    lines: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for image in range(3):
        objects = ""
        for label, *corners in [(image % 3, 2, 2, 9, 9), *random_boxes(generator, 3)]:
            box = "".join(f"<{n}>{v}</{n}>" for n, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
            hard = int(generator.random() < 0.2)
            objects += f"<object><name>c{label}</name><difficult>{hard}</difficult><bndbox>{box}</bndbox></object>\n"
            lines[label].append(f"im{image} {generator.random():.2f} {' '.join(map(str, corners))}")
        size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
        text = f"<annotation><filename>im{image}.jpg</filename>{size}\n{objects}</annotation>"
        (place / f"im{image}.xml").write_text(text)
    for label, rows in lines.items():
        (folder / f"found/comp4_det_val_c{label}.txt").write_text("\n".join(rows))
    task = str(generator.choice(["voc", "boxes", "localisation"]))
    return Case("voc", task, folder / "truth", folder / "found")


def yolo_case(folder: Path, generator: np.random.Generator) -> Case:
    kind = str(generator.choice(["boxes", "masks"]))
    (folder / "found").mkdir()
    (folder / "truth/labels").mkdir(parents=True)
    if generator.random() < 0.5:
        (folder / "truth/data.yaml").write_text("names: [a, b, c]\nnc: 3\n")
    for image in range(2):
        save(np.zeros((*SIZE, 3), np.uint8), folder / f"truth/images/im{image}.png")
        for place, end in (("truth/labels", ""), ("found", " 0.5")):
            rows = []
            for label, left, top, right, bottom in [(2, 0, 0, 4, 4), *random_boxes(generator, 3)]:
                x, y, right, bottom = left / SIZE[1], top / SIZE[0], right / SIZE[1], bottom / SIZE[0]
                numbers = [(x + right) / 2, (y + bottom) / 2, right - x, bottom - y]
                numbers = [x, y, right, y, right, bottom] if kind == "masks" else numbers
                rows.append(f"{label} {' '.join(f'{number:.4f}' for number in numbers)}{end}")
            (folder / place / f"im{image}.txt").write_text("\n".join(rows))
    return Case(
        "yolo", kind, folder / "truth", folder / "found", {"prediction_format": "yolo"}, folder / "truth/images"
    )


def text_case(folder: Path, generator: np.random.Generator) -> Case:
    form = str(generator.choice(["text-xyxy", "text-xywh", "text-relative"]))
    annotations, number = [], 0
    (folder / "found").mkdir()
    for image in (1, 2):
        rows = []
        for label, left, top, right, bottom in random_boxes(generator, 4):
            number += 1
            box = [left, top, right - left, bottom - top]
            annotations.append({"id": number, "image_id": image, "category_id": label, "bbox": box})
            numbers: list[float] = [left, top, right, bottom] if form == "text-xyxy" else list(box)
            if form == "text-relative":
                numbers = [(left + right) / 60, (top + bottom) / 40, box[2] / SIZE[1], box[3] / SIZE[0]]
            rows.append(f"c{label} {generator.random():.3f} {' '.join(map(str, numbers))}")
        (folder / f"found/{image}.txt").write_text("\n".join(rows))
    images = [{"id": i, "height": SIZE[0], "width": SIZE[1], "file_name": f"{i}.jpg"} for i in (1, 2)]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": i, "name": f"c{i}"} for i in range(3)]}
    task = str(generator.choice(["boxes", "voc", "localisation"]))
    return Case(form, task, write_json(folder / "truth.json", truth), folder / "found", {"prediction_format": form})


def instance_case(folder: Path, generator: np.random.Generator) -> Case:
    dtype = generator.choice([np.uint8, np.uint16])
    for image in range(2):
        for place in ("truth", "found"):
            ids = np.zeros(SIZE, dtype)
            for number, (_, left, top, right, bottom) in enumerate(random_boxes(generator, 4), 1):
                ids[top:bottom, left:right] = number
            save(ids, folder / place / f"im{image}.png")
    kind = str(generator.choice(["boxes", "masks"]))
    return Case("instance maps", kind, folder / "truth", folder / "found", images=folder / "truth")


def semantic_case(folder: Path, generator: np.random.Generator) -> Case:
    listed = generator.random() < 0.6
    count = int(generator.integers(3, 6)) if listed else int(generator.integers(2, 6))
    coloured = listed and generator.random() < 0.2
    if listed:
        lines = [f"c{k}" + (f" {40 * k} {k} 7" if coloured else "") for k in range(count)]
        (folder / "classes.txt").write_text("\n".join(lines))
    for image in range(3):
        for place in ("truth", "found"):
            labels = generator.integers(0, count, (4, 5)).repeat(5, axis=0).repeat(6, axis=1).astype(np.uint8)
            if place == "truth" and generator.random() < 0.5:
                labels[:3] = 255
            if coloured:
                labels = np.where(labels == 255, 0, labels)
                labels = np.stack([40 * labels, labels, np.full_like(labels, 7)], axis=2).astype(np.uint8)
            save(labels, folder / place / f"im{image}{'.png' if coloured or generator.random() < 0.8 else '.npy'}")
    return Case("semantic", "semantic", folder / "truth", folder / "found")


def saliency_case(folder: Path, generator: np.random.Generator) -> Case:
    for image in range(2):
        target = np.zeros(SIZE, np.uint8)
        for _, left, top, right, bottom in random_boxes(generator, 2):
            target[top:bottom, left:right] = 255
        values = np.clip(target * 0.6 + generator.random(SIZE) * 100, 0, 255)
        save(target, folder / f"truth/im{image}.png")
        if generator.random() < 0.3:
            save(values / 255, folder / f"found/im{image}.npy")
        else:
            save(values.astype(np.uint8), folder / f"found/im{image}.png")
    return Case("saliency", "saliency", folder / "truth", folder / "found")


def panoptic_case(folder: Path, generator: np.random.Generator) -> Case:
    categories = [{"id": 3 * k + 1, "name": f"c{k}", "isthing": k % 2} for k in range(4)]
    for place in ("truth", "found"):
        annotations = []
        for image in range(2):
            ids = generator.integers(0, 5, (4, 5)).repeat(5, axis=0).repeat(6, axis=1) * 70_001
            save(
                np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8),
                folder / place / f"{image}.png",
            )
            infos = [
                {
                    "id": int(i),
                    "category_id": int(generator.integers(0, 4)) * 3 + 1,
                    "iscrowd": int(generator.random() < 0.1),
                }
                for i in np.unique(ids)
                if i
            ]
            annotations.append({"image_id": image, "file_name": f"{image}.png", "segments_info": infos})
        images = [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(2)]
        write_json(folder / f"{place}.json", {"images": images, "annotations": annotations, "categories": categories})
    return Case("panoptic", "panoptic", folder / "truth.json", folder / "found.json")


def score_maps_case(folder: Path, generator: np.random.Generator) -> Case:
    case = text_case(folder, generator)
    shutil.rmtree(folder / "found")
    for label in range(3):
        for image in (1, 2):
            values = generator.random(SIZE)
            suffix = "npy" if generator.random() < 0.5 else "png"
            save(
                values if suffix == "npy" else (values * 255).astype(np.uint8),
                folder / f"found/c{label}/{image}.{suffix}",
            )
    return Case("score maps", "localisation", case.truth, folder / "found")


BUILDERS: list[Callable[[Path, np.random.Generator], Case]] = [
    *map(coco_case, ("boxes", "boxes", "masks", "masks", "keypoints")),
    *(lines_case(kind, packed) for kind, packed in (("boxes", False), ("masks", True), ("keypoints", False))),
    *map(shards_case, ("boxes", "masks", "keypoints")),
    *(voc_case, yolo_case, text_case, instance_case, semantic_case, semantic_case, saliency_case, panoptic_case),
    score_maps_case,
]


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)


# --- changes ----------------------------------------------------------------------------------------------------------


def pick(generator: np.random.Generator, values: Any) -> Any:
    return values[int(generator.integers(len(values)))]


def changed_value(value: Any, generator: np.random.Generator) -> Any:
    """Another value, more often than not one of the same type."""
    if generator.random() < 0.1:
        return json.loads(json.dumps(pick(generator, [*INTEGERS, *FLOATS, *NAMES, *NESTED, *SEGMENTS])))
    if isinstance(value, bool) or value is None:
        return pick(generator, (True, False, None, 0, 1, 2))
    if isinstance(value, int):
        return pick(
            generator, (value + 1, value - 1, 0, 1, 2, -value, value * 2, value + 0.0, pick(generator, INTEGERS))
        )
    if isinstance(value, float):
        gentle = (value * 1.01, value + 1.0, 0.0, 1.0, 0.5, value + 1e-9, value * 2)
        return pick(generator, (*gentle, *gentle, -value, value * 100, pick(generator, FLOATS)))
    if isinstance(value, str):
        return pick(
            generator, (pick(generator, NAMES), pick(generator, SEGMENTS), value + "1", value[:-1], value[::-1])
        )
    return pick(generator, NESTED)


def change_json(content: Any, generator: np.random.Generator) -> Any:
    """One value, wherever it is, taken away, repeated, moved, exchanged with another record's, or replaced."""
    place, siblings = content, []
    while place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = pick(generator, keys)
        if isinstance(place[key], dict | list) and generator.random() < 0.85:
            siblings = place if isinstance(place, list) else []
            place = place[key]
            continue
        action = generator.random()
        if action < 0.08:
            del place[key]
        elif action < 0.3 and isinstance(place, list):
            place.insert(int(generator.integers(len(place) + 1)), json.loads(json.dumps(place[key])))
        elif action < 0.35 and isinstance(place, list):
            generator.shuffle(place)
        elif action < 0.4:
            place[key] = json.loads(json.dumps(place[pick(generator, keys)]))
        elif action < 0.65 and siblings:
            with contextlib.suppress(LookupError, TypeError):
                place[key] = json.loads(json.dumps(pick(generator, siblings)[key]))
        else:
            place[key] = changed_value(place[key], generator)
        break
    return content


def change_bytes(content: bytes, generator: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 5))):
        place = int(generator.integers(len(data) + 1))
        if generator.random() < 0.3:
            place = min(place, int(generator.integers(1, 200)))
        action = int(generator.integers(0, 4))
        if action == 0:
            data[place : place + 1] = bytes([int(generator.integers(256))])
        elif action == 1:
            del data[place : place + int(generator.integers(1, 9))]
        elif action == 2:
            data[place:place] = data[place : place + 20] if generator.random() < 0.5 else b'[("{\\' * 3
        else:
            data = data[:place] if generator.random() < 0.3 else data + data[:place]
    return bytes(data)


def change_text(text: str, generator: np.random.Generator) -> str:
    lines = text.split("\n")
    for _ in range(int(generator.integers(1, 4))):
        row = int(generator.integers(len(lines)))
        parts = re.split(r"([\s<>/,:]+)", lines[row])
        action = int(generator.integers(0, 6))
        if action == 0:
            lines.insert(row, pick(generator, lines))
        elif action == 1 and len(lines) > 1:
            del lines[row]
        elif action == 2:
            lines[row] = lines[row].replace(" ", pick(generator, ("\t", "\u00a0", "  ", ",", "\x1f", "\r")))
        else:
            parts[int(generator.integers(len(parts)))] = pick(generator, (*WORDS, *parts))
            lines[row] = "".join(parts)
    return "\n".join(lines)


def change_array(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    values = np.array(values)
    action = int(generator.integers(0, 9))
    if values.dtype.kind == "f" and generator.random() < 0.3:
        return np.round(values, 1) if generator.random() < 0.5 else -values
    if action == 0:
        kinds = [np.uint8, np.int8, np.uint16, np.int64, np.uint64, np.float16, np.float32, np.longdouble, bool, ">i4"]
        with np.errstate(all="ignore"):
            return values.astype(pick(generator, [*kinds, np.complex64, "U5", "S5", object, "M8[s]"]))
    if action == 1:
        return values[: len(values) // 2] if values.ndim else values
    if action == 2:
        return values[..., None] if generator.random() < 0.5 else values.reshape(-1)
    if action == 3:
        return np.array([], values.dtype) if generator.random() < 0.5 else np.array(pick(generator, INTEGERS[:8]))
    if action == 4:
        return np.concatenate([values, values]) if values.ndim else values
    if action == 5:
        return values.T if generator.random() < 0.5 else np.asfortranarray(values)
    if values.size:
        chosen = tuple(int(generator.integers(length)) for length in values.shape)
        with np.errstate(all="ignore"), contextlib.suppress(OverflowError, ValueError, TypeError):
            values[chosen] = pick(generator, [*FLOATS, *INTEGERS] if values.dtype.kind == "f" else INTEGERS)
    return values


def change_npz(content: bytes, generator: np.random.Generator) -> bytes:
    if generator.random() < 0.3:
        return change_bytes(content, generator)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        arrays = {name: archive.read(name) for name in archive.namelist()}
    name = pick(generator, list(arrays))
    action = generator.random()
    if action < 0.1:
        del arrays[name]
    elif action < 0.25:
        arrays[name] = change_bytes(arrays[name], generator)
    elif action < 0.3:
        arrays[pick(generator, list(arrays))] = arrays[name]
    else:
        stream = io.BytesIO()
        np.save(stream, change_array(np.load(io.BytesIO(arrays[name])), generator), allow_pickle=True)
        arrays[name] = stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", pick(generator, (0, 8, 12, 14))) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, value in arrays.items():
            archive.writestr(key, value)
        if generator.random() < 0.05:
            archive.writestr(name, b"twice")
    packed = stream.getvalue()
    return change_bytes(packed, generator) if generator.random() < 0.15 else packed


def change_picture(content: bytes, generator: np.random.Generator) -> bytes:
    if generator.random() < 0.25:
        return change_bytes(content, generator)
    picture = Image.open(io.BytesIO(content))
    pixels = np.array(picture)
    stream, form = io.BytesIO(), "PNG"
    action = int(generator.integers(0, 8))
    if action == 0:
        picture = picture.resize(tuple(int(side) for side in generator.integers(1, 40, 2)))
    elif action == 1:
        picture = picture.convert(pick(generator, ("1", "L", "LA", "P", "RGB", "RGBA")))
    elif action == 2:
        picture = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 else pixels).convert("I;16")
    elif action == 3:
        form = pick(generator, ("GIF", "BMP", "TIFF", "JPEG", "WEBP", "PPM"))
        picture = picture.convert("RGB" if form in ("JPEG", "WEBP", "PPM") else "L")
    elif action == 4:
        frames = [picture.convert("L"), picture.convert("L").rotate(180)]
        frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
        return stream.getvalue()
    elif action == 5:
        pixels = np.array(pixels)
        pixels[tuple(int(generator.integers(length)) for length in pixels.shape)] = int(generator.integers(0, 256))
        picture = Image.fromarray(pixels)
    elif action == 6:
        picture = Image.fromarray(np.zeros_like(pixels) if generator.random() < 0.5 else pixels.max() - pixels)
    else:
        exif = Image.Exif()
        exif[0x0112] = int(generator.integers(0, 10))
        picture.save(stream, "PNG", exif=exif)
        return stream.getvalue()
    picture.save(stream, form)
    return stream.getvalue()


def change_file(path: Path, generator: np.random.Generator) -> None:
    """Something of the whole file."""
    action = int(generator.integers(0, 8))
    content = path.read_bytes()
    if action == 0:
        path.write_bytes(b"")
    elif action == 1:
        path.write_bytes(content[: int(generator.integers(len(content) + 1))])
    elif action == 2:
        path.unlink()
        path.mkdir()
    elif action == 3:
        path.unlink()
        path.symlink_to(path.name)
    elif action == 4:
        path.unlink()
    elif action == 5:
        path.with_suffix(pick(generator, (".npy", ".PNG", ".tif", ".txt", ".json"))).write_bytes(content)
    elif action == 6:
        path.with_name(f"{path.stem}{pick(generator, ('_mask', '_gt', '2', ' '))}{path.suffix}").write_bytes(content)
    else:
        path.write_bytes(pick(generator, (b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"PK\x03\x04", b"\n")) + content)


def change(case: Case, folder: Path, generator: np.random.Generator) -> None:
    """One to four changes of the case's files and options."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and folder / "images" not in path.parents)
    for _ in range(pick(generator, (1, 1, 1, 2, 3, 4))):
        path = pick(generator, files)
        if not path.is_file():
            continue
        case.changes.append(path.relative_to(folder).as_posix())
        if generator.random() < 0.06:
            change_file(path, generator)
            continue
        content = path.read_bytes()
        with contextlib.suppress(Exception):  # what was damaged before may not be changed in its own way any more
            path.write_bytes(changed(path, content, generator))
    if generator.random() < 0.15:
        name = pick(generator, [name for name in OPTIONS if name in TASKS[case.task].options] or ["errors"])
        case.options[name] = pick(generator, OPTIONS[name])
        case.optional = True


def changed(path: Path, content: bytes, generator: np.random.Generator) -> bytes:
    suffix = path.suffix.lower()
    if generator.random() < 0.06:
        return change_bytes(content, generator)
    if suffix == ".json":
        return json.dumps(change_json(json.loads(content), generator)).encode()
    if suffix == ".gz":
        return gzip.compress(changed(path.with_suffix(""), gzip.decompress(content), generator))
    if suffix == ".jsonl":
        records = [json.loads(line) for line in content.splitlines()]
        return "".join(json.dumps(record) + "\n" for record in change_json(records, generator)).encode()
    if suffix == ".npz":
        return change_npz(content, generator)
    if suffix == ".npy":
        stream = io.BytesIO()
        np.save(stream, change_array(np.load(io.BytesIO(content)), generator), allow_pickle=True)
        return stream.getvalue()
    if suffix == ".png":
        return change_picture(content, generator)
    text = change_text(content.decode(), generator)
    return text.encode(pick(generator, ("utf-8",) * 9 + ("utf-16",)))


# --- what must hold ---------------------------------------------------------------------------------------------------


def attempt(case: Case, folder: Path, generator: np.random.Generator) -> list[str]:
    """What is wrong with the answer to a case; nothing, if all is well."""
    wrong: list[str] = []
    page = generator.random() < 0.3
    options = dict(case.options)
    if page and case.task == "masks":
        options["keep_masks"] = True
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    out = folder / "out"
    result = None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)
        signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
        try:
            result = measure_files(case.task, case.truth, case.found, **options)
            result.write(out / "score.json")
            if page:
                write_score_report(out / "score.html", result, images=case.images)
        except TooLongError as error:
            wrong.append(f"more than {2 * SECONDS:g} s at {place_of(error)}")
            result = None
        except (DelineateError, OSError) as error:
            wrong += strange_refusal(error, case, folder)
            result = None
        except Exception as error:
            wrong.append(f"{type(error).__name__} at {place_of(error)}: {str(error)[:100]}")
            result = None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = time.process_time() - start
    if seconds > SECONDS and not wrong:
        wrong.append(f"slow: {case.name}, more than {SECONDS:g} s")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if grown > MEBIBYTES:
        wrong.append(f"memory: {case.name}, more than {MEBIBYTES} MiB")
    wrong += [f"warning at {w.filename}:{w.lineno}: {w.category.__name__} {w.message}"[:200] for w in told]
    if out.is_dir():
        wrong += [f"left behind: {path.suffix}" for path in out.iterdir() if path.name.startswith(".")]
    if result is not None:
        wrong += strange_figures(result, out, page)
        if not case.optional:
            wrong += other_figures(case, result, folder)
    return wrong


def place_of(error: BaseException) -> str:
    """The last line of ours."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/delineate/" in frame.filename]
    return f"{frames[-1].filename.rpartition('/delineate/')[2]}:{frames[-1].lineno}" if frames else "?"


def strange_refusal(error: DelineateError | OSError, case: Case, folder: Path) -> list[str]:
    line = error_line(error)
    where = f"{type(error).__name__} at {place_of(error)}"
    wrong = []
    if str(folder) not in line and not (case.optional and isinstance(error, ArgumentError | UnknownNameError)):
        wrong.append(f"no file named: {where}: {line[:160]}")
    if len(line) > 1500:
        wrong.append(f"long line: {where}: {len(line)} characters")
    if isinstance(error, DataError) and "This was not foreseen" in line:
        wrong.append(f"not foreseen: {where}")
    return wrong


def strange_figures(result: Score, out: Path, page: bool) -> list[str]:
    wrong = []

    def look(value: Any, key: str) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                if name not in FREE:
                    look(item, str(name))
        elif isinstance(value, list):
            for item in value:
                look(item, key)
        elif isinstance(value, float) and not (math.isnan(value) or -1e-9 <= value <= 1 + 1e-9):
            wrong.append(f"figure out of range: {result.task} {key}")
        elif isinstance(value, int) and value < 0:
            wrong.append(f"negative count: {result.task} {key}")

    look(result.scores, "")
    for figures in (result.scores.get("per_class") or {}).values():
        if figures.get("truths") == 0 and not math.isnan(figures["ap"]):
            wrong.append(f"a class without truths has a figure: {result.task}")

    def refused(name: str) -> None:
        raise ValueError(name)

    try:
        written = json.loads((out / "score.json").read_text(), parse_constant=refused)
    except ValueError as error:
        return [*wrong, f"JSON is not strict: {error}"]
    if any(written[key] != plain(value) for key, value in result.scores.items()):
        wrong.append(f"JSON differs from the figures: {result.task}")
    if page:
        text = (out / "score.html").read_text()
        if re.search(r'\b(?:d|x|y|cx|cy|width|height|points)="[^"]*\b(?:nan|inf)\b', text):
            wrong.append(f"page draws NaN: {result.task}")
    return wrong


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def other_figures(case: Case, result: Score, folder: Path) -> list[str]:
    """Where another way to compute a figure disagrees."""
    if case.name.startswith("coco"):
        truth, found = (
            json.loads(path.read_bytes().decode("utf-8-sig", "replace")) for path in (case.truth, case.found)
        )
        found = found["annotations"] if isinstance(found, dict) else found
        return [*unlike_pycocotools(case.task, truth, found, result), *unlike_lines(case, found, result, folder)]
    if case.task == "semantic" and (folder / "classes.txt").is_file():
        return unlike_counting(case, result, folder)
    if case.task == "saliency":
        return unlike_subtracting(case, result)
    if case.name in ("text-xyxy", "text-xywh"):
        return unlike_json(case, result, folder)
    if case.task == "panoptic":
        return unlike_sets(case, result)
    return []


def unlike_pycocotools(task: str, truth: dict[str, Any], found: list[dict[str, Any]], result: Score) -> list[str]:
    sizes = {image["id"]: (image.get("height", 0), image.get("width", 0)) for image in truth["images"]}
    if not found or not truth["annotations"] or max(map(max, sizes.values())) > 2000:
        return []
    if task == "masks" and (min(map(min, sizes.values())) < 1 or "1e9" in json.dumps(found)):
        return []  # it needs sizes, and takes memory for every step of an outline
    for number, entry in enumerate(truth["annotations"], 1):
        entry["id"] = number  # it takes 0 for none
        entry["iscrowd"] = int(entry.get("iscrowd", 0) != 0)
        if entry.get("area") is None:
            entry["area"] = entry["bbox"][2] * entry["bbox"][3] if task != "masks" else mask_area(entry, sizes)
        if task == "keypoints" and entry.get("num_keypoints") is None:
            entry["num_keypoints"] = sum(value > 0 for value in entry["keypoints"][2::3])
    if task != "boxes":
        found = [{name: value for name, value in entry.items() if name != "bbox"} for entry in found]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = reference(truth, found, task)
    names = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium"]
    names = [*names, "ar_large"]
    if task == "keypoints":
        names = ["ap", "ap50", "ap75", "ap_medium", "ap_large", "ar20", "ar_iou50", "ar_iou75", "ar_medium", "ar_large"]
    theirs = dict(zip(names, evaluator.stats.tolist(), strict=True))
    wrong = [
        f"not pycocotools' {name}: {task}" for name, value in theirs.items() if differs(result.scores[name], value)
    ]
    for k, figures in enumerate(result.scores["per_class"].values()):
        precision = evaluator.eval["precision"][:, :, k, 0, -1]
        if differs(figures["ap"], precision[precision > -1].mean() if (precision > -1).any() else -1):
            wrong.append(f"not pycocotools' AP of a class: {task}")
    return wrong[:1]


def differs(ours: float, theirs: float) -> bool:
    return not math.isnan(ours) if theirs == -1 else not abs(ours - theirs) < 1e-9


def mask_area(entry: dict[str, Any], sizes: dict[int, tuple[int, int]]) -> float:
    from pycocotools import mask as coco_mask

    outline = entry["segmentation"]
    if isinstance(outline, list) or isinstance(outline["counts"], list):
        outline = coco_mask.frPyObjects(outline, *sizes[entry["image_id"]])
        outline = coco_mask.merge(outline) if isinstance(outline, list) else outline
    return float(coco_mask.area(outline))


def unlike_lines(case: Case, found: list[dict[str, Any]], result: Score, folder: Path) -> list[str]:
    """The same detections as JSON Lines and, of boxes, as a shard."""
    lines = folder / "same.jsonl"
    lines.write_text("".join(json.dumps(entry) + "\n" for entry in found))
    paths = [lines]
    if case.task == "boxes":
        (folder / "same").mkdir()
        np.savez(folder / "same/0.npz", **shard_arrays(found, "boxes"))
        paths.append(folder / "same")
    wrong = []
    for path in paths:
        try:
            other = measure_files(case.task, case.truth, path, **case.options)
        except DataError as error:
            if "must stand for one" not in str(error):  # of an image's number that is another one's file
                wrong.append(f"refused as {path.name}, not as JSON: {str(error)[:80].replace(str(folder), '')}")
            continue
        except Exception as error:
            wrong.append(f"{type(error).__name__} at {place_of(error)} as {path.name}: {str(error)[:100]}")
            continue
        if json.dumps(plain(other.scores)) != json.dumps(plain(result.scores)):
            wrong.append(f"other figures of the same detections as {path.name}: {case.task}")
    return wrong


def unlike_json(case: Case, result: Score, folder: Path) -> list[str]:
    """Text files read word by word and scored as JSON; only where every name is plain."""
    truth = json.loads(case.truth.read_text("utf-8-sig"))
    classes = {category["name"]: category["id"] for category in truth["categories"]}
    images = {str(image["id"]): image["id"] for image in truth["images"]}
    if [image.get("file_name") for image in truth["images"]] != [f"{name}.jpg" for name in images]:
        return []
    if len(classes) < len(truth["categories"]) or not all(re.fullmatch(r"c\d", name) for name in classes):
        return []
    results = []
    for path in sorted(case.found.glob("*.txt")):
        for words in map(str.split, path.read_bytes().decode("utf-8-sig").split("\n")):
            if words:
                left, top, *ends = map(float, words[2:])
                if case.name == "text-xyxy":
                    ends = [ends[0] - left, ends[1] - top]
                if path.stem not in images or words[0] not in classes:
                    return []
                known = {"image_id": images[path.stem], "category_id": classes[words[0]], "bbox": [left, top, *ends]}
                results.append({**known, "score": float(words[1])})
    path = write_json(folder / "same.json", results)
    options = {name: value for name, value in case.options.items() if name != "prediction_format"}
    other = measure_files(case.task, case.truth, path, **options)
    same = json.dumps(plain(other.scores)) == json.dumps(plain(result.scores))
    return [] if same else [f"other figures of the same detections as JSON: {case.name}, {case.task}"]


def unlike_sets(case: Case, result: Score) -> list[str]:
    """Panoptic quality by panopticapi's rules, over sets of pixels; of several crowds of a class the last counts."""
    truth, found = (json.loads(path.read_text("utf-8-sig")) for path in (case.truth, case.found))
    labels = sorted(category["id"] for category in truth["categories"])
    sums = {label: [0.0, 0, 0, 0] for label in labels}
    predicted = {entry["image_id"]: entry for entry in found["annotations"]}
    for entry in truth["annotations"]:
        sides = []
        for described, path in ((entry, case.truth), (predicted[entry["image_id"]], case.found)):
            with Image.open(path.with_suffix("") / described["file_name"]) as picture:
                if picture.mode != "RGB" or picture.format != "PNG" or picture.info:
                    return []
                colours = np.array(picture).astype(int)
            ids = (colours * [1, 256, 65536]).sum(axis=2).ravel()
            pixels = {
                info["id"]: set(np.flatnonzero(ids == info["id"]).tolist()) for info in described["segments_info"]
            }
            sides.append((described["segments_info"], pixels, set(np.flatnonzero(ids == 0).tolist())))
        (true, true_pixels, void), (guesses, guess_pixels, _) = sides
        hit, used = set(), set()
        for one in (info for info in true if not info.get("iscrowd")):
            for other in (info for info in guesses if info["category_id"] == one["category_id"]):
                a, b = true_pixels[one["id"]], guess_pixels[other["id"]]
                if 2 * len(a & b) > len((a | b) - (void & b)):
                    sums[one["category_id"]][0] += len(a & b) / len((a | b) - (void & b))
                    sums[one["category_id"]][1] += 1
                    hit.add(one["id"])
                    used.add(other["id"])
        crowds = {info["category_id"]: true_pixels[info["id"]] for info in true if info.get("iscrowd")}
        for one in true:
            sums[one["category_id"]][3] += not one.get("iscrowd") and one["id"] not in hit
        for other in guesses:
            pixels = guess_pixels[other["id"]]
            excused = len(pixels & void) + len(pixels & crowds.get(other["category_id"], set()))
            sums[other["category_id"]][2] += other["id"] not in used and 2 * excused <= len(pixels)
    qualities = [iou / (tp + (fp + fn) / 2) for iou, tp, fp, fn in sums.values() if tp + fp + fn]
    expected = sum(qualities) / len(qualities) if qualities else -1
    return ["PQ is not that of sets of pixels"] if differs(result.scores["pq"], expected) else []


def unlike_counting(case: Case, result: Score, folder: Path) -> list[str]:
    """Label maps counted pixel by pixel; only where every file is of the plainest kind."""
    names = (folder / "classes.txt").read_text().splitlines()
    if not all(re.fullmatch(r"c\d", name) for name in names) or len(names) < 3:
        return []
    counts = Counter[tuple[int, int]]()
    for path in sorted(case.truth.iterdir()):
        maps = [plain_map(file) for file in (path, *sorted(case.found.glob(f"{path.stem}.*")))]
        if len(maps) != 2 or any(values is None for values in maps):
            return []
        counts.update(zip(*(values.ravel().tolist() for values in maps), strict=True))
    ious = []
    for k in range(len(names)):
        both = counts[k, k]
        either = sum(n for (true, found), n in counts.items() if true < len(names) and k in (true, found))
        if either:
            ious.append(both / either)
    mean = sum(ious) / len(ious) if ious else -1
    return ["mean IoU is not what counting gives"] if differs(result.scores["miou"], mean) else []


def unlike_subtracting(case: Case, result: Score) -> list[str]:
    errors = []
    for path in sorted(case.truth.iterdir()):
        maps = [plain_map(file) for file in (path, *sorted(case.found.glob(f"{path.stem}.*")))]
        if len(maps) != 2 or any(values is None or values.dtype != np.uint8 for values in maps):
            return []
        target, values = maps
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) / (high - low) if high > low else values / 255
        errors.append(np.abs(scaled - (target > (128 if target.max() > 1 else 0.5))).mean())
    return ["MAE is not what subtracting gives"] if differs(result.scores["mae"], float(np.mean(errors))) else []


def plain_map(path: Path) -> np.ndarray | None:
    """A grey PNG without turning, or an integer ``.npy``; None of anything else."""
    if not path.is_file() or path.suffix not in (".npy", ".png"):
        return None
    if path.suffix == ".npy":
        values = np.load(path)
        return values if values.ndim == 2 and values.dtype.kind in "iu" else None
    with contextlib.suppress(OSError), Image.open(path) as picture:
        if picture.format == "PNG" and picture.mode == "L" and not picture.info:
            return np.array(picture)
    return None


def typed(case: Case, folder: Path) -> list[str]:
    """The same as a person types it."""
    words = ["score", "-t", case.task, case.truth, case.found, "--json", folder / "typed.json"]
    words += [word for name in ("truth_format", "prediction_format") if name in case.options
              for word in (f"--{name.replace('_', '-')}", case.options[name])]  # fmt: skip
    command = [sys.executable, "-m", "delineate", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    lines = done.stderr.splitlines()
    if done.returncode == 0 and not lines and (folder / "typed.json").is_file():
        return []
    if done.returncode == 1 and len(lines) == 1 and lines[0].startswith("error: ") and "not foreseen" not in lines[0]:
        return ["a file in spite of an error"] if (folder / "typed.json").exists() else []
    return [f"typed: status {done.returncode}: {done.stderr[-200:]}"]


def told_apart(finding: str, folder: Path) -> str:
    """A finding without what differs from case to case."""
    return re.sub(r"[-+.\w]*\d[-+.\w]*", "#", finding.replace(str(folder), "")[:110])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument("--keep", type=Path, help="folder for the files of the cases with findings")
    parser.add_argument("--typed", type=int, default=400, help="every so many cases one goes through the command line")
    arguments = parser.parse_args()

    def too_long(*_: object) -> None:
        raise TooLongError

    signal.signal(signal.SIGALRM, too_long)
    faulthandler.enable()
    root = Path(tempfile.mkdtemp(prefix="fuzz-score-"))
    for number, build in enumerate(BUILDERS):  # kernels are compiled, and what is unchanged must be right
        folder = root / f"valid{number}"
        folder.mkdir()
        generator = np.random.default_rng(number)
        case = build(folder, generator)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        measure_files(case.task, case.truth, case.found, **case.options)
        if case.task == "masks":
            measure_files(case.task, case.truth, case.found, boundary=True, errors=True, **case.options)
        signal.signal(signal.SIGALRM, too_long)
        for finding in attempt(case, folder, generator):
            print(f"UNCHANGED {case.name}: {finding}", flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, resource.RLIM_INFINITY))
    seen: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    number, end = (
        arguments.only if arguments.only is not None else arguments.first,
        time.monotonic() + arguments.seconds,
    )
    while time.monotonic() < end:
        folder = root / str(number)
        folder.mkdir()
        generator = np.random.default_rng([arguments.seed, number])
        case = pick(generator, BUILDERS)(folder, generator)
        change(case, folder, generator)
        faulthandler.dump_traceback_later(60, exit=True)  # a kernel that never ends; the number tells the case
        (root / "running").write_text(str(number))
        try:
            findings = attempt(case, folder, generator)
        except Exception:
            findings = [f"the check itself failed: {traceback.format_exc()[-400:]}"]
        faulthandler.cancel_dump_traceback_later()
        if number % arguments.typed == 1 or arguments.only is not None:
            findings += typed(case, folder)
        tried[case.name] += 1
        accepted[case.name] += (folder / "out/score.json").is_file()
        for finding in findings:
            key = told_apart(finding, folder)
            seen[key] += 1
            if seen[key] == 1 or arguments.only is not None:
                print(
                    f"[{number}] {case.name} / {case.task} {case.options or ''} {case.changes}\n    {finding}",
                    flush=True,
                )
                if arguments.keep:
                    shutil.copytree(folder, arguments.keep / str(number), symlinks=True, dirs_exist_ok=True)
        if arguments.only is not None:
            break
        shutil.rmtree(folder)
        number += 1
    shutil.rmtree(root)
    print(f"{sum(tried.values())} cases, seed {arguments.seed}:", end=" ")
    print(", ".join(f"{name} {accepted[name]}/{count} accepted" for name, count in sorted(tried.items())))
    for key, count in seen.most_common():
        print(f"{count:6} {key}")
    raise SystemExit(1 if seen else 0)


if __name__ == "__main__":
    main()

"""Small COCO files made from a seed to be hard to score, and what pycocotools makes of them.

The scenes are dense in what moves a figure: equal scores, equal overlaps, identical objects, crowds, areas at the very
ends of the ranges, images and classes of which one side has nothing, ids in any order and with gaps.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from delineate.data.objects.coco_json import read_predictions, read_truth

KINDS = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}
POINTS = 17
SIDES = np.array([4, 10, 10, 20, 31, 32, 32, 33, 40, 64, 95, 96, 96, 97, 120])  # 32 and 96 are ends of area ranges


def scene(seed, kind="boxes"):
    """A truth and a list of results, as COCO's files have them."""
    generator = np.random.default_rng(seed)
    image_ids = generator.choice(np.arange(-3, 60), generator.integers(1, 6), replace=False)
    category_ids = generator.choice(np.arange(0, 30), generator.integers(1, 5), replace=False)
    images = [
        {"id": int(i), "file_name": f"{i}.png", "height": int(h), "width": int(w)}
        for i, (h, w) in zip(image_ids, generator.integers(100, 140, (len(image_ids), 2)), strict=True)
    ]
    categories = [{"id": int(i), "name": f"kind {i}"} for i in category_ids]
    true_ids = category_ids[: generator.integers(1, len(category_ids) + 1)]  # classes without truth
    found_ids = category_ids[generator.integers(0, len(category_ids)) :]  # classes without detections
    crowded, moved = generator.choice([0.0, 0.1, 0.5, 1.0], p=[0.4, 0.3, 0.2, 0.1]), generator.choice([0, 1, 3, 8])
    draw = {"boxes": _box_object, "masks": _mask_object, "keypoints": _person}[kind]

    annotations, results = [], []
    for image in images:
        objects = []
        for _ in range(generator.integers(0, 9) if generator.random() < 0.85 else 0):
            if objects and generator.random() < 0.2:
                entry = json.loads(json.dumps(objects[generator.integers(len(objects))]))  # the very same again
            else:
                entry = draw(generator, image, _box(generator, image), truth=True)
            entry["category_id"] = int(generator.choice(true_ids))
            entry["iscrowd"] = int(generator.random() < crowded)
            objects.append(entry)
        annotations += objects
        boxes = [entry["bbox"] for entry in objects]
        for _ in range(generator.integers(0, 25) if generator.random() < 0.9 else 0):
            if boxes and generator.random() < 0.75:
                chosen = int(generator.integers(len(boxes)))
                step = generator.integers(-1, 2, 4) * moved if generator.random() < 0.7 else np.zeros(4)
                box = [float(value) for value in np.add(boxes[chosen], step)]
                box[2:] = max(box[2], 0.0), max(box[3], 0.0)
                label = objects[chosen]["category_id"] if generator.random() < 0.8 else generator.choice(found_ids)
                result = draw(generator, image, box, like=objects[chosen])
            else:
                label = generator.choice(found_ids)
                result = draw(generator, image, _box(generator, image))
            results.append({**result, "category_id": int(label), "score": float(generator.random())})
    digits = int(generator.choice([1, 2, 8]))
    for result in results:
        result["score"] = round(result["score"], digits)
    ids = generator.permutation(len(annotations) * 2 + 1)[: len(annotations)] + 1
    if generator.random() < 0.5:
        ids = np.sort(ids)[::-1]
    for entry, number in zip(annotations, ids, strict=True):
        entry["id"] = int(number)
    order = generator.permutation(len(annotations)) if generator.random() < 0.5 else np.arange(len(annotations))
    truth = {"images": images, "categories": categories, "annotations": [annotations[i] for i in order]}
    return truth, [results[i] for i in generator.permutation(len(results))]


def crowded_scene(seed, kind="boxes", results=130):
    """One image with more detections of a class than are looked at, several at the same score."""
    truth, _ = scene(seed, kind)
    generator = np.random.default_rng(seed)
    draw = {"boxes": _box_object, "masks": _mask_object, "keypoints": _person}[kind]
    image, category = truth["images"][0], truth["categories"][0]["id"]
    found = []
    for i in range(results):
        box = _box(generator, image)
        if i % 4 == 0:
            entry = draw(generator, image, box, truth=True)
            truth["annotations"].append({**entry, "category_id": category, "iscrowd": 0, "id": 1000 + i})
        result = draw(generator, image, box)
        found.append({**result, "category_id": category, "score": round(float(generator.random()), 1)})
    return truth, found


def _box(generator, image):
    """On a coarse grid, so that overlaps repeat; at times partly outside, thin or without an area."""
    place = generator.integers(-2, 20, 2) * 5.0
    width, height = generator.choice(SIDES, 2) if generator.random() < 0.5 else [generator.choice(SIDES)] * 2
    box = [float(place[0]), float(place[1]), float(width), float(height)]
    if generator.random() < 0.05:
        box[generator.integers(2, 4)] = 0.0
    if generator.random() < 0.3:
        box = [round(value + float(generator.normal()), 2) for value in box[:2]] + box[2:]
    return box


def _box_object(generator, image, box, truth=False, like=None):
    entry = {"image_id": image["id"], "bbox": box}
    if truth:
        entry["area"] = _area(generator, box[2] * box[3])
    return entry


def _area(generator, area):
    """What a file may state: that of the object, the very end of a range, or something else."""
    return float(generator.choice([area, area, area, 1024, 9216, 1024.5, 9215.9]))


def _mask_object(generator, image, box, truth=False, like=None):
    size = (image["height"], image["width"])
    x, y, width, height = box
    if generator.random() < 0.5:
        cut = generator.integers(0, 3) * 2.5
        polygons = [[x, y, x + width, y + cut, x + width, y + height, x + cut, y + height]]
        if generator.random() < 0.3:
            polygons.append([x - 7, y - 7, x - 2, y - 7, x - 2, y + 3.5])
        segmentation = polygons
        pixels = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size)))
    else:
        pixels = np.zeros(size, np.uint8)
        left, top = max(int(x), 0), max(int(y), 0)
        pixels[top : max(int(y + height), 0), left : max(int(x + width), 0)] = 1
        pixels[top : top + 3, left : left + 3] = 0
        segmentation = coco_mask.encode(np.asfortranarray(pixels))
        segmentation["counts"] = segmentation["counts"].decode()
        if generator.random() < 0.5:
            segmentation = {"size": list(size), "counts": run_lengths(pixels)}
    area = float(pixels.sum())
    entry = {"image_id": image["id"], "segmentation": segmentation}
    return {**entry, "bbox": box, "area": _area(generator, area)} if truth else entry


def run_lengths(pixels):
    """Down the columns, zeros first."""
    flat = np.concatenate([[0], pixels.T.reshape(-1), [1 - int(pixels[-1, -1])]])
    return np.diff(np.flatnonzero(np.diff(flat)), prepend=0).tolist()


def _person(generator, image, box, truth=False, like=None):
    x, y, width, height = box
    places = np.stack([x + width * generator.random(POINTS), y + height * generator.random(POINTS)], axis=1).round(1)
    if like is not None:
        noise = generator.choice([0.0, 0.5, 2.0, 6.0])
        places = np.array(like["keypoints"]).reshape(-1, 3)[:, :2] + generator.normal(0, noise, (POINTS, 2)).round(1)
    labelled = generator.choice([0, 1, 2], POINTS)
    if generator.random() < 0.2:
        labelled[:] = 0
    points = np.concatenate([places, labelled[:, None]], axis=1).reshape(-1).tolist()
    entry = {"image_id": image["id"], "keypoints": points}
    if truth:
        area = 0.0 if generator.random() < 0.05 else _area(generator, width * height * 0.6)
        told = int((labelled > 0).sum()) if generator.random() < 0.9 else 0  # the file's word counts
        entry.update(bbox=box, area=area, num_keypoints=told)
    return entry


def written(folder, truth, results):
    """The two files."""
    paths = Path(folder, "truth.json"), Path(folder, "results.json")
    for path, content in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(content))
    return paths


def read(folder, truth, results, kind="boxes"):
    """Both as delineate reads them from files."""
    truth_path, results_path = written(folder, truth, results)
    annotations = read_truth(truth_path, columns=kind)
    return annotations, read_predictions(results_path, annotations, columns=kind)


def reference(truth, results, kind="boxes", evaluation=COCOeval, summary=True, **parameters):
    """pycocotools' evaluation of the same; ``parameters`` are attributes of its ``params``."""
    truth, results = json.loads(json.dumps([truth, results]))
    if kind == "masks":
        sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
        for result in results:  # its results must be compressed
            mask = result["segmentation"]
            if isinstance(mask, list) or isinstance(mask["counts"], list):
                mask = coco_mask.frPyObjects(mask, *sizes[result["image_id"]])
                result["segmentation"] = coco_mask.merge(mask) if isinstance(mask, list) else mask
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO()
        annotations.dataset = truth
        annotations.createIndex()
        evaluator = evaluation(annotations, annotations.loadRes(results), KINDS[kind])
        for name, value in parameters.items():
            setattr(evaluator.params, name, value)
        evaluator.evaluate()
        evaluator.accumulate()
        if summary:
            evaluator.summarize()
    return evaluator

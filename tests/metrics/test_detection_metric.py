"""The torchmetrics classes give the figures of the functions, whatever the batches and the processes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from delineate.errors import ArgumentError
from delineate.metrics.detection import boundary_scores, box_scores, keypoint_scores, mask_scores
from delineate.metrics.detection_metric import BoundaryScores, BoxScores, KeypointScores, MaskScores
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

CLASSES = ("cell", "debris", "never")


def scene(seed: int, images: int = 7) -> tuple[list[dict], list[dict]]:
    """Predictions and targets in torchvision's manner; many equal scores, crowds, empty images."""
    generator = np.random.default_rng(seed)
    predictions, targets = [], []
    for i in range(images):
        true = 0 if i == 2 else int(generator.integers(1, 6))
        corner = generator.integers(0, 40, (true, 2))
        boxes = np.concatenate([corner, corner + generator.integers(4, 40, (true, 2))], axis=1).astype(float)
        found = np.concatenate([boxes, boxes + 2, boxes[:1] + 9]) if i != 4 else np.zeros((0, 4))
        labels = generator.integers(0, 2, true)
        again = np.concatenate([labels, labels, labels[:1]]) if i != 4 else np.zeros(0, int)
        targets.append(
            {
                "boxes": torch.from_numpy(boxes),
                "labels": torch.from_numpy(labels),
                "iscrowd": torch.from_numpy(generator.random(true) < 0.2),
                "image_id": 100 - i,
            }
        )
        predictions.append(
            {
                "boxes": torch.from_numpy(found),
                "labels": torch.from_numpy(again),
                "scores": torch.from_numpy(np.round(generator.random(len(found)), 1)),
            }
        )
    return predictions, targets


def as_tables(predictions: list[dict], targets: list[dict]) -> tuple[Annotations, Objects]:
    """The same for the functions, images in order of their ids."""
    order = np.argsort([target["image_id"] for target in targets])
    true, found = [], []
    for place, i in enumerate(order):
        for entry, parts in ((targets[i], true), (predictions[i], found)):
            xyxy = entry["boxes"].numpy().reshape(-1, 4)
            parts.append(
                Objects.of(
                    np.full(len(xyxy), place),
                    entry["labels"].numpy(),
                    np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1),
                    scores=entry["scores"].numpy() if "scores" in entry else None,
                    crowd=entry["iscrowd"].numpy() if "iscrowd" in entry else None,
                )
            )
    ids = sorted(target["image_id"] for target in targets)
    return Annotations.of(ids, CLASSES, Objects.concatenate(true)), Objects.concatenate(found)


def same(first: object, second: object) -> bool:
    return json.dumps(first) == json.dumps(second)  # NaN is written as NaN


@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_boxes_equal_the_function_whatever_the_batches(seed, batch):
    predictions, targets = scene(seed)
    metric = BoxScores(CLASSES)
    for start in range(0, len(targets), batch):
        metric.update(predictions[start : start + batch], targets[start : start + batch])
    expected = box_scores(*as_tables(predictions, targets))
    assert same(metric.compute(), expected)
    assert 0 < expected["ap"] < 1
    assert math.isnan(expected["per_class"]["never"]["ap"])


def test_masks_equal_the_function():
    predictions, targets = scene(0)
    square = (90, 90)

    def masks(boxes: torch.Tensor) -> np.ndarray:
        maps = np.zeros((len(boxes), *square), bool)
        for mask, (left, top, right, bottom) in zip(maps, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = True
        return maps

    true, found = [], []
    for entry in targets:
        true.append({**entry, "masks": torch.from_numpy(masks(entry["boxes"]))})
    for i, entry in enumerate(predictions):  # tensors, lists and tables, in turn
        maps = masks(entry["boxes"])
        rles = [RLE.encode(mask) for mask in maps]
        forms = (torch.from_numpy(maps), rles, RLEMasks.from_rles(rles))
        found.append({"labels": entry["labels"], "scores": entry["scores"], "masks": forms[i % 3]})
    metric = MaskScores(CLASSES)
    metric.update(found[:4], true[:4])
    metric.update(found[4:], true[4:])
    # integer boxes inside the image: masks overlap as boxes do, but for a crowd's area
    truth, objects = as_tables(predictions, targets)
    boxes = [*truth.objects.boxes.tolist()], [*objects.boxes.tolist()]
    drawn = [
        RLEMasks.from_rles([RLE.encode(masks(torch.tensor([[x, y, x + w, y + h]]))[0]) for x, y, w, h in side])
        for side in boxes
    ]
    expected = mask_scores(
        replace(truth, objects=replace(truth.objects, masks=drawn[0])), replace(objects, masks=drawn[1])
    )
    assert same(metric.compute(), expected)
    metric = BoundaryScores(CLASSES, ratio=0.03)
    metric.update(found[:4], true[:4])
    metric.update(found[4:], true[4:])
    expected = boundary_scores(
        replace(truth, objects=replace(truth.objects, masks=drawn[0])), replace(objects, masks=drawn[1]), ratio=0.03
    )
    assert same(metric.compute(), expected)


def test_keypoints_equal_the_function():
    generator = np.random.default_rng(1)
    true = generator.random((3, 17, 3)) * 100
    true[:, :, 2] = 2
    true[2, :, 2] = 0  # nobody labelled this person
    found = true + generator.normal(0, 1.5, true.shape)
    scores = np.array([0.9, 0.8, 0.7])
    low, high = true[:, :, :2].min(axis=1), true[:, :, :2].max(axis=1)
    metric = KeypointScores()
    target = {"boxes": np.concatenate([low, high], axis=1), "labels": np.zeros(3), "keypoints": torch.from_numpy(true)}
    metric.update([{"labels": np.zeros(3), "scores": scores, "keypoints": torch.from_numpy(found)}], [target])
    corner, far = found[:, :, :2].min(axis=1), found[:, :, :2].max(axis=1)
    expected = keypoint_scores(
        Annotations.of(
            (1,),
            ("person",),
            Objects.of(
                [0, 0, 0],
                [0, 0, 0],
                np.concatenate([low, high - low], axis=1),
                ignored=[False, False, True],
                keypoints=true,
            ),
        ),
        Objects.of(
            [0, 0, 0], [0, 0, 0], np.concatenate([corner, far - corner], axis=1), scores=scores, keypoints=found
        ),
    )
    assert same(metric.compute(), expected)
    assert expected["truths"] == 2


def test_nothing_yet_is_undefined_and_reset_forgets():
    metric = BoxScores(CLASSES)
    with pytest.warns(UserWarning, match="before the ``update``"):
        empty = metric.compute()
    assert math.isnan(empty["ap"])
    assert empty["images"] == 0
    predictions, targets = scene(0)
    metric.update(predictions, targets)
    metric.reset()
    metric.update(predictions[:1], targets[:1])
    assert metric.compute()["images"] == 1


def test_images_without_ids_rank_in_the_order_of_updates():
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    hit = {"boxes": box, "labels": torch.tensor([0]), "scores": torch.tensor([0.5])}
    miss = {**hit, "boxes": box + 50}
    target = {"boxes": box, "labels": torch.tensor([0])}
    first, second = BoxScores(("cell",)), BoxScores(("cell",))
    for metric, order in ((first, (hit, miss)), (second, (miss, hit))):
        for prediction in order:
            metric.update([prediction], [target])
    assert first.compute()["ap"] == pytest.approx(51 / 101)  # the hit is counted before the equal miss
    assert second.compute()["ap"] == pytest.approx(0.5 * 51 / 101)


def test_an_image_that_comes_again_is_left_out():
    """Distributed samplers repeat images so that every process has as many."""
    predictions, targets = scene(3)
    once, again = BoxScores(CLASSES), BoxScores(CLASSES)
    once.update(predictions, targets)
    again.update(predictions, targets)
    again.update(predictions[:2], targets[:2])
    assert same(again.compute(), once.compute())
    assert again.compute()["images"] == 7


def test_forward_gives_a_batch_and_keeps_the_order_of_all():
    """forward() resets the states between batches, and what counts images must not start anew."""
    predictions, targets = scene(2)
    for target in targets:
        del target["image_id"]
    whole, forwarded = BoxScores(CLASSES), BoxScores(CLASSES)
    whole.update(predictions, targets)
    for prediction, target in zip(predictions, targets, strict=True):
        alone = BoxScores(CLASSES)
        alone.update([prediction], [target])
        assert same(forwarded([prediction], [target]), alone.compute())
    assert same(forwarded.compute(), whole.compute())


@pytest.mark.parametrize("image_id", ["img_a", 1.5, -1, torch.tensor([1, 2])])
def test_an_image_id_is_a_whole_number(image_id):
    predictions, targets = scene(0)
    with pytest.raises(ArgumentError, match=r"targets\[0\]\['image_id'\] must be a whole number of at least 0"):
        BoxScores(CLASSES).update(predictions[:1], [{**targets[0], "image_id": image_id}])
    for fine in (7, np.int32(7), torch.tensor(7), torch.tensor([7])):
        BoxScores(CLASSES).update(predictions[:1], [{**targets[0], "image_id": fine}])


def test_what_is_refused():
    predictions, targets = scene(0)
    with pytest.raises(ArgumentError, match="predictions must be of 2 images, as targets; got 1"):
        BoxScores(CLASSES).update(predictions[:1], targets[:2])
    with pytest.raises(ArgumentError, match=r"predictions\[0\] must have scores"):
        BoxScores(CLASSES).update([{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}], targets[:1])
    with pytest.raises(ArgumentError, match=r"predictions\[0\]\['labels'\] must be 0 to 0; got \[1"):
        BoxScores(("cell",)).update(predictions, targets)
    with pytest.raises(ArgumentError, match=r"\['boxes'\] must be \(2, 4\) xyxy pixels"):
        BoxScores(CLASSES).update(
            [{"boxes": torch.zeros(2, 5), "labels": torch.zeros(2), "scores": torch.ones(2)}], targets[:1]
        )
    with pytest.raises(ArgumentError, match="have masks"):
        MaskScores(CLASSES).update(predictions, targets)
    with pytest.raises(ArgumentError, match="class_names must name at least one class"):
        BoxScores(())
    with pytest.raises(ArgumentError, match="class_names must not repeat a name"):
        BoxScores(("a", "a"))
    with pytest.raises(ArgumentError, match="max_detections must hold at least one limit"):
        BoxScores(("a",), max_detections=())


def in_one_of_three(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    predictions, targets = scene(5)
    metric = BoxScores(CLASSES)
    share = {0: slice(0, 5), 1: slice(5, 7), 2: slice(0, 0)}[rank]  # the third has no data at all
    if rank != 2:
        metric.update(predictions[share], targets[share])
    with open(f"{folder}/{rank}.json", "w") as out:  # noqa: PTH123
        json.dump(metric.compute(), out)
    torch.distributed.destroy_process_group()


def test_three_processes_one_of_them_idle_give_the_same(tmp_path):
    torch.multiprocessing.spawn(in_one_of_three, args=(str(tmp_path),), nprocs=3)
    predictions, targets = scene(5)
    alone = BoxScores(CLASSES)
    alone.update(predictions, targets)
    for rank in range(3):
        assert same(json.loads((tmp_path / f"{rank}.json").read_text()), alone.compute())

"""The whole chain on real pictures: what it is shown it learns, and the score of its files is the score that it says.

Crowds, pictures without an annotation, pictures resized on the way in and results mapped back on the way out: a network
that has seen a picture a hundred times must find what is in it, or some station on the way has lost it.
"""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

import delineate as dl
from delineate.data.object_augmentation import eval_fit, resolved
from delineate.data.opening import open_dataset
from delineate.engine.object_evaluation import ObjectEvaluation, with_labelled_joints
from delineate.engine.objects import joint_sigmas
from delineate.engine.prediction import predict_files
from delineate.engine.predictors import measure
from delineate.engine.run import Run
from delineate.engine.training import train
from delineate.losses.region_keypoints import region_keypoint_places
from delineate.losses.region_masks import region_mask_targets
from delineate.metrics.detection import box_scores, keypoint_scores, mask_scores
from delineate.postprocess.keypoint_decoding import decode_keypoints
from delineate.postprocess.mask_pasting import paste_masks
from delineate.structures.objects import Objects

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools

RECIPES = Path(__file__).parents[2] / "recipes"
KINDS = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}
COLUMNS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}


def perfect(root: Path, column: Any, side: int) -> tuple[Any, Objects]:
    """The truth of a data set, and what a network would find that has learnt its targets to the last bit."""
    samples = open_dataset(root, split="train", task="objects", columns=("boxes", column))
    fit = eval_fit(resolved({"preset": "none", "size": [side, side]}))
    assert fit is not None
    parts = []
    for index in range(len(samples)):
        image, target = samples[index]
        size = (int(image.shape[-2]), int(image.shape[-1]))
        placement, seen = fit.placement(size), fit(image, target)[1]
        rows = ~seen["iscrowd"]
        boxes = seen["boxes"].as_subclass(Tensor)[rows]
        whole = placement.restored(boxes)
        found: dict[str, Any] = {}
        if column == "masks":
            masks = seen["masks"].as_subclass(Tensor)[rows]
            maps = region_mask_targets(masks, boxes, torch.arange(len(boxes)), side=28)
            found["masks"] = paste_masks(maps, whole, size)
        else:
            points, labelled = seen["keypoints"].as_subclass(Tensor)[rows], seen["visibility"][rows] > 0
            places, _ = region_keypoint_places(points, labelled, boxes, side=56)
            maps = torch.zeros(len(boxes), points.shape[1], 56 * 56).scatter(2, places[..., None], 1.0)
            found["keypoints"] = decode_keypoints(maps.unflatten(2, (56, 56)), whole).double().numpy()
        corners = whole.double().numpy()
        sides = corners[:, 2:] - corners[:, :2]
        labels, scores = seen["labels"][rows].numpy(), np.ones(len(boxes))
        xywh = np.concatenate([corners[:, :2], sides], axis=1)
        parts.append(Objects.of(np.full(len(boxes), index), labels, xywh, scores=scores, **found))
    return samples.truth(), Objects.concatenate(parts)


def test_perfect_boxes_and_masks_survive_the_way_in_and_out(real_data: Path) -> None:
    """What 28 x 28 places of a picture of 320 pixels can hold; half a pixel of drift would cost a fifth of it."""
    truth, found = perfect(real_data / "coco_tiny", "masks", 320)
    assert box_scores(truth, replace(found, masks=None))["ap"] > 0.99  # one object of 1.3 pixels is lost
    scores = mask_scores(truth, found)
    assert scores["ap50"] > 0.97
    assert scores["ap"] > 0.8
    assert scores["ap_large"] > 0.98


def test_perfect_joints_survive_the_way_in_and_out(real_data: Path) -> None:
    """What 56 x 56 places can hold, the more exactly as joints are found to the picture's own pixels."""
    truth, found = perfect(real_data / "coco_pose_mini", "keypoints", 192)
    assert box_scores(truth, replace(found, keypoints=None))["ap"] > 0.99
    scores = keypoint_scores(with_labelled_joints(truth), found, sigmas=joint_sigmas(17))
    assert scores["ap50"] > 0.95  # one person's joints lie outside of its box
    assert scores["ap"] > 0.84


def by_pycocotools(truth: Path, results: list[dict[str, Any]], kind: str, images: list[int]) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        own = [{key: one[key] for key in ("image_id", "category_id", "score", COLUMNS[kind])} for one in results]
        evaluator = COCOeval(coco, coco.loadRes(own), kind)
        evaluator.params.imgIds = images
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    stats: np.ndarray = evaluator.stats
    return stats


def overfitted(recipe: str, data: Path, truth: str, out: Path) -> ObjectEvaluation:
    """The scores of a recipe's run on the pictures that it was trained on."""
    run = train(RECIPES / data.name / f"{recipe}.yaml", data=data, out=out / "run", progress=False)
    return checked(run, data, truth, out)


def checked(run: Run, data: Path, truth: str, out: Path) -> ObjectEvaluation:
    """The scores of a run on the pictures that it was trained on; its files must have the same ones."""
    evaluation = measure(run, data, split="train")
    assert isinstance(evaluation, ObjectEvaluation)
    samples = open_dataset(data, split="train", task="objects", columns=("boxes",))
    files = [samples.files(index) for index in range(len(samples))]
    written = predict_files(run, files, out=out / "found", score_threshold=0.01)
    assert written.count == len(samples)
    assert len(list((out / "found" / "overlays").iterdir())) == len(samples)
    found = json.loads((out / "found" / "predictions.json").read_text())
    file = data / "annotations" / truth
    ours = json.loads(file.read_text())
    images = {Path(image["file_name"]).name: image["id"] for image in ours["images"]}
    ids = {image["id"]: images[Path(image["file_name"]).name] for image in found["images"]}
    classes = sorted(category["id"] for category in ours["categories"])
    results = [
        {**one, "image_id": ids[one["image_id"]], "category_id": classes[one["category_id"]]}
        for one in found["annotations"]
    ]
    scored = {evaluation.kind: evaluation.scores}
    if evaluation.kind != "boxes":
        scored["boxes"] = evaluation.scores["boxes"]
    for name, scores in scored.items():
        theirs = by_pycocotools(file, results, KINDS[name], sorted(ids.values()))
        for place, figure in enumerate(("ap", "ap50", "ap75")):
            assert scores[figure] == pytest.approx(theirs[place], abs=1e-6), f"{name} {figure}"
    if len(samples) == len(ours["images"]):
        (out / "results.json").write_text(json.dumps(results))
        told = dl.score(evaluation.kind, file, out / "results.json")
        assert told["ap"] == pytest.approx(evaluation.scores["ap"], abs=1e-6)
    return evaluation


@pytest.mark.slow  # some minutes of one thread
@pytest.mark.training
def test_mask_rcnn_learns_32_pictures(real_data: Path, tmp_path: Path) -> None:
    evaluation = overfitted("mask_rcnn", real_data / "coco_tiny", "instances_train2017.json", tmp_path)
    assert evaluation.scores["boxes"]["ap50"] > 0.88  # 0.943 was seen
    assert evaluation.scores["ap50"] > 0.82  # 0.895, of 0.97 that perfect heads have
    nobody = [image for image in evaluation.images if not image.found + image.missed]
    assert len(nobody) == 2
    assert sum(image.false for image in nobody) == 0


@pytest.mark.slow  # some minutes of one thread
@pytest.mark.training
def test_keypoint_rcnn_learns_the_joints_of_24_pictures(real_data: Path, tmp_path: Path) -> None:
    truth = "person_keypoints_train2017.json"
    evaluation = overfitted("keypoint_rcnn", real_data / "coco_pose_mini", truth, tmp_path)
    assert evaluation.scores["boxes"]["ap50"] > 0.9  # 0.969 was seen
    assert evaluation.scores["ap50"] > 0.9  # 1.000

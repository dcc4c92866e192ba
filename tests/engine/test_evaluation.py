"""What a predictor scores is what counting by hand gives."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors

import delineate as dl
from delineate.engine.cell_scoring import CellScoring
from delineate.engine.predictors import evaluate, measure
from delineate.engine.run import Run
from delineate.engine.semantic_evaluation import predicted_labels
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.weights import ModelCard
from delineate.errors import DataError, RunError, UnknownNameError
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

NAMES = ("road", "tree", "sky")


class Told(nn.Module):
    """Predicts the label that the first channel spells; the answers are in the pictures."""

    def forward(self, images: Tensor) -> SemanticOutputs:
        told = (images[:, 0] * 255).round()
        return SemanticOutputs(torch.stack([(told == label).float() for label in range(3)], dim=1))


class Wide(nn.Module):
    """Sees 8 pixels far, so that it would see padding."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 17, padding=8)

    def forward(self, images: Tensor) -> SemanticOutputs:
        return SemanticOutputs(self.layer(images))


class Answered:
    """A data set whose pictures carry the predictions, with the truth beside them."""

    name, split, skipped = "answered", "test", ("broken.png",)

    def __init__(self, pairs, names=NAMES, ignore_index: int = 255) -> None:
        self.pairs = [(np.asarray(prediction, np.uint8), np.asarray(truth, np.uint8)) for prediction, truth in pairs]
        self.taxonomy = Taxonomy(names, ignore_index=ignore_index)

    def __len__(self) -> int:
        return len(self.pairs)

    def stem(self, index: int) -> str:
        return f"image{index}"

    def files(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int):
        prediction, truth = self.pairs[index]
        return np.repeat(prediction[..., None], 3, -1), truth

    def __getitem__(self, index: int):
        image, truth = self.read(index)
        mask = tv_tensors.Mask(torch.from_numpy(truth))
        return tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)), {"semantic_mask": mask, "image_id": index}


def predictor_of(model: nn.Module, names=NAMES) -> SemanticPredictor:
    card = ModelCard("test", {}, Preprocessing((0.0,) * 3, (1.0,) * 3), Taxonomy(names))
    return SemanticPredictor(model, card, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def told() -> SemanticPredictor:
    return predictor_of(Told())


# prediction, truth: sizes differ, one image is all ignored, and nobody ever meets the sky
PAIRS = [
    ([[0, 0, 1], [1, 1, 0]], [[0, 1, 1], [1, 255, 0]]),
    ([[1]], [[0]]),
    ([[0, 1]], [[255, 255]]),
    ([[1, 1], [0, 0], [1, 0]], [[1, 1], [0, 0], [0, 0]]),
]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 9])
def test_the_scores_are_those_of_the_confusion_counted_by_hand(told, batch_size):
    found = measure(told, Answered(PAIRS), boundary=False, batch_size=batch_size)
    # road: 2 + 0 + 3 of 2 + 1 + 4 found; tree: 2 + 0 + 2, one of its 5 missed
    assert found.scores["confusion"] == [[5, 2, 0], [1, 4, 0], [0, 0, 0]]
    assert found.scores["miou"] == pytest.approx((5 / 8 + 4 / 7) / 2)
    assert found.scores["pixel_accuracy"] == pytest.approx(9 / 12)
    assert math.isnan(found.scores["per_class"]["sky"]["iou"])
    assert found.scores["invalid_predictions"] == 0


def test_each_image_has_its_own_score(told):
    found = measure(told, Answered(PAIRS), batch_size=3)
    assert [(image.index, image.name) for image in found.images] == [(i, f"image{i}") for i in range(4)]
    assert [image.pixel_accuracy for image in found.images[:2]] == [4 / 5, 0]
    assert found.images[0].miou == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found.images[1].miou == 0
    assert math.isnan(found.images[2].miou)
    assert math.isnan(found.images[2].pixel_accuracy)
    assert found.images[3].miou == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert (found.split, found.data, found.skipped) == ("test", "answered", ("broken.png",))


def test_another_ignored_label_is_respected(told):
    found = evaluate(told, Answered([([[0, 1]], [[9, 1]])], ignore_index=9))
    assert found["confusion"] == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert found["miou"] == 1


def test_grouping_images_of_different_sizes_changes_nothing():
    torch.manual_seed(3)
    wide, random = predictor_of(Wide()), np.random.default_rng(0)
    sizes = [(20, 30), (33, 8), (20, 30), (5, 41), (33, 8)]
    data = Answered([(random.integers(0, 256, size), random.integers(0, 3, size)) for size in sizes])
    alone = measure(wide, data, batch_size=1)
    together = measure(wide, data, batch_size=5)
    assert together.scores["confusion"] == alone.scores["confusion"]
    assert together.images == alone.images
    labels = [wide.predict(data.read(index)[0]).labels for index in range(len(sizes))]
    counts = np.zeros((3, 3), int)
    for index, label in enumerate(labels):
        np.add.at(counts, (data.pairs[index][1], label), 1)
    assert alone.scores["confusion"] == counts.tolist()
    assert len(np.unique(np.concatenate([label.ravel() for label in labels]))) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_progress_counts_images(told, workers):
    steps = []
    measure(told, Answered(PAIRS), batch_size=3, workers=workers, progress=lambda *step: steps.append(step))
    assert steps == [(3, 4), (4, 4)]


def test_mirrored_views_reach_the_model():
    seen = []

    class Watching(Told):
        def forward(self, images):
            seen.append(images[0, 0, 0].mul(255).round().tolist())
            return super().forward(images)

    predictor = predictor_of(Watching())
    seen.clear()
    evaluate(predictor, Answered([([[0, 1, 1]], [[0, 1, 1]])]), tta="flip")
    assert seen == [[0, 1, 1], [1, 1, 0]]


def test_a_refinement_changes_the_labels(told):
    data = Answered(PAIRS)
    opposite = lambda images, logits: logits.softmax(1)[:, [1, 0, 2]]  # noqa: E731
    found = evaluate(told, data, crf=opposite)
    assert found["confusion"] == [[2, 5, 0], [4, 1, 0], [0, 0, 0]]
    assert np.array_equal(predicted_labels(told.refined(crf=opposite), data, 1)[2], [[0]])
    smooth = measure(told, data, crf="gaussian_weight=20,iterations=2", boundary=False)
    assert smooth.scores["confusion"] != measure(told, data, boundary=False).scores["confusion"]


def test_islands_and_holes_are_removed_before_counting(told):
    prediction = [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 1], [2, 1, 1, 1]]
    truth = [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]
    data = Answered([(prediction, truth)])
    assert evaluate(told, data)["confusion"] == [[6, 0, 1], [0, 8, 1], [0, 0, 0]]
    assert evaluate(told, data, holes=1)["confusion"] == [[6, 0, 1], [0, 9, 0], [0, 0, 0]]
    found = measure(told, data, islands=2)
    assert found.scores["confusion"] == [[7, 0, 0], [0, 9, 0], [0, 0, 0]]
    assert found.images[0].pixel_accuracy == 1
    assert np.array_equal(predicted_labels(told.refined(islands=2), data, 0)[2], truth)
    # a label that other data ignore is not spared: it is the model's own class
    two = Answered([([[0, 1], [0, 0]], [[0, 9], [0, 0]])], ignore_index=9)
    assert evaluate(told, two, islands=2)["pixel_accuracy"] == 1


def cells(gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Two trees with a road between them, and a gap in the predicted road."""
    truth = np.ones((12, 13), np.uint8)
    truth[:, 6] = 0
    prediction = truth.copy()
    prediction[:gap, 6] = 1
    return prediction, truth


def test_cells_are_those_of_the_scoring_by_itself(told):
    pairs = [cells(0), cells(2), PAIRS[0], (cells(1)[0], np.full((12, 13), 255))]
    found = measure(told, Answered(pairs), cells="tree", batch_size=2)
    scoring = CellScoring(Taxonomy(NAMES), "tree")
    for prediction, truth in pairs:
        spelt = torch.stack([(torch.tensor(np.asarray(prediction)) == label).float() for label in range(3)])[None]
        scoring.update(spelt.softmax(1).numpy(), np.asarray(truth)[None])
    assert found.scores["cells"] == scoring.compute()
    assert found.scores["cells"]["class"] == "tree"
    assert 0.5 < found.scores["cells"]["rand"] < 1
    # the rest of the scores is as it was
    assert found.scores["confusion"] == measure(told, Answered(pairs)).scores["confusion"]
    assert "cells" not in measure(told, Answered(pairs)).scores


def test_perfect_cells_score_one_and_a_gap_makes_one_of_two(told):
    assert measure(told, Answered([cells(0)]), cells="tree").scores["cells"]["rand"] == 1
    torn = measure(told, Answered([cells(2)]), cells="tree").scores["cells"]
    assert (torn["rand_split"], torn["rand_merge"]) == (pytest.approx(1), pytest.approx(0.5))
    assert torn["pixel_error"] == pytest.approx(2 / 156)


def test_cells_on_data_with_another_ignored_label(told):
    prediction, truth = cells(0)
    truth[:2, :2], prediction[0, 0] = 9, 2
    found = measure(told, Answered([(prediction, truth)], ignore_index=9), cells="tree").scores["cells"]
    assert (found["rand"], found["pixel_error"]) == (1, 0)


def test_cells_without_a_cell_are_null_on_disk(told, tmp_path):
    found = measure(told, Answered([([[0, 1]], [[0, 0]])]), cells="tree")
    found.write(tmp_path / "metrics.json")
    kept = json.loads((tmp_path / "metrics.json").read_text())["cells"]
    assert kept["class"] == "tree"
    assert (kept["rand"], kept["threshold"], kept["pixel_error"]) == (None, None, 0.5)


def test_cells_of_no_class_are_refused_before_any_work(told):
    steps = []
    with pytest.raises(UnknownNameError, match=r"cells must be a known name; got 'tre'. Did you mean 'tree'"):
        measure(told, Answered(PAIRS), cells="tre", progress=lambda *step: steps.append(step))
    assert steps == []


def test_everything_ignored_is_nan_and_null_on_disk(told, tmp_path):
    found = measure(told, Answered([([[0, 1]], [[255, 255]])]))
    assert math.isnan(found.scores["miou"])
    found.write(tmp_path / "metrics.json")
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text
    values = json.loads(text)
    assert values["miou"] is None
    assert values["images"][0] == {"index": 0, "name": "image0", "miou": None, "pixel_accuracy": None}
    assert values["skipped"] == ["broken.png"]


def test_what_is_written_reads_back(told, tmp_path):
    found = measure(told, Answered(PAIRS))
    run = Run(tmp_path)
    found.write(run.metrics)
    back = run.read_metrics()
    assert back["miou"] == found.scores["miou"]
    assert math.isnan(back["per_class"]["sky"]["iou"])
    assert back["confusion"] == found.scores["confusion"]
    assert math.isnan(back["images"][2]["miou"])


def test_other_classes_are_refused(told):
    two = Answered(PAIRS, names=("road", "tree"))
    with pytest.raises(DataError, match=r"data must have the 3 classes .*; got 2 in 'answered'.*road, tree, sky"):
        evaluate(told, two)


def test_the_same_classes_in_another_order_are_refused(told):
    with pytest.raises(DataError, match=r"in the order the model was trained on, road, tree, sky; got tree, road, sky"):
        evaluate(told, Answered(PAIRS, names=("tree", "road", "sky")))
    renamed = Answered(PAIRS, names=("class 0", "class 1", "class 2"))  # nobody can say that these differ
    assert list(evaluate(told, renamed)["per_class"]) == list(NAMES)


def test_a_run_and_a_folder_can_be_named(tiny_run: Run, squares: Path, tiny_predictor):
    by_name = dl.evaluate(str(tiny_run.path), str(squares), split="val", batch_size=2)
    by_object = measure(tiny_run, squares, batch_size=5)
    assert by_name["confusion"] == by_object.scores["confusion"]
    assert by_object.data == str(squares)
    assert by_object.split == "val"
    assert [image.name for image in by_object.images] == [f"val{number:02}" for number in range(5)]
    assert list(by_name["per_class"]) == ["nothing", "red", "green"]
    assert np.sum(by_name["confusion"]) == 5 * 32 * 32
    train = measure(tiny_predictor, squares, split="train", boundary=False)
    assert len(train.images) == 12
    assert "boundary_f1" in by_name
    assert "boundary_f1" not in train.scores
    with pytest.raises(RunError, match="finished run folder"):
        evaluate(squares, squares)


def test_the_labels_of_one_sample(told):
    image, target, labels = predicted_labels(told, Answered(PAIRS), 0)
    assert np.array_equal(labels, PAIRS[0][0])
    assert np.array_equal(target, PAIRS[0][1])
    assert image.shape == (2, 3, 3)


def test_a_broken_file_is_named(told, tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / "val" / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "val" / folder / "a.png")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    (tmp_path / "val/images/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"a\.png"):
        evaluate(told, tmp_path)

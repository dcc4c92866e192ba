"""What a recipe's data, sampling and mixing become in a run: mixtures, and runs that resume as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from delineate.data.balanced_order import class_balanced_weights, image_class_pixels
from delineate.data.copy_paste import CopyPaste
from delineate.data.mixing import CutMix
from delineate.data.mixture import MixedSamples
from delineate.data.order import BatchOrder
from delineate.engine.checkpointing import RunCheckpoints
from delineate.engine.predictors import load, measure
from delineate.engine.preparation import check_recipe
from delineate.engine.recipe import build_recipe
from delineate.engine.semantic import SemanticSegmentation
from delineate.engine.session import Session
from delineate.engine.training import train
from delineate.errors import RecipeError, UnknownNameError
from delineate.report.runs import report_run


class Crash(RuntimeError):
    """The power went out."""


@pytest.fixture(scope="module")
def greens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As "squares", with green ones only: its list has no "red", and what is red there is labelled "nothing"."""
    root = tmp_path_factory.mktemp("data") / "greens"
    random = np.random.default_rng(1)
    for split, count in (("train", 4), ("val", 2)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 90, (32, 32, 3), dtype=np.uint8)
            labels = np.zeros((32, 32), np.uint8)
            pixels[4:14, 4:14, 1], labels[4:14, 4:14] = 220, 1
            pixels[18:28, 18:28, 0] = 220
            Image.fromarray(pixels).save(root / split / "images" / f"{number}.png")
            Image.fromarray(labels).save(root / split / "masks" / f"{number}.png")
    (root / "classes.txt").write_text("nothing\ngreen\n")
    return root


def test_sampling_and_mixing_are_the_recipes(squares, tiny):
    tiny["data"] |= {"path": str(squares), "sampling": "class_balanced"}
    tiny["augmentation"] |= {"cutmix": 0.5, "copy_paste": 0.25, "copy_paste_classes": ["green"]}
    session = Session(build_recipe(tiny), devices=1)
    assert session.task.mixings(session.recipe, session.train_set) == (CopyPaste(0.25, (2,)), CutMix(0.5))
    assert session.order.weights == class_balanced_weights(image_class_pixels(session.train_set))
    assert Session(build_recipe(tiny, ["data.sampling=uniform"]), devices=1).order.weights is None
    with pytest.raises(
        RecipeError, match=r"augmentation.copy_paste_classes: class must .*; got 'gren'. Did you mean 'green'"
    ):
        Session(build_recipe(tiny, ["augmentation.copy_paste_classes=[gren]"]), devices=1)


def test_a_balanced_and_mixed_run_resumes_to_the_same_weights(squares, tiny, tmp_path, monkeypatch):
    tiny["data"] |= {"path": str(squares), "sampling": "class_balanced"}
    tiny["augmentation"] |= {"cutmix": 0.5, "copy_paste": 0.5}
    tiny["trainer"] |= {"max_epochs": 1, "checkpoint_steps": 1}
    whole = train(tiny, out=tmp_path / "whole", progress=False)
    original = SemanticSegmentation.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == 2:  # inside the epoch
            raise Crash
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SemanticSegmentation, "training_step", training_step)
        with pytest.raises(Crash):
            train(tiny, out=tmp_path / "run", progress=False)
    again = train(resume=tmp_path / "run", progress=False)
    ours, theirs = load_file(whole.path / "model.safetensors"), load_file(again.path / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_resumed_order_keeps_its_weights(tmp_path):
    order = BatchOrder(6, batch_size=2, seed=1, weights=[0, 1, 0, 4, 0, 1])
    checkpoints = RunCheckpoints(tmp_path, monitor="val/miou", minutes=5.0, steps=None, batch_size=2)
    checkpoints.position = {"epoch": 3, "batch": 1}
    order.set_epoch(3)
    assert list(checkpoints.place(order)) == list(order)[1:]
    assert checkpoints.place(order).samples(4).count(3) == 4


def test_a_mixture_trains_and_is_measured_on_the_classes_that_each_part_labels(squares, greens, tiny, tmp_path):
    tiny["data"] |= {"path": [str(squares), str(greens)]}
    tiny["trainer"] |= {"max_epochs": 1}
    run = train(tiny, out=tmp_path / "run", progress=False)
    predictor = load(run.path, precision="float32")
    assert predictor.taxonomy.names == ("nothing", "red", "green")
    session = Session(build_recipe(tiny), devices=1)
    assert len(session.train_set) == 16
    assert len(session.val_set) == 7
    found = measure(predictor, session.val_set)
    confusion = np.array(found.scores["confusion"])
    assert confusion.sum() == 7 * 32 * 32
    # red is nowhere predicted in the two images whose data does not know it
    reds = np.array(measure(predictor, session.val_set.parts[0]).scores["confusion"])[:, 1].sum()
    assert confusion[:, 1].sum() == reds
    assert [image.name for image in found.images][4:6] == ["squares-val04", "greens-0"]
    alone = measure(predictor, MixedSamples([session.val_set.parts[1]], taxonomy=predictor.taxonomy)).scores
    assert np.array(alone["confusion"]).sum() == 2 * 32 * 32
    assert np.array(alone["confusion"])[:, 1].sum() == 0
    report_run(run)
    assert json.loads((run.path / "metrics.json").read_text())["data"] == "squares+greens"
    assert "squares+greens" in (run.path / "report.html").read_text()


@pytest.mark.parametrize("begin", [lambda recipe: Session(recipe, devices=1), check_recipe])
def test_an_adversary_needs_data_that_label_every_class(begin, squares, greens, tiny):
    tiny["data"] |= {"path": [str(squares), str(greens)]}
    begin(build_recipe(tiny))
    tiny["adversarial"] = {"width": 4}
    text = (
        r"adversarial must be left out where images do not label every class; got '.*greens.*0\.png.*', whose data set "
        r"does not label red\. Train without, or on data\.classes that all data sets label\."
    )
    with pytest.raises(RecipeError, match=text):
        begin(build_recipe(tiny))
    begin(build_recipe(tiny, ["data.classes=[nothing, green]"]))
    begin(build_recipe(tiny, [f"data.path={squares}"]))


def test_the_classes_of_a_mixture_can_be_given(squares, greens, tiny):
    tiny["data"] |= {"path": [str(greens), str(squares)], "classes": ["green", "nothing"]}
    session = Session(build_recipe(tiny), devices=1)
    assert session.taxonomy.names == ("green", "nothing")
    tiny["data"]["classes"] = ["green", "nothin"]
    with pytest.raises(UnknownNameError, match=r"class must be a known name; got 'nothin'. Did you mean 'nothing'"):
        Session(build_recipe(tiny), devices=1)

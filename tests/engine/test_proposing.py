"""Proposals and regions that learn in turns, through a recipe of four stages; and proposals of another run."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from delineate.engine.checkpointing import read_checkpoint
from delineate.engine.objects import ObjectDetection
from delineate.engine.predictors import load
from delineate.engine.preparation import check_parts, new_model
from delineate.engine.proposing import Proposer, left_out, load_proposer
from delineate.engine.recipe import build_recipe, read_recipe
from delineate.engine.run import Run
from delineate.engine.session import Session
from delineate.engine.training import train
from delineate.engine.weights import ModelCard, save_weights
from delineate.errors import RecipeError
from delineate.models.catalogue import create_model
from delineate.models.faster_rcnn import FasterRCNN
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy
from tests.data.object_folder import write_objects

DETECTOR = {"name": "faster_rcnn", "encoder": "test_resnet", "channels": 8, "hidden": 16, "regions": 16, "scale": 4}
MASKS = {"name": "mask_rcnn", "encoder": "test_resnet", "channels": 8, "hidden": 16, "regions": 16, "head_channels": 8}
SIZE = (64, 96)
FIT = {"fit": "canvas", "size": list(SIZE)}


def loss(**weights: float) -> list[dict[str, Any]]:
    return [{"name": "region_detection", **weights}]


STEPS: list[dict[str, Any]] = [
    {"loss": loss(regions=0, inside_only=8)},
    {"loss": loss(proposals=0), "start": {"weights": "none", "proposals": "before"}},
    {"loss": loss(regions=0), "start": {"freeze": ["encoder", "neck"]}},
    {"loss": loss(proposals=0), "start": {"freeze": ["encoder", "neck", "proposals"]}},
]


def recipe_of(**sections: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "model": DETECTOR,
        "data": {"batch_size": 2, "workers": 0, "val_batch_size": 2},
        "augmentation": {"preset": "light", "size": list(SIZE)},
        "optimizer": {"lr": 0.001},
        "trainer": {"max_epochs": 1, "ema_decay": 0.9, "threads": 1, "precision": "float32"},
    }
    return {**recipe, **sections}


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_objects(tmp_path_factory.mktemp("objects") / "boxes", train=4, val=2)


@pytest.fixture(scope="module")
def alternating(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The four steps of one epoch of two batches each; for reading only."""
    recipe = recipe_of(stages=STEPS)
    return train(recipe, data=boxes, out=tmp_path_factory.mktemp("runs") / "alternating", progress=False)


def folders(run: Run) -> list[Run]:
    return [Run(run.path / "stages" / str(number)) for number in (1, 2, 3)] + [run]


def changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """The parts of which anything differs; counters and statistics too."""
    assert one.keys() == other.keys()
    return {name.partition(".")[0] for name in one if not torch.equal(one[name], other[name])}


def test_each_step_teaches_its_own_parts_and_no_other(alternating: Run) -> None:
    options = {name: value for name, value in DETECTOR.items() if name != "name"}
    first = new_model(build_recipe(recipe_of()), {**options, "num_classes": 2, "in_channels": 3}).state_dict()
    one, two, three, four = (load_file(folder.weights) for folder in folders(alternating))
    assert changed(first, one) == {"encoder", "neck", "proposals"}
    assert changed(first, two) == {"encoder", "neck", "box_head", "classes", "boxes"}  # not from the weights of step 1
    assert changed(two, three) == {"proposals"}
    assert changed(three, four) == {"box_head", "classes", "boxes"}


def test_each_step_is_watched_by_what_it_learns(alternating: Run) -> None:
    curves = [folder.read_curves() for folder in folders(alternating)]
    scored = [{name for name in one if name.startswith("val/")} for one in curves]
    assert scored[0] == scored[2] == {"val/proposal_ar100"}
    assert scored[1] == scored[3] == {"val/ap", "val/ap50", "val/ap75", "val/ar100"}
    assert all(0 <= value <= 1 for _, value in curves[0]["val/proposal_ar100"])
    assert [folder.best_checkpoint.is_file() for folder in folders(alternating)] == [True] * 4


def test_the_run_is_one_like_any(alternating: Run, boxes: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert [folder.missing() for folder in folders(alternating)] == [[]] * 4
    found = load(alternating.path).predict(torch.zeros(3, 50, 70, dtype=torch.uint8), score_threshold=0.0)
    assert found.size == (50, 70)
    one, two, three, _ = folders(alternating)
    written = build_recipe(read_recipe(two.recipe)).start
    assert (written.weights, written.proposals) == ("none", str(one.path.resolve()))
    assert build_recipe(read_recipe(three.recipe)).start.weights == str(two.path.resolve())
    whole = build_recipe(read_recipe(alternating.recipe))
    assert whole.stages[1]["start"] == {"weights": "none", "proposals": "before"}
    # the network that proposed is not kept a second time
    state = read_checkpoint(two.last_checkpoint)
    kept = {name.removeprefix("model.") for name in state["state_dict"] if name.startswith("model.")}
    assert kept == load_file(two.weights).keys()
    assert not any("propos" in name for name in state["state_dict"] if not name.startswith("model."))
    with caplog.at_level(logging.WARNING, "delineate"):
        train(resume=alternating.path, progress=False)  # nothing is left to do, and nothing to say
    assert caplog.text == ""


def test_a_run_stopped_in_its_second_step_ends_in_the_same_weights(
    alternating: Run, boxes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = ObjectDetection.training_step, []

    def crash(self: ObjectDetection, *arguments: Any) -> Tensor:
        calls.append(self.proposer)
        if len(calls) == 4:  # two batches a stage: with one step of the second behind it
            raise RuntimeError("power cut")
        return step(self, *arguments)

    recipe = recipe_of(stages=STEPS)
    recipe["trainer"] |= {"checkpoint_steps": 1}
    with monkeypatch.context() as patch:
        patch.setattr(ObjectDetection, "training_step", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            train(recipe, data=boxes, out=tmp_path / "cut", progress=False)
    assert [isinstance(one, Proposer) for one in calls] == [False, False, True, True]
    cut = tmp_path / "cut" / "stages" / "2"
    assert read_checkpoint(cut / "checkpoints" / "last.ckpt")["global_step"] == 1
    resumed = train(resume=tmp_path / "cut", progress=False)
    for ours, theirs in zip(folders(resumed), folders(alternating), strict=True):
        assert changed(load_file(ours.weights), load_file(theirs.weights)) == set()
        assert ours.curves.read_text() == theirs.curves.read_text()


@pytest.mark.slow  # half a minute
def test_the_four_steps_learn_to_find(tmp_path: Path) -> None:
    data = write_objects(tmp_path / "boxes", train=60, val=20)
    recipe = recipe_of(stages=STEPS)
    recipe["model"] = {**DETECTOR, "channels": 32, "hidden": 64, "regions": 32, "scale": 6}
    recipe["data"] = {"batch_size": 6, "workers": 0, "val_batch_size": 10}
    recipe["optimizer"] = {"lr": 0.002, "encoder_lr": 3}
    recipe["trainer"] |= {"max_epochs": 8, "ema_decay": 0.95, "validate_every": 8}
    run = train(recipe, data=data, out=tmp_path / "run", progress=False)
    one, two, three, four = (folder.read_curves() for folder in folders(run))
    assert min(curves["val/proposal_ar100"][-1][1] for curves in (one, three)) > 0.5
    assert min(curves["val/ap50"][-1][1] for curves in (two, four)) > 0.8


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


TARGETS = [
    {"boxes": torch.tensor([[2.0, 3, 40, 50]]), "labels": torch.tensor([1])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def learner(recipe: dict[str, Any], boxes: Path) -> ObjectDetection:
    data = {**recipe["data"], "path": str(boxes)}
    session = Session(build_recipe({**recipe, "data": data}), devices=1)
    module = session.task.learner(
        session.model,
        session.losses,
        recipe=session.recipe,
        preprocessing=session.preprocessing,
        samples=session.train_set,
        total_steps=2,
        proposer=session.proposer,
    )
    assert isinstance(module, ObjectDetection)
    return module


@pytest.mark.parametrize("model", ["faster_rcnn", "mask_rcnn"])
def test_regions_are_drawn_from_the_other_networks_proposals(model: str, alternating: Run, boxes: Path) -> None:
    start = {"proposals": str(folders(alternating)[0].path)}
    name = {"faster_rcnn": "region_detection", "mask_rcnn": "instance_detection"}[model]
    own = DETECTOR if model == "faster_rcnn" else MASKS
    module = learner(recipe_of(model=own, start=start, loss=[{"name": name, "proposals": 0}]), boxes)
    assert module.proposer is not None
    assert copy.deepcopy(module).proposer is module.proposer
    assert not any("proposer" in key for key in module.state_dict())
    assert not any(parameter.requires_grad for parameter in module.proposer.detector.parameters())
    assert not any(parameter.requires_grad for parameter in module.model.proposals.parameters())  # type: ignore[union-attr]
    sizes = [SIZE, (50, 96)]
    wanted = module.proposer(images(), sizes, training=True)
    drawn = module.outputs(images(), sizes, TARGETS)  # type: ignore[arg-type]
    second = {tuple(box) for box in drawn.regions[drawn.images == 1].tolist()}
    assert second <= {tuple(box) for box in wanted[1].tolist()}
    assert len(second) > 0
    module.eval()
    with torch.no_grad():
        answered = module.outputs(images(), sizes, None)
        theirs = module.proposer(images(), sizes, training=False)
        mine = module.model.proposed(images(), sizes)  # type: ignore[operator]
    assert torch.equal(answered.regions, torch.cat(theirs))
    assert not torch.equal(answered.regions, mine.regions)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = module.outputs(images(), sizes, None)
    assert rounded.regions.dtype == torch.float32
    assert rounded.logits.dtype == torch.bfloat16


def test_a_proposer_proposes_as_its_detector_does_and_more_in_training() -> None:
    torch.manual_seed(0)
    detector = create_model(**DETECTOR, num_classes=2)  # type: ignore[arg-type]
    assert isinstance(detector, FasterRCNN)
    detector.proposals.options = replace(detector.proposals.options, after=5, after_training=50)
    proposer = Proposer(detector)
    sizes = [SIZE, (50, 96)]
    few, many = (proposer(images(), sizes, training=training) for training in (False, True))
    detector.training = False
    outputs = detector.proposed(images(), sizes)
    assert torch.equal(torch.cat(few), outputs.regions)
    assert [len(one) for one in few] == [5, 5]
    assert all(len(one) > 5 for one in many)
    assert all(torch.equal(one[:5], other) for one, other in zip(many, few, strict=True))
    assert (few[1][:, 3] <= 50).all()
    assert not any(part.training for part in detector.encoder.modules())


def test_what_a_loss_leaves_out() -> None:
    with torch.device("meta"):
        model = create_model(**MASKS, num_classes=2)  # type: ignore[arg-type]
    first = build_recipe({"model": MASKS, "loss": [{"name": "instance_detection", "regions": 0}]})
    second = build_recipe({"model": MASKS, "loss": [{"name": "instance_detection", "proposals": 0}]})
    assert left_out(model, first) == ["box_head", "classes", "boxes", "head"]
    assert left_out(model, second) == ["proposals"]
    assert left_out(model, build_recipe({"model": MASKS})) == []
    assert left_out(nn.Identity(), first) == []
    nothing = build_recipe(
        {
            "model": MASKS,
            "loss": [{"name": "instance_detection", "regions": 0}],
            "start": {"freeze": ["encoder", "neck", "proposals"]},
        }
    )
    message = r"all of mask_rcnn \(encoder, neck, proposals, and what the loss leaves out: box_head, classes, "
    with pytest.raises(RecipeError, match=message):
        check_parts(model, nothing)


def saved(folder: Path, model: dict[str, Any], **changes: Any) -> Path:
    """A weights file with its card, of a network that nobody trained."""
    options = {name: value for name, value in model.items() if name != "name"} | {"num_classes": 2, "in_channels": 3}
    network = create_model(model["name"], **options)
    facts = {"preprocessing": Preprocessing(), "fit": FIT, "task": "detection", **changes}
    names = Taxonomy(("red", "green"))
    folder.mkdir()
    save_weights(
        folder / "model.safetensors", network.state_dict(), ModelCard(model["name"], options, taxonomy=names, **facts)
    )
    return folder


def test_errors(tmp_path: Path) -> None:
    with torch.device("meta"):
        two_stages = create_model(**DETECTOR, num_classes=2)  # type: ignore[arg-type]
        one_stage = create_model("retinanet", num_classes=2, encoder="test_resnet", channels=8, layers=1)

    def refused(message: str, path: Path | str, model: nn.Module = two_stages, name: str = "faster_rcnn") -> None:
        recipe = build_recipe({"model": name, "start": {"proposals": str(path)}})
        with pytest.raises(RecipeError, match=message):
            load_proposer(recipe, model, preprocessing=Preprocessing(), fit=FIT)

    good = saved(tmp_path / "good", DETECTOR)
    recipe = build_recipe({"model": "faster_rcnn", "start": {"proposals": str(good)}})
    assert load_proposer(recipe, two_stages, preprocessing=Preprocessing(), fit=FIT) is not None
    assert load_proposer(build_recipe({}), one_stage, preprocessing=Preprocessing(), fit={}) is None
    refused("start.proposals must be left out for 'retinanet', which has no regions; got", good, one_stage, "retinanet")
    refused("start.proposals: weights must be .*; got 'nowhere', which is not there", "nowhere")
    refused("start.proposals must name a run or its weights; got before, where no stage is before", "before")
    retinanet = saved(tmp_path / "one", {"name": "retinanet", "encoder": "test_resnet", "channels": 8, "layers": 1})
    refused(r"must name a two-stage detector, such as a run of faster_rcnn; got '.*one' with retinanet", retinanet)
    plain = Preprocessing((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    refused(
        "must see pixels as this run does, .*; got '.*' with", saved(tmp_path / "pixels", DETECTOR, preprocessing=plain)
    )
    other = saved(tmp_path / "size", DETECTOR, fit={"fit": "canvas", "size": [320, 320]})
    refused(
        r"see pictures at the size of this run; got '.*' with size \[320, 320\] where this run has \[64, 96\]", other
    )


def test_stages_are_looked_through_before_the_first(boxes: Path, tmp_path: Path) -> None:
    def refused(message: str, *stages: dict[str, Any], **sections: Any) -> None:
        with pytest.raises(RecipeError, match=message):
            train(recipe_of(stages=list(stages), **sections), data=boxes, out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()

    before = {"start": {"weights": "none", "proposals": "before"}}
    retinanet = {"model": {"name": "retinanet", "encoder": "test_resnet"}, "loss": [{"name": "focal_detection"}]}
    refused("stages.0: start.proposals must name a run or its weights; got before", before, {})
    refused("stages.0: start.weights must name a run or a file; got before", {"start": {"weights": "before"}}, {})
    refused("stages.1: start.proposals must name a two-stage .*; got 'before' with retinanet", retinanet, before)
    refused("stages.1: start.proposals must be left out for 'retinanet'", {}, {**retinanet, **before})
    other = {"augmentation": {"size": [96, 96]}}
    refused(r"stages.1: .* got 'before' with size \[64, 96\] where this run has \[96, 96\]", {}, {**before, **other})

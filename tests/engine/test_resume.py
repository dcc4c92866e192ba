"""A run that was stopped anywhere ends in the very same weights as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from delineate.engine.checkpointing import TrainingInterrupted
from delineate.engine.recipe import build_recipe
from delineate.engine.semantic import SemanticSegmentation
from delineate.engine.training import train
from delineate.errors import NonFiniteLossError, RunError

STEPS = 9  # three epochs of three batches


class Crash(RuntimeError):
    """The power went out."""


def checkpoint(run_path: Path) -> dict:
    return torch.load(run_path / "checkpoints" / "last.ckpt", weights_only=True)


def tensors(value, place: str = ""):
    """Every tensor of a nested checkpoint with its place."""
    if isinstance(value, torch.Tensor):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors(inner, f"{place}/{key}")
    elif isinstance(value, list | tuple):
        for key, inner in enumerate(value):
            yield from tensors(inner, f"{place}/{key}")


def assert_same_run(one: Path, other: Path) -> None:
    ours, theirs = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    mine, yours = checkpoint(one), checkpoint(other)
    state = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")
    for key in state:
        left, right = dict(tensors(mine[key])), dict(tensors(yours[key]))
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left), key
    assert mine["global_step"] == yours["global_step"]
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def whole(squares, tmp_path_factory):
    """The run that nobody stopped."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    recipe = {
        "model": {"name": "enet"},
        "data": {"batch_size": 4, "workers": 0, "val_batch_size": 2, "path": str(squares)},
        "augmentation": {"preset": "medium", "crop": [32, 32]},
        "optimizer": {"lr": 0.003},
        "trainer": {"max_epochs": 3, "ema_decay": 0.9, "threads": 1, "precision": "float32"},
    }
    return train(recipe, out=out, progress=False).path, recipe


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException | None = None) -> None:
    """Stop a run before its training step number ``step`` does anything."""
    original = SemanticSegmentation.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == step:
            raise error or Crash
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SemanticSegmentation, "training_step", training_step)


@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_crash_at_any_step_changes_nothing(step, whole, tmp_path, monkeypatch):
    reference, recipe = whole
    # a checkpoint after every step, so that resuming begins inside epochs as well as between them
    recipe = {**recipe, "trainer": {**recipe["trainer"], "checkpoint_steps": 1}}
    with monkeypatch.context() as patch:
        crash_at(patch, step)
        with pytest.raises(Crash):
            train(recipe, out=tmp_path / "run", progress=False)
    assert checkpoint(tmp_path / "run")["global_step"] == step
    train(resume=tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", reference)


def test_crashing_again_and_again_changes_nothing(whole, tmp_path, monkeypatch):
    reference, recipe = whole
    recipe = {**recipe, "trainer": {**recipe["trainer"], "checkpoint_steps": 2}}
    start = {"recipe": recipe, "out": tmp_path / "run"}
    for step in (3, 5, 8):
        with monkeypatch.context() as patch:
            crash_at(patch, step)
            with pytest.raises(Crash):
                train(**start, progress=False)
        start = {"resume": tmp_path / "run"}
    train(**start, progress=False)
    assert_same_run(tmp_path / "run", reference)


def test_accumulated_gradients_survive_a_crash(whole, tmp_path, monkeypatch):
    _, recipe = whole
    trainer = {**recipe["trainer"], "accumulate": 2, "checkpoint_steps": 1}
    recipe = {**recipe, "data": {**recipe["data"], "batch_size": 2}, "trainer": trainer}
    reference = train(recipe, out=tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        crash_at(patch, 5)
        with pytest.raises(Crash):
            train(recipe, out=tmp_path / "run", progress=False)
    train(resume=tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", reference.path)


def test_workers_and_the_memory_cache_change_nothing(whole, tmp_path):
    reference, recipe = whole
    for number, data in enumerate(({"workers": 2}, {"cache": "none"})):
        changed = {**recipe, "data": {**recipe["data"], **data}}
        run = train(changed, out=tmp_path / str(number), progress=False)
        assert_same_run(run.path, reference)


def test_a_finished_run_can_be_extended_as_if_it_had_been_longer(whole, tmp_path):
    _, recipe = whole
    recipe = {**recipe, "schedule": {"name": "constant"}}
    longer = {**recipe, "trainer": {**recipe["trainer"], "max_epochs": 5}}
    train(recipe, out=tmp_path / "run", progress=False)
    train(resume=tmp_path / "run", settings=["trainer.max_epochs=5"], progress=False)
    reference = train(longer, out=tmp_path / "longer", progress=False)
    assert_same_run(tmp_path / "run", reference.path)
    assert checkpoint(tmp_path / "run")["global_step"] == 15


def test_resuming_a_finished_run_leaves_it_as_it_is(whole):
    reference, _ = whole
    before = load_file(reference / "model.safetensors")
    train(resume=reference, progress=False)
    after = load_file(reference / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


DRIVER = """
import os, signal, sys
from delineate.engine.semantic import SemanticSegmentation
from delineate.cli.main import main
original = SemanticSegmentation.training_step
def training_step(self, batch, batch_idx):
    if self.global_step == {step}:
        os.kill(os.getpid(), signal.{name})
    return original(self, batch, batch_idx)
SemanticSegmentation.training_step = training_step
sys.argv = ["delineate", "train", {recipe!r}, "--out", {out!r}, "--no-report"]
main()
"""


def run_and_signal(recipe: dict, folder: Path, *, name: str, step: int) -> subprocess.CompletedProcess[str]:
    path = folder / "recipe.yaml"
    build_recipe(recipe).write(path)
    code = DRIVER.format(step=step, name=name, recipe=str(path), out=str(folder / "run"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("DELINEATE_RUN", None)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


def test_sigkill_in_the_middle_of_an_epoch_changes_nothing(whole, tmp_path):
    reference, recipe = whole
    recipe = {**recipe, "trainer": {**recipe["trainer"], "checkpoint_steps": 2}}
    killed = run_and_signal(recipe, tmp_path, name="SIGKILL", step=5)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()
    train(resume=tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", reference)


def test_sigterm_saves_says_how_to_go_on_and_exits(whole, tmp_path):
    reference, recipe = whole
    stopped = run_and_signal(recipe, tmp_path, name="SIGTERM", step=4)
    assert stopped.returncode == 143, stopped.stderr
    assert "training stopped by SIGTERM at epoch 2, step 5; its state is saved." in stopped.stderr
    assert f"--resume {tmp_path / 'run'}" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert checkpoint(tmp_path / "run")["global_step"] == 5
    train(resume=tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", reference)


def test_a_signal_during_validation_waits_for_the_epochs_end(whole, tmp_path, monkeypatch):
    reference, recipe = whole
    original = SemanticSegmentation.validation_step

    def validation_step(self, batch, batch_idx):
        if self.global_step == 3 and batch_idx == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SemanticSegmentation, "validation_step", validation_step)
        with pytest.raises(TrainingInterrupted, match="SIGTERM at epoch 1, step 3"):
            train(recipe, out=tmp_path / "run", progress=False)
    train(resume=tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", reference)


def test_the_random_state_of_the_caller_is_not_part_of_a_run(whole, tmp_path):
    reference, recipe = whole
    torch.manual_seed(12345)
    run = train(recipe, out=tmp_path / "run", progress=False)
    assert_same_run(run.path, reference)


def test_a_loss_that_is_not_finite_names_the_files_and_keeps_the_last_checkpoint(whole, tmp_path, monkeypatch):
    _, recipe = whole
    original = SemanticSegmentation.inputs

    def inputs(self, images):
        pixels = original(self, images)
        return pixels * float("nan") if self.training and self.global_step == 4 else pixels

    monkeypatch.setattr(SemanticSegmentation, "inputs", inputs)
    with pytest.raises(
        NonFiniteLossError, match=r"loss must stay finite; got loss nan.* at epoch 2, step 4, for .*train\d\d\.png"
    ) as caught:
        train(recipe, out=tmp_path / "run", progress=False)
    assert str(caught.value).count(".png") == 4
    kept = checkpoint(tmp_path / "run")
    assert kept["global_step"] == 3
    assert all(torch.isfinite(value).all() for _, value in tensors(kept["state_dict"]) if value.is_floating_point())


def test_what_cannot_be_resumed_is_named(whole, tmp_path):
    reference, recipe = whole
    with pytest.raises(
        RunError, match=r"run must be a folder that training made; got '.*', which holds no recipe.yaml"
    ):
        train(resume=tmp_path, progress=False)
    with pytest.raises(RunError, match="out must be a folder without a run"):
        train(recipe, out=reference, progress=False)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    build_recipe(recipe).write(run / "recipe.yaml")
    with pytest.raises(RunError, match="stopped before its first one"):
        train(resume=run, progress=False)
    (run / "checkpoints" / "last.ckpt").write_bytes((reference / "checkpoints" / "last.ckpt").read_bytes()[:5000])
    with pytest.raises(RunError, match="checkpoint must be a whole file of plain tensors"):
        train(resume=run, progress=False)


def test_a_checkpoint_that_carries_code_is_not_executed(whole, tmp_path):
    _, recipe = whole
    run = tmp_path / "run"
    build_recipe(recipe).write(run / "recipe.yaml")
    (run / "checkpoints").mkdir()

    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "hacked"),))

    torch.save({"state_dict": Payload()}, run / "checkpoints" / "last.ckpt")
    with pytest.raises(RunError, match="checkpoint must be a whole file of plain tensors"):
        train(resume=run, progress=False)
    assert not (tmp_path / "hacked").exists()


def test_a_run_folder_is_complete(whole):
    reference, _ = whole
    files = {str(path.relative_to(reference)) for path in reference.rglob("*") if path.is_file()}
    wanted = {"recipe.yaml", "model.safetensors", "model.json", "metrics.csv", "environment.json"}
    assert wanted | {"checkpoints/last.ckpt", "checkpoints/best.ckpt"} <= files
    assert any(name.startswith("tensorboard/events.out") for name in files)
    session = json.loads((reference / "environment.json").read_text())["sessions"][0]
    assert session["finished"] is True
    assert session["train_images"] == 12
    rows = (reference / "metrics.csv").read_text().splitlines()
    assert rows[0].split(",")[:2] == ["epoch", "step"]
    assert len(rows) == 4

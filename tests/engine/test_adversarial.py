from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from delineate.engine.adversarial import Adversary
from delineate.engine.recipe import build_recipe
from delineate.engine.recipe_sections import AdversarialRecipe
from delineate.engine.semantic import SemanticSegmentation
from delineate.engine.training import train
from delineate.errors import RecipeError
from tests.engine.test_resume import Crash, assert_same_run, checkpoint


def adversary(**options: Any) -> Adversary:
    recipe = AdversarialRecipe(**{"width": 4, "stride": 1, "lr": 0.01, **options})
    return Adversary(recipe, num_classes=3, in_channels=3, ignore_index=255, seed=0, schedule=lambda step: 1.0)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    target = torch.arange(16).expand(2, 16, 16) // 6
    target = target.clone()
    target[:, :2] = 255
    return torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16), target


@pytest.mark.parametrize("kind", ["basic", "product", "scaling"])
def test_the_adversary_learns_and_the_segmenter_hears_of_it(kind: str) -> None:
    images, logits, target = batch()
    other = adversary(input=kind)
    logits.requires_grad_()
    losses = [float(other.step(images, logits, target, step=step)) for step in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    assert logits.grad is None
    before = other.term(images, logits, target)
    before.backward()
    assert all(parameter.grad is None or not parameter.requires_grad for parameter in other.network.parameters())
    assert logits.grad is not None
    # ignored pixels tell nothing
    assert not logits.grad.permute(0, 2, 3, 1)[target == 255].any()
    moved = logits.detach() - 20 * logits.grad / logits.grad.norm()
    assert other.term(images, moved, target) < before


def test_goes_on_from_its_state() -> None:
    images, logits, target = batch()
    one, other = adversary(), adversary()
    one.step(images, logits, target, step=0)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    one.step(images, logits, target, step=1)
    other.step(images, logits, target, step=1)
    for mine, yours in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_follows_the_schedule() -> None:
    images, logits, target = batch()
    other = adversary()
    other.schedule = lambda step: 0.0 if step == 1 else 0.5
    other.step(images, logits, target, step=0)
    before = [parameter.detach().clone() for parameter in other.network.parameters()]
    assert other.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    other.step(images, logits, target, step=1)
    assert all(torch.equal(a, b) for a, b in zip(before, other.network.parameters(), strict=True))


@pytest.fixture
def against(squares: Path, tiny: dict[str, Any]) -> dict[str, Any]:
    adversarial = {"weight": 0.2, "after_epochs": 1, "width": 4, "stride": 2, "input": "scaling"}
    return {**tiny, "data": {**tiny["data"], "path": str(squares)}, "adversarial": adversarial}


def test_a_run_against_an_adversary_resumes_to_the_same_weights(
    against: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    against["trainer"] = {**against["trainer"], "checkpoint_steps": 1}
    whole = train(against, out=tmp_path / "whole", progress=False)
    step = SemanticSegmentation.training_step

    def crash(self: SemanticSegmentation, *arguments: Any) -> torch.Tensor:
        if self.global_step == 5:
            raise Crash
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SemanticSegmentation, "training_step", crash)
        with pytest.raises(Crash):
            train(against, out=tmp_path / "stopped", progress=False)
    stopped = train(resume=tmp_path / "stopped", progress=False)
    assert_same_run(whole.path, stopped.path)
    mine, yours = (checkpoint(run.path)["adversary"]["network"] for run in (whole, stopped))
    assert all(torch.equal(mine[name], yours[name]) for name in mine)
    # the adversary is no part of what predicts
    assert not any("adversary" in name for name in checkpoint(whole.path)["state_dict"])


def test_the_adversary_changes_the_weights_only_after_its_epochs(against: dict[str, Any], tmp_path: Path) -> None:
    def curves(values: dict[str, Any], name: str) -> dict[str, list[tuple[float, float]]]:
        return train(values, out=tmp_path / name, progress=False).read_curves()

    with_it = curves(against, "with")
    without = curves({**against, "adversarial": None}, "without")
    assert with_it.keys() - without.keys() == {"train/adversary", "train/deception"}
    for name in ("train/adversary", "train/deception"):  # nothing while the segmenter learns by itself
        assert [epoch for epoch, _ in with_it.pop(name)] == [2, 3]
    assert all(with_it[name][0] == without[name][0] for name in without)
    assert all(with_it[name][1:] != without[name][1:] for name in ("train/loss", "val/loss"))


def test_recipe_errors() -> None:
    with pytest.raises(RecipeError, match=r"adversarial.weigth'. Did you mean 'adversarial.weight'"):
        build_recipe({"adversarial": {"weigth": 1}})
    with pytest.raises(RecipeError, match=r"adversarial.input must be basic, product, scaling; got basik"):
        build_recipe({"adversarial": {"input": "basik"}})
    assert build_recipe({"adversarial": {}}).adversarial == AdversarialRecipe()
    assert build_recipe({}, ["adversarial.weight=2"]).adversarial == AdversarialRecipe(weight=2)
    values = build_recipe({"adversarial": {"tau": 0.5}}).to_dict()
    assert msgspec.convert(values, type(build_recipe({}))).adversarial == AdversarialRecipe(tau=0.5)

"""What one training and one validation step do."""

from __future__ import annotations

import copy

import pytest
import torch
from torchvision import tv_tensors

from delineate.data.batches import SemanticCollate
from delineate.engine.adversarial import Adversary
from delineate.engine.recipe import build_recipe
from delineate.engine.recipe_sections import AdversarialRecipe
from delineate.engine.semantic import SemanticSegmentation
from delineate.engine.training import train
from delineate.losses.catalogue import create_losses
from delineate.models.catalogue import create_model
from delineate.structures.preprocessing import Preprocessing


def module(rest_class: int | None = None) -> SemanticSegmentation:
    torch.manual_seed(0)
    return SemanticSegmentation(
        create_model("enet", num_classes=3),
        create_losses([{"name": "cross_entropy"}], rest_class=rest_class),
        recipe=build_recipe({"model": {"name": "enet"}, "data": {"path": "digits"}}),
        preprocessing=Preprocessing(),
        class_names=("a", "b", "c"),
        ignore_index=255,
        rest_class=rest_class,
        total_steps=1,
        file_of=str,
    ).eval()


def test_an_adversary_has_means_of_its_own() -> None:
    alone = module()
    assert alone.train_means() == {}
    recipe = AdversarialRecipe(width=4)
    adversary = Adversary(recipe, num_classes=3, in_channels=3, ignore_index=255, seed=0, schedule=lambda step: 1.0)

    def against() -> SemanticSegmentation:
        return SemanticSegmentation(
            alone.model,
            alone.losses,
            recipe=alone.recipe,
            preprocessing=alone.preprocessing,
            class_names=("a", "b", "c"),
            ignore_index=255,
            total_steps=1,
            file_of=str,
            adversary=adversary,
        )

    def learn(ours: SemanticSegmentation, value: float) -> None:
        ours._against_adversary = lambda adversary, images, outputs, target, named: {  # type: ignore[method-assign]
            **named,
            "adversary": torch.tensor(value),
            "deception": torch.tensor(value / 2),
        }
        ours.training_step(SemanticCollate()([sample(32, 32, index) for index in range(2)]), 0)

    ours = against()
    ours.log = lambda *arguments, **options: None  # type: ignore[method-assign]
    learn(ours, 1.0)
    checkpoint: dict = {}
    ours.on_save_checkpoint(checkpoint)
    resumed = against()
    resumed.log = ours.log  # type: ignore[method-assign]
    resumed.on_load_checkpoint(copy.deepcopy(checkpoint))
    resumed.on_fit_start()
    learn(resumed, 4.0)  # the mean of the whole epoch, not of what came after
    means = resumed.train_means()
    assert means["train/adversary"] == 2.5
    assert means["train/deception"] == 1.25
    resumed.on_train_epoch_start()
    assert resumed.train_means() == {}
    assert not any("adversary" in name for name in ours.state_dict())


def sample(height: int, width: int, index: int):
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    mask = torch.randint(0, 3, (height, width), dtype=torch.uint8)
    return tv_tensors.Image(image), {"semantic_mask": tv_tensors.Mask(mask), "image_id": index}


@torch.no_grad()
def test_validation_scores_do_not_depend_on_the_company_an_image_is_in() -> None:
    ours = module()
    samples = [sample(*size, index) for index, size in enumerate([(40, 56), (64, 33), (40, 56)])]
    found = []
    for batches in ([samples], [[one] for one in samples]):
        for batch in batches:
            ours.validation_step(SemanticCollate()(batch), 0)
        found.append((ours.scores.compute(), float(ours.val_loss.compute())))
        ours.scores.reset()
        ours.val_loss.reset()
    (together, loss), (alone, loss_alone) = found
    assert together["confusion"] == alone["confusion"]
    assert sum(map(sum, together["confusion"])) == 2 * 40 * 56 + 64 * 33
    assert loss == pytest.approx(loss_alone, rel=1e-6)


@pytest.mark.parametrize("rest_class", [None, 0])
@torch.no_grad()
def test_a_partly_labelled_image_is_given_only_classes_that_its_data_labels(rest_class) -> None:
    ours = module(rest_class)
    samples = [sample(32, 32, index) for index in range(2)]
    valid = torch.tensor([[True, True, False], [True, True, True]])
    for (_, target), row in zip(samples, valid, strict=True):
        target["semantic_mask"] = target["semantic_mask"] % 2
        target["valid_classes"] = row
    batch = SemanticCollate()(samples)
    ours.validation_step(batch, 0)
    probs = ours(batch.images).logits.softmax(1)
    probs[0, 0] += probs[0, 2] if rest_class == 0 else 0  # what the data calls nothing may be what it does not know
    probs[0, 2] = 0
    expected = torch.zeros(3, 3, dtype=torch.long)
    expected.view(-1).index_add_(
        0, (batch.target * 3 + probs.argmax(1)).flatten(), torch.ones(batch.target.numel(), dtype=torch.long)
    )
    assert ours.scores.compute()["confusion"] == expected.tolist()
    chosen = probs.gather(1, batch.target[:, None]) / probs.sum(1, keepdim=True)
    assert float(ours.val_loss.compute()) == pytest.approx(float(-chosen.log().mean()), rel=1e-5)


@pytest.mark.parametrize(("precision", "optimizer"), [("bfloat16", "adamw"), ("float32", "sgd")])
def test_gradients_are_clipped_in_any_precision(squares, tiny, tmp_path, monkeypatch, precision, optimizer):
    norms = []

    original = SemanticSegmentation.configure_gradient_clipping

    def noted(self, *arguments, **options):
        original(self, *arguments, **options)
        norms.append(torch.stack([p.grad.norm() for p in self.model.parameters() if p.grad is not None]).norm().item())

    monkeypatch.setattr(SemanticSegmentation, "configure_gradient_clipping", noted)
    tiny["data"] |= {"path": str(squares)}
    tiny["optimizer"] |= {"name": optimizer}
    tiny["trainer"] |= {"max_epochs": 1, "precision": precision, "gradient_clip": 0.01}
    train(tiny, out=tmp_path / "run", progress=False)
    assert 0 < max(norms) <= 0.0101


def test_float16_takes_an_optimizer_that_leaves_scaling_to_lightning():
    own = module()
    for precision, fused in (("float16", False), ("bfloat16", True)):
        own.recipe = build_recipe({}, [f"trainer.precision={precision}"])
        assert own.configure_optimizers()["optimizer"].defaults["fused"] is fused

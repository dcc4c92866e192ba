"""What one training and one validation step do."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors

from delineate.data.batches import SemanticCollate
from delineate.engine.recipe import build_recipe
from delineate.engine.semantic import SemanticSegmentation
from delineate.losses.catalogue import create_losses
from delineate.models.catalogue import create_model
from delineate.structures.preprocessing import Preprocessing


def module() -> SemanticSegmentation:
    torch.manual_seed(0)
    return SemanticSegmentation(
        create_model("enet", num_classes=3),
        create_losses([{"name": "cross_entropy"}]),
        recipe=build_recipe({"model": {"name": "enet"}, "data": {"path": "digits"}}),
        preprocessing=Preprocessing(),
        class_names=("a", "b", "c"),
        ignore_index=255,
        total_steps=1,
        file_of=str,
    ).eval()


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

"""Frozen parts by name, and batch normalisations that a fine-tuned detector keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from delineate.engine.freezing import parts_named
from delineate.engine.preparation import check_parts, new_model
from delineate.engine.recipe import build_recipe
from delineate.engine.training import train
from delineate.errors import RecipeError
from delineate.models.catalogue import create_model


def test_parts_are_found_by_their_name_first() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
            self.batch_norm = nn.BatchNorm1d(4)

    model = Named()
    assert parts_named(model, "first") == [model.first]
    assert parts_named(model, "batch_norm") == [model.batch_norm]
    assert parts_named(model, "first.batch_norm") == [model.first[1]]
    assert parts_named(model, "first.0.batch_norm") == []
    assert parts_named(model, "second.batch_norm") is None
    assert parts_named(model, "first.norm") is None


def test_batch_norm_with_an_activation_counts() -> None:
    with torch.device("meta"):
        model = create_model("unet", num_classes=2, encoder="efficientnet_b0")
    norms = parts_named(model, "encoder.batch_norm")
    assert norms is not None
    assert len(norms) > 40
    assert not any(isinstance(part, nn.Conv2d) for one in norms for part in one.modules())


def test_of_a_published_detector_what_torchvision_keeps_frozen() -> None:
    with torch.device("meta"):
        model = create_model("faster_rcnn", num_classes=90)
    norms = parts_named(model, "encoder.batch_norm") or []
    assert sum(parameter.numel() for part in norms for parameter in part.parameters()) == 53_120


def test_what_has_none_is_said() -> None:
    with torch.device("meta"):
        model = create_model("faster_rcnn_vgg16", num_classes=2, width=0.1, hidden=8)
    recipe = {"model": {"name": "faster_rcnn_vgg16", "width": 0.1, "hidden": 8}}
    message = "got 'encoder.batch_norm', where there is no batch normalisation"
    with pytest.raises(RecipeError, match=message):
        check_parts(model, build_recipe({**recipe, "start": {"freeze": ["encoder.batch_norm"]}}))
    with pytest.raises(RecipeError, match=r"start.freeze must name parts of .*; got 'encode.batch_norm'"):
        check_parts(model, build_recipe({**recipe, "start": {"freeze": ["encode.batch_norm"]}}))


def test_frozen_batch_norm_keeps_weights_and_statistics_while_convolutions_learn(
    squares: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    values = {
        **tiny,
        "model": {"name": "unet", "encoder": "test_resnet", "decoder_channels": [8, 8, 8, 8]},
        "data": {**tiny["data"], "path": str(squares)},
        "trainer": {**tiny["trainer"], "max_epochs": 1},
        "start": {"freeze": ["encoder.batch_norm"]},
    }
    options = {name: value for name, value in values["model"].items() if name != "name"} | {"num_classes": 3}
    first = new_model(build_recipe(values), options).state_dict()
    run = train(values, out=tmp_path / "run", progress=False)
    after = load_file(run.weights)
    with torch.device("meta"):
        model = create_model("unet", **options)
    norms = {name for name, part in model.encoder.named_modules() if isinstance(part, nn.BatchNorm2d)}  # type: ignore[union-attr]
    kept = {name for name in after if name.removeprefix("encoder.").rpartition(".")[0] in norms and "encoder." in name}
    assert len(kept) == 5 * len(norms) > 0
    assert all(torch.equal(after[name], first[name]) for name in kept)
    others = [name for name in after if name not in kept and after[name].ndim == 4]
    assert not any(torch.equal(after[name], first[name]) for name in others)

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses import catalogue
from delineate.losses.catalogue import LOSSES, create_losses, loss_options
from delineate.losses.supervision import SemanticLoss
from delineate.structures.outputs import SemanticOutputs


def without_type_checks() -> ModuleType:
    """The module as users have it: the tests' own checks would stop a wrong type before the message under test."""
    spec = importlib.util.spec_from_file_location("plain_catalogue", catalogue.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_loss_is_created_and_gives_a_number():
    losses = create_losses([{"name": name} for name in LOSSES])
    values = losses(SemanticOutputs(torch.randn(1, 3, 4, 4)), torch.randint(0, 3, (1, 4, 4)))
    assert set(values) == {"loss", *LOSSES}
    torch.testing.assert_close(values["loss"], sum(values[name] for name in LOSSES))


@pytest.mark.parametrize("name", LOSSES)
def test_options_are_keyword_only_with_plain_defaults(name: str):
    assert issubclass(LOSSES[name], SemanticLoss)
    assert {"ignore_index", "auxiliary_weight"} <= set(loss_options(name))
    assert json.loads(json.dumps(loss_options(name))) == loss_options(name)


def test_options_and_ignore_index_reach_the_losses():
    config = [
        {"name": "cross_entropy", "class_weights": [1, 2], "label_smoothing": 0.1},
        {"name": "focal", "weight": 0.5, "gamma": 1, "ignore_index": 7},
    ]
    losses = create_losses(config, ignore_index=-1, rest_class=1)
    assert losses.losses["focal"].rest_class == 1
    assert losses.weights == {"cross_entropy": 1.0, "focal": 0.5}
    assert losses.losses["cross_entropy"].ignore_index == -1
    assert losses.losses["cross_entropy"].class_weights.tolist() == [1.0, 2.0]
    assert losses.losses["focal"].ignore_index == 7
    assert losses.losses["focal"].gamma == 1.0
    assert config[1] == {"name": "focal", "weight": 0.5, "gamma": 1, "ignore_index": 7}


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ([{"name": "dice"}], UnknownNameError, "loss must be a known name; got 'dice'. Did you mean 'soft_dice'?"),
        (
            [{"name": "cross_entropy", "label_smothing": 0.1}],
            UnknownNameError,
            "option of loss 'cross_entropy' must be a known name; got 'label_smothing'. Did you mean 'label_smoothing",
        ),
        (
            [{"weight": 1}],
            ArgumentError,
            "losses must name each loss; got {'weight': 1}. Known: cross_entropy, soft_dice, focal, "
            "ohem_cross_entropy, border_cross_entropy, generalised_dice, tversky, lovasz_softmax, boundary.",
        ),
        ([{"name": "focal"}, {"name": "focal"}], ArgumentError, "losses must list each loss once; got focal twice."),
        ([], ArgumentError, "losses must hold at least one loss; got none."),
        (
            {"name": "focal"},
            ArgumentError,
            "losses must be a list of mappings with a name each; got {'name': 'focal'}.",
        ),
        (["focal"], ArgumentError, "losses must be a list of mappings with a name each; got ['focal']."),
    ],
)
def test_errors(config, error: type[Exception], said: str):
    with pytest.raises(error) as caught:
        without_type_checks().create_losses(config)
    assert str(caught.value).startswith(said)


def test_the_room_names_every_class_and_factory():
    import delineate.losses

    for name in delineate.losses.__all__:
        assert getattr(delineate.losses, name).__doc__
    assert {loss.__name__ for loss in LOSSES.values()} <= set(delineate.losses.__all__)
    assert dir(delineate.losses) == delineate.losses.__all__
    with pytest.raises(AttributeError, match=r"module 'delineate\.losses' has no attribute 'Dice'"):
        delineate.losses.Dice  # noqa: B018


def test_the_room_is_light():
    code = "import sys, delineate.losses; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lists_reach_the_losses_as_a_recipe_has_them():
    losses = create_losses([{"name": "soft_dice", "auxiliary_weight": [1, 0.5], "rest_class": 0}])
    assert losses.losses["soft_dice"].auxiliary_weight == (1.0, 0.5)
    assert losses.losses["soft_dice"].rest_class == 0


def test_the_page_shows_every_loss_and_its_recipes_are_right():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "losses.md").read_text(encoding="utf-8")
    shown = set()
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        config = yaml.safe_load(block)["loss"]
        for entry in config:
            if isinstance(entry.get("class_weights"), str):
                entry["class_weights"] = [1.0, 2.0]  # counted on the data by then
        shown |= set(create_losses(config).weights)
    assert shown == set(LOSSES)


def test_the_pages_own_loss_works():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "losses.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "losses.md", "exec"), names)
    assert names["values"]["loss"].item() == pytest.approx((math.log(3 / 2) + math.log(3)) / 2, rel=1e-6)
    own = names["BrierScore"]()(SemanticOutputs(torch.zeros(1, 2, 1, 2)), torch.tensor([[[1, 255]]]))["loss"]
    assert own.item() == pytest.approx(0.5)

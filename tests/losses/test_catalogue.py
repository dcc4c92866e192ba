from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest
import torch

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
    losses = create_losses(config, ignore_index=-1)
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
            "losses must name each loss; got {'weight': 1}. Known: cross_entropy, soft_dice, focal.",
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

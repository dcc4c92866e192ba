"""Folding leaves the outputs what they were, and whatever cannot be folded alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from delineate.engine.folding import folded, rectified
from delineate.engine.packing import with_packed
from delineate.engine.synchronisation import synchronise_batch_norm
from delineate.models.catalogue import create_model
from delineate.structures.outputs import SemanticOutputs
from tests.models.small import SMALL

# normalisations that follow no convolution: ENet's joined stem and two after transposed convolutions; DeconvNet's, also
# after transposed ones; the hourglass's, before convolutions; those of side heads, which do not run
LEFT = {"enet": 3, "deconvnet": 14, "hourglass": 31, "fcn_resnet": 1, "pspnet": 1}


def lived_in(model: nn.Module) -> nn.Module:
    """Statistics, scales and shifts as training leaves them, and weights without zeros."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
    for weight in model.parameters():
        if weight.ndim == 4 and not weight.any():
            nn.init.normal_(weight, 0, 0.05)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@torch.inference_mode()
def assert_same(model: nn.Module, fast: nn.Module, channels: int = 3) -> None:
    images = torch.randn(2, channels, 40, 56, generator=torch.Generator().manual_seed(5))
    before, after = model(images).logits, fast(images).logits
    assert before.std() > 1e-3
    assert (before - after).abs().max() <= 1e-4 * before.abs().max().clamp_min(1)


def example(channels: int = 3) -> Tensor:
    return torch.randn(1, channels, 64, 64)


@pytest.mark.parametrize("name", SMALL)
def test_every_model_stays_the_same(name):
    model = lived_in(create_model(name, num_classes=3, **SMALL[name]))
    fast = folded(model, example())
    assert_same(model, fast)
    assert norms(fast) == LEFT.get(name, 0)


@pytest.mark.parametrize(
    "encoder", ["mobilenetv3_small_050", "tf_efficientnet_lite0", "resnest14d", "nf_regnet_b0", "resnetv2_50x1_bit"]
)
def test_encoders_whose_normalisations_carry_an_activation_or_whose_convolutions_change_their_weights(encoder):
    model = lived_in(create_model("unet", num_classes=2, encoder=encoder, decoder_channels=(8, 8)))
    fast = folded(model, example())
    assert_same(model, fast)
    assert norms(fast) == 0


def test_normalisations_made_for_several_processes_are_folded_too():
    model = lived_in(create_model("unet", num_classes=2, encoder="mobilenetv3_small_050", decoder_channels=(8, 8)))
    model = synchronise_batch_norm(model).eval()
    fast = folded(model, example())
    assert_same(model, fast)
    assert norms(fast) == 0


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 2, 1)

    def features(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images))

    def forward(self, images: Tensor) -> SemanticOutputs:
        return SemanticOutputs(self.head(self.features(images)))


class UsedTwice(Base):
    def features(self, images):
        values = self.conv(images)
        return self.norm(values) + 1e-4 * values  # too little to show in the outputs


class UsedInPlace(Base):
    def features(self, images):
        return self.norm(self.conv(images).relu_())


class TwoNorms(Base):
    def features(self, images):
        values = self.conv(images)
        return self.norm(values) + self.other(values)


class CalledTwice(Base):
    def features(self, images):
        return self.norm(self.conv(images)) + self.other(self.conv(images.flip(-1)))


class NormCalledTwice(Base):
    def features(self, images):
        return self.norm(self.norm(self.conv(images)))


class Sliced(Base):
    def features(self, images):
        values = self.conv(images)
        return self.norm(values) * values[:, :1]


@pytest.mark.parametrize(("kind", "left"), [(Base, 1), (UsedTwice, 2), (UsedInPlace, 2), (TwoNorms, 2)])
def test_what_is_used_again_is_left_alone(kind, left):
    model = lived_in(kind())
    fast = folded(model, example())
    assert norms(fast) == left  # "other" is not called in most of them
    assert_same(model, fast)


@pytest.mark.parametrize("kind", [CalledTwice, NormCalledTwice, Sliced])
def test_modules_that_run_twice_are_left_alone(kind):
    model = lived_in(kind())
    fast = folded(model, example())
    assert norms(fast) == 2
    assert_same(model, fast)


class Standardised(nn.Conv2d):
    """Scales its weights as it runs, so that folding into them is lost."""

    def forward(self, images):
        weight = self.weight / self.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return self._conv_forward(images, weight, self.bias)


def test_a_convolution_that_undoes_the_folding_keeps_its_normalisation_and_the_others_lose_theirs():
    class Mixed(Base):
        def __init__(self):
            super().__init__()
            self.odd, self.odd_norm = Standardised(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def features(self, images):
            return self.other(self.conv(images)) + self.odd_norm(self.odd(self.norm(self.conv_again(images))))

        def conv_again(self, images):
            return self.second(images)

    model = Mixed()
    model.second = nn.Conv2d(3, 4, 1)
    model = lived_in(model)
    fast = folded(model, example())
    assert isinstance(fast.odd_norm, nn.BatchNorm2d)
    assert norms(fast) == 1
    assert_same(model, fast)


def test_the_given_model_is_not_touched():
    model = lived_in(Base()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = folded(model, example())
    assert model.training
    assert not fast.training
    assert norms(model) == 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in (*model.modules(), *fast.modules()))


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_normalisations_without_scale_or_statistics(options):
    model = Base()
    model.norm = nn.BatchNorm2d(4, **options)
    model = lived_in(model)
    fast = folded(model, example())
    assert norms(fast) == (1 if "affine" in options else 2)
    assert_same(model, fast)


def test_a_broken_model_is_copied_as_it_is():
    model = lived_in(Base())
    model.head.weight.data.fill_(float("nan"))
    fast = folded(model, example())
    assert norms(fast) == 2
    assert fast(example()).logits.isnan().all()


class Rectified(nn.Module):
    """ReLUs behind convolutions, alone and not."""

    def __init__(self) -> None:
        super().__init__()
        names = ("own", "in_place", "used_twice", "used_before", "first", "second", "again", "plain")
        self.layers = nn.ModuleDict({name: nn.Conv2d(3, 3, 3, padding=1) for name in names})
        self.relus = nn.ModuleDict(
            {
                "own": nn.ReLU(),
                "in_place": nn.ReLU(inplace=True),
                "used_twice": nn.ReLU(),
                "used_before": nn.ReLU(inplace=True),
                "shared": nn.ReLU(),
                "again": nn.ReLU(inplace=True),
            }
        )

    def forward(self, images: torch.Tensor) -> SemanticOutputs:
        layers, relus = self.layers, self.relus
        found = relus["own"](layers["own"](images))
        found = relus["in_place"](nn.Identity()(layers["in_place"](found)))
        twice = layers["used_twice"](found)
        found = relus["used_twice"](twice) + twice
        before = layers["used_before"](found)
        shift = before.sum()
        found = relus["used_before"](before) + shift
        found = relus["shared"](layers["first"](found)) + relus["shared"](layers["second"](found))
        for _ in range(2):  # a head that every level shares
            found = relus["again"](layers["again"](found))
        return SemanticOutputs(layers["plain"](found))


def test_a_relu_becomes_part_of_the_convolution_that_it_alone_follows() -> None:
    torch.manual_seed(0)
    plain = Rectified().eval()
    model = with_packed(copy.deepcopy(plain))
    assert rectified(model, torch.randn(1, 3, 8, 8)) is model
    included = {name for name, layer in model.layers.items() if layer.rectifies}
    assert included == {"own", "in_place", "again"}
    gone = {name for name, relu in model.relus.items() if isinstance(relu, nn.Identity)}
    assert gone == included
    assert not any(layer._packed for layer in model.layers.values())
    images = torch.randn(2, 3, 9, 7)
    with torch.inference_mode():
        expected = plain(images).logits
        for _ in range(3):
            torch.testing.assert_close(model(images).logits, expected, atol=1e-4, rtol=1e-4)

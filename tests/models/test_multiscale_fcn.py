from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.models.encoders.torchvision_encoder import StagedEncoder
from delineate.models.multiscale_fcn import FieldOfViewHead, MultiscaleFCN, multiscale_fcn
from tests.models.segmenter import SegmenterTests


class TestMultiscaleFCN(SegmenterTests):
    name = "multiscale_fcn"
    options = {"encoder": "resnet10t", "channels": 8}
    training_size = (96, 128)


def nested(*, norm: bool = False, classes: int = 2) -> MultiscaleFCN:
    """Three networks on a chain of three small stages; what lies behind the last feature belongs to none."""
    stages = [
        nn.Sequential(
            nn.Conv2d(before, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6) if norm else nn.Identity(),
            nn.ReLU(),
        )
        for before in (3, 6, 6, 6)
    ]
    encoder = StagedEncoder(stages, channels=(6,) * 4, strides=(2, 4, 8, 16))
    return MultiscaleFCN(encoder, [FieldOfViewHead(6, 4, classes) for _ in range(3)], (0, 1, 2), num_classes=classes)


def trained(model: nn.Module) -> set[str]:
    """The first two parts of the name of everything that a gradient may change."""
    return {
        ".".join(name.split(".")[: 3 if name.startswith("encoder") else 2])
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def test_the_fusion_starts_as_the_mean() -> None:
    model = nested(classes=3).double().train()
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    features = model.encoder(images)
    scores = [head(features[place]) for head, place in zip(model.heads, model.places, strict=True)]
    same_size = [F.interpolate(score, size=(16, 24), mode="bilinear") for score in scores]
    outputs = model(images)
    expected = F.interpolate(sum(same_size) / 3, size=(32, 48), mode="bilinear")
    torch.testing.assert_close(outputs.logits, expected)
    for side, score in zip(outputs.auxiliary, scores, strict=True):
        torch.testing.assert_close(side, F.interpolate(score, size=(32, 48), mode="bilinear"))


def test_fields_of_view_grow() -> None:
    model = nested().double().eval()
    images = torch.randn(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    sides = []
    for stage in (1, 2, 3):
        model.train_stage(stage)
        gradient = torch.zeros(128, 128, dtype=torch.bool)
        for row, column in ((64, 64), (65, 65)):
            (slope,) = torch.autograd.grad(model(images).logits[0, 0, row, column], images)
            gradient |= slope[0].any(0)
        sides.append(int(gradient.any(1).sum()))
    assert sides[0] < sides[1] < sides[2] < 128


def test_each_stage_trains_what_the_smaller_networks_lack() -> None:
    model = nested()
    everything = trained(model)
    model.train_stage(1)
    assert trained(model) == {"encoder.stages.0", "heads.0"}
    model.train_stage(2)
    assert trained(model) == {"encoder.stages.1", "heads.1"}
    model.train_stage(3)
    assert trained(model) == {"encoder.stages.2", "heads.2"}
    model.train_stage(4)
    assert trained(model) == {"fuse.weight", "fuse.bias"}
    model.train_stage(None)
    assert trained(model) == everything


def test_a_stage_answers_alone_and_changes_nothing_else() -> None:
    torch.manual_seed(3)
    model = nested(norm=True).train()
    images, target = torch.randn(4, 3, 32, 32), torch.randint(2, (4, 32, 32))
    model.train_stage(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        outputs = model.train()(images)
        assert outputs.auxiliary == ()
        loss = F.cross_entropy(outputs.logits, target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    # the third and fourth stage lie outside network 2, and its smaller network's batch norm keeps its statistics
    assert {name.rpartition(".")[0] for name in changed} <= {
        *("encoder.stages.1.0", "encoder.stages.1.1"),
        *("heads.1.0", "heads.1.2"),
    }
    assert "encoder.stages.1.1.running_mean" in changed


@torch.no_grad()
def test_the_last_stage_is_the_fused_answer() -> None:
    model = nested().eval()
    images = torch.randn(1, 3, 20, 20)
    fused = model(images).logits
    model.train_stage(4)
    assert torch.equal(model(images).logits, fused)
    assert model.train()(images).auxiliary == ()
    model.train_stage(1)
    assert not torch.equal(model.eval()(images).logits, fused)


def test_stages_of_an_encoder_whose_inside_is_unknown() -> None:
    model = multiscale_fcn(2, encoder="resnet10t", channels=4, strides=[4, 16], stage=2)
    encoder = {name for name, p in model.encoder.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in encoder} == {"layer2", "layer3"}
    assert not any(layer.training for layer in model.encoder.model.bn1.modules())


def test_stages_are_found_without_memory() -> None:
    with torch.device("meta"):
        model = multiscale_fcn(5, stage=1)
    trained_convolutions = [p for p in model.encoder.parameters() if p.requires_grad and p.ndim == 4]
    assert len(trained_convolutions) == 7  # VGG16's up to conv3_3
    assert not any(p.requires_grad for p in model.heads[1].parameters())


def test_errors() -> None:
    with pytest.raises(ArgumentError, match=r"strides must be growing strides of the encoder's features, \(2, 4, 8"):
        multiscale_fcn(2, encoder="resnet10t", strides=[4, 3])
    with pytest.raises(ArgumentError, match="stage must be 1 to 3, the last of which is the fusion, or None; got 4"):
        multiscale_fcn(2, encoder="resnet10t", strides=[4, 8], stage=4)
    with pytest.raises(ArgumentError, match="channels must be at least 1; got 0"):
        multiscale_fcn(2, encoder="resnet10t", channels=0)

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import GoogLeNet

from delineate.errors import ArgumentError
from delineate.explain.receptive_field import receptive_field
from delineate.models.fcn import fcn32s
from delineate.models.fcn_trunks import Inception, alexnet_trunk, googlenet_trunk, vgg16_trunk


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_caffes_classifiers_without_their_last_layer() -> None:
    with torch.device("meta"):
        vgg16, alexnet, googlenet = (
            trunk(width=1.0, fc_channels=4096) for trunk in (vgg16_trunk, alexnet_trunk, googlenet_trunk)
        )
    # 138,357,544, 60,965,224 and 6,998,552 with 1000 classes
    for trunk, total in ((vgg16, 138_357_544), (alexnet, 60_965_224), (googlenet, 6_998_552)):
        mine = sum(count(stage) for stage in trunk.stages) + count(trunk.classifier)
        assert mine == total - 1000 * trunk.scored_channels - 1000
    assert (vgg16.channels, alexnet.channels, googlenet.channels) == ([256, 512, 512], [256], [1024])


def test_receptive_fields_of_the_paper() -> None:
    """Table 1 of the paper: 404, 355 and 907, at stride 32."""

    def field(trunk: nn.Module) -> tuple[tuple, tuple]:
        found = receptive_field(trunk, in_channels=3, size=(512, 512))
        return found.size, found.stride

    vgg16 = vgg16_trunk(width=1 / 16, fc_channels=4)
    assert field(nn.Sequential(*vgg16.stages, vgg16.classifier)) == ((404, 404), (32, 32))
    alexnet = alexnet_trunk(width=1 / 16, fc_channels=4)
    assert field(nn.Sequential(*alexnet.stages, alexnet.classifier)) == ((355, 355), (32, 32))
    (googlenet,) = googlenet_trunk(width=1 / 16, fc_channels=4096).stages
    assert field(googlenet) == ((715, 715), (32, 32))
    assert field(nn.Sequential(googlenet, nn.AvgPool2d(7, stride=1))) == ((907, 907), (32, 32))


def test_inception_channels_are_those_of_torchvision() -> None:
    """Torchvision's has 3x3 kernels where the paper has 5x5, and batch norm; the channels are the same."""
    with torch.device("meta"):
        reference = GoogLeNet(aux_logits=False, init_weights=False)
        (stage,) = googlenet_trunk(width=1.0, fc_channels=4096).stages
    theirs = [layer for layer in reference.modules() if isinstance(layer, nn.Conv2d)]
    mine = [layer for layer in stage.modules() if isinstance(layer, nn.Conv2d)]
    assert [(a.in_channels, a.out_channels) for a in mine] == [(b.in_channels, b.out_channels) for b in theirs]
    other = [
        (a.kernel_size, b.kernel_size) for a, b in zip(mine, theirs, strict=True) if a.kernel_size != b.kernel_size
    ]
    assert other == [((5, 5), (3, 3))] * 9


@torch.no_grad()
def test_inception_puts_its_branches_side_by_side() -> None:
    block = Inception(2, (1, 1, 2, 1, 3, 4)).eval()
    features = torch.randn(1, 2, 5, 5)
    joined = block(features)
    assert joined.shape == (1, 10, 5, 5)
    for branch, part in zip(block.branches, joined.split((1, 2, 3, 4), dim=1), strict=True):
        assert torch.equal(branch(features), part)


@torch.no_grad()
def test_googlenets_crop_puts_the_scores_on_the_image() -> None:
    """Position p of the scores is centred on pixel 32 p + 30, which is where a spot there must come out."""
    model = fcn32s(1, encoder="googlenet", width=1 / 16).eval()

    def spot(score: torch.Tensor) -> torch.Tensor:
        score = torch.zeros_like(score)
        score[..., 2, 5] = 1
        return score

    model.score.register_forward_hook(lambda _module, _inputs, output: spot(output))
    logits = model(torch.zeros(1, 3, 300, 290)).logits[0, 0]
    rows, columns = torch.meshgrid(torch.arange(300.0), torch.arange(290.0), indexing="ij")
    centre = [float((logits * place).sum() / logits.sum()) for place in (rows, columns)]
    assert centre == pytest.approx([32 * 2 + 30, 32 * 5 + 30], abs=1e-3)


def test_googlenets_position_is_centred_there() -> None:
    """With means for maxima, the pixels that position p sees balance on pixel 32 p + 30."""
    (stage,) = googlenet_trunk(width=1 / 16, fc_channels=4096).stages
    for layer in list(stage.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.MaxPool2d):
                mean = nn.AvgPool2d(3, child.stride, child.padding, ceil_mode=child.ceil_mode)
                setattr(layer, name, mean)
            elif isinstance(child, nn.ReLU | nn.LocalResponseNorm):
                setattr(layer, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                nn.init.ones_(child.weight)
    images = torch.zeros(1, 3, 736, 736, dtype=torch.float64, requires_grad=True)
    stage.double()(images)[0, :, 11, 10].sum().backward()
    weights = images.grad[0].sum(0)
    places = torch.arange(736.0).double()
    centre = [float((weights.sum(1 - axis) * places).sum() / weights.sum()) for axis in (0, 1)]
    assert centre == pytest.approx([32 * 11 + 30, 32 * 10 + 30], abs=0.01)


def test_googlenet_has_no_fully_connected_layers_to_make_narrower() -> None:
    with pytest.raises(ArgumentError, match=r"fc_channels must stay 4096 with 'googlenet'.*; got 1024. Pass width"):
        googlenet_trunk(width=1.0, fc_channels=1024)

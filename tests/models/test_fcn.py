from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import VGG16_Weights

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.fcn import FCN, fcn8s, fcn16s, fcn32s
from tests.models.segmenter import SegmenterTests

THIN = {"width": 1 / 8, "fc_channels": 32}
# the last upsampling stays at bilinear interpolation, as in the paper
FIXED = ("upsample.weight",)


class TestFCN32s(SegmenterTests):
    name = "fcn32s"
    options = THIN
    published = [({"num_classes": 21}, 136_152_917)]
    without_gradient = FIXED


class TestFCN32sOnAlexNet(SegmenterTests):
    name = "fcn32s"
    options = {"encoder": "alexnet", "width": 1 / 4, "fc_channels": 32}
    published = [({"num_classes": 21, "encoder": "alexnet"}, 58_704_590)]
    without_gradient = FIXED


class TestFCN32sOnGoogLeNet(SegmenterTests):
    name = "fcn32s"
    options = {"encoder": "googlenet", "width": 1 / 4}
    published = [({"num_classes": 21, "encoder": "googlenet"}, 7_745_406)]
    without_gradient = FIXED


class TestFCN16s(SegmenterTests):
    name = "fcn16s"
    options = THIN
    published = [({"num_classes": 21}, 134_815_994)]
    without_gradient = FIXED


class TestFCN8s(SegmenterTests):
    name = "fcn8s"
    options = THIN
    published = [({"num_classes": 21}, 134_489_759)]
    without_gradient = FIXED


def sizes_inside(model: FCN, kinds: tuple[type, ...]) -> list[int]:
    """The sides of what every layer of these kinds returns for a 500 x 500 image, in order."""
    sizes: list[int] = []
    for layer in model.modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
    logits = model.eval()(torch.zeros(1, model.in_channels, 500, 500)).logits
    assert logits.shape[-2:] == (500, 500)
    return sizes


def test_sizes_of_the_release_at_500_pixels() -> None:
    with torch.device("meta"):
        pools = sizes_inside(fcn8s(21), (nn.MaxPool2d,))
        assert pools == [349, 175, 88, 44, 22]
        assert sizes_inside(fcn8s(21), (nn.Conv2d,))[0] == 698
        assert sizes_inside(fcn8s(21), (nn.Conv2d,))[13] == 16
        assert sizes_inside(fcn8s(21), (nn.ConvTranspose2d,)) == [34, 70, 568]
        assert sizes_inside(fcn16s(21), (nn.ConvTranspose2d,)) == [34, 560]
        assert sizes_inside(fcn32s(21), (nn.ConvTranspose2d,)) == [544]


@pytest.mark.parametrize("factory", [fcn32s, fcn16s, fcn8s])
@torch.no_grad()
def test_crops_put_the_scores_on_the_image(factory) -> None:
    """A bright spot in the scores of one position must come out where that position's receptive field is centred.

    conv1_1 and its padding move the image by 99; pixel p of a map at stride s is centred on s * p + (s - 1) / 2 - 99,
    fc6 looks three pixels of pool5 further, and interpolation keeps centres.
    """
    model = factory(1, width=1 / 16, fc_channels=4).eval()

    def spot(score: torch.Tensor) -> torch.Tensor:
        score = torch.zeros_like(score)
        score[..., 5, 7] = 1
        return score

    model.score.register_forward_hook(lambda _module, _inputs, output: spot(output))
    logits = model(torch.zeros(1, 3, 300, 300)).logits[0, 0]
    rows, columns = torch.meshgrid(torch.arange(300.0), torch.arange(300.0), indexing="ij")
    centre = [float((logits * place).sum() / logits.sum()) for place in (rows, columns)]
    expected = [32 * (5 + 3) + 15.5 - 99, 32 * (7 + 3) + 15.5 - 99]
    assert centre == pytest.approx(expected, abs=1.0)


def test_a_finer_net_starts_where_the_coarser_one_ended() -> None:
    coarse = fcn32s(3, **THIN)
    nn.init.normal_(coarse.score.weight)
    middle, fine = fcn16s(3, **THIN), fcn8s(3, **THIN)
    middle.initialise_from(coarse)
    fine.initialise_from(middle)
    assert torch.equal(fine.score.weight, coarse.score.weight)
    assert torch.equal(fine.stages[0][0].weight, coarse.stages[0][0].weight)
    images = torch.randn(1, 3, 120, 90)
    with torch.no_grad():
        reference, *finer = (model.eval()(images).logits for model in (coarse, middle, fine))
    # interpolating twice is nearly interpolating once
    for logits in finer:
        assert (logits - reference).abs().mean() < 0.1 * reference.std()


def test_initialise_from_refuses_what_does_not_fit() -> None:
    with pytest.raises(
        ArgumentError, match=r"coarser must have fewer skips than 1; got 2. FCN-16s starts from FCN-32s"
    ):
        fcn16s(3, **THIN).initialise_from(fcn8s(3, **THIN))
    with pytest.raises(
        ArgumentError, match=r"coarser must have 'score.weight' of \(3, 32, 1, 1\); got \(4, 32, 1, 1\)"
    ):
        fcn16s(3, **THIN).initialise_from(fcn32s(4, **THIN))
    with pytest.raises(ArgumentError, match="coarser must have 'stages"):
        fcn16s(3, **THIN).initialise_from(fcn32s(3, encoder="alexnet", width=1 / 8, fc_channels=32))


def test_at_once_scales_the_skips_by_the_released_factors() -> None:
    model = fcn8s(2, **THIN, scaling="at_once")
    assert [skip.scale for skip in model.skips] == [0.01, 0.0001]
    skip = model.skips[0].eval()
    nn.init.ones_(skip.score.weight)
    coarse, feature = torch.zeros(1, 2, 1, 1), torch.ones(1, skip.score.in_channels, 16, 16)
    assert skip(coarse, feature).flatten().tolist() == pytest.approx([0.01 * skip.score.in_channels] * 32)


@pytest.mark.parametrize(
    ("learned", "expected"),
    [("none", [False, False, False]), ("intermediate", [True, True, False]), ("all", [True] * 3)],
)
def test_learned_upsampling(learned: str, expected: list[bool]) -> None:
    model = fcn8s(2, **THIN, learned_upsampling=learned)
    layers = [*(skip.upsample for skip in model.skips), model.upsample]
    assert [layer.weight.requires_grad for layer in layers] == expected


def test_untrained_scores_are_zero() -> None:
    assert not fcn8s(2, **THIN).eval()(torch.randn(1, 3, 20, 20)).logits.any()


@pytest.mark.slow
def test_pretrained_weights_reach_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    state = {}
    for place, name in enumerate(names):
        state[f"features.{name}.weight"] = torch.empty(widths[place + 1], widths[place], 3, 3).fill_(place)
        state[f"features.{name}.bias"] = torch.empty(widths[place + 1])
    state["classifier.0.weight"] = torch.arange(25088.0).expand(4096, -1)
    state["classifier.3.weight"] = torch.empty(4096, 4096).fill_(7)
    state["classifier.0.bias"] = state["classifier.3.bias"] = torch.empty(4096)
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, progress: state)
    model = fcn32s(2, pretrained=True)
    assert model.stages[2][4].weight[0, 0, 0, 0].item() == 12
    # linear weights run over channels, then rows, then columns of pool5's 7 x 7
    assert model.classifier[0].weight[4095, 2, 1, 3].item() == 2 * 49 + 7 + 3
    assert model.classifier[3].weight[0, 0].item() == 7


def test_errors_say_what_exists() -> None:
    with pytest.raises(ArgumentError, match="encoder must be 'vgg16' for FCN-8s; got 'alexnet'"):
        fcn8s(2, encoder="alexnet")
    with pytest.raises(UnknownNameError, match="Did you mean 'vgg16'"):
        fcn8s(2, encoder="vgg19")
    with pytest.raises(UnknownNameError, match="Did you mean 'at_once'"):
        fcn8s(2, scaling="atonce")
    with pytest.raises(ArgumentError, match="encoder must be 'vgg16' for FCN-16s; got 'googlenet'"):
        fcn16s(2, encoder="googlenet", width=1 / 8)
    with pytest.raises(ArgumentError, match="pretrained must be False unless encoder='vgg16'"):
        fcn32s(2, encoder="alexnet", pretrained=True)

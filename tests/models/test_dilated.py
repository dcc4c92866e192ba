from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VGG16_Weights

from delineate.errors import ArgumentError, UnknownNameError
from delineate.explain.receptive_field import receptive_field
from delineate.models.dilated import (
    DILATIONS_8,
    DILATIONS_10,
    LARGE_WIDTHS,
    ContextModule,
    FixedUpsampling,
    dilated_frontend,
    dilation8,
    dilation10,
    initialise_as_identity,
)
from delineate.models.encoders.torchvision_encoder import vgg_layers
from tests.models.segmenter import SegmenterTests

THIN = {"width": 1 / 32, "fc_channels": 16}
FACTORIES = [dilated_frontend, dilation8, dilation10]


class TestDilatedFrontend(SegmenterTests):
    name = "dilated_frontend"
    options = THIN
    published = [({"num_classes": 21}, 134_346_581)]


class TestDilation8(SegmenterTests):
    name = "dilation8"
    options = THIN
    published = [
        ({"num_classes": 21}, 141_149_720),
        ({"num_classes": 11, "context": "basic"}, 134_313_443),
    ]


class TestDilation8Basic(SegmenterTests):
    name = "dilation8"
    options = {**THIN, "context": "basic"}


class TestDilation10(SegmenterTests):
    name = "dilation10"
    options = THIN
    published = [({"num_classes": 19}, 134_373_043)]
    # the last upsampling stays at bilinear interpolation
    without_gradient = ("upsample.weight",)


def test_parameters_of_the_context_modules() -> None:
    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert [count(ContextModule(classes)) for classes in (21, 19, 11)] == [28_392, 23_256, 7_832]
    assert count(ContextModule(19, DILATIONS_10)) == 23_256 + 2 * (19 * 19 * 9 + 19)
    assert count(FixedUpsampling(19, 8)) == 4_864
    with torch.device("meta"):
        assert count(ContextModule(21, widths=LARGE_WIDTHS, padding="input")) == 6_803_139


@pytest.mark.parametrize(("pixels", "scores"), [(900, 66), (500, 16), (1396, 128)])
def test_sizes_of_the_release(pixels: int, scores: int) -> None:
    with torch.device("meta"):
        model = dilated_frontend(21, **THIN)
        features = model.classifier(model.encoder(torch.zeros(1, 3, pixels, pixels)))
    assert features.shape[-2:] == (scores, scores)
    # which is one score for 8 x 8 of the pixels inside the mirror's border
    assert scores == (pixels - 2 * 186) // 8


def test_receptive_fields() -> None:
    with torch.device("meta"):
        model = dilated_frontend(21, **THIN)
        convolutions = [layer for layer in ContextModule(2) if isinstance(layer, nn.Conv2d)]
        larger = ContextModule(2, DILATIONS_10)
    frontend = receptive_field(nn.Sequential(model.encoder, model.classifier, model.score), in_channels=3)
    assert (frontend.stride, frontend.size) == ((8, 8), (380, 380))
    seen = [
        receptive_field(nn.Sequential(*convolutions[:count]), in_channels=2, size=(80, 80)).size[0]
        for count in range(1, 9)
    ]
    assert seen == [3, 5, 9, 17, 33, 65, 67, 67]
    assert receptive_field(larger, in_channels=2).size == (259, 259)


@pytest.mark.parametrize("factory", FACTORIES)
@torch.no_grad()
def test_crops_put_the_scores_on_the_image(factory) -> None:
    """Score (i, j) sees 380 pixels from 8 i - 186 on, whose middle is 8 i + 3.5."""
    model = factory(1, **THIN).eval()

    def spot(_module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> Tensor:
        score = torch.zeros_like(output)
        score[..., 3, 4] = 1
        return score

    model.score.register_forward_hook(spot)
    logits = model(torch.zeros(1, 3, 60, 71)).logits[0, 0]
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(71.0), indexing="ij")
    centre = [float((logits * place).sum() / logits.sum()) for place in (rows, columns)]
    # the noise of the large module moves it a little
    assert centre == pytest.approx([8 * 3 + 3.5, 8 * 4 + 3.5], abs=0.3 if factory is dilation8 else 1e-3)


@torch.no_grad()
def test_basic_context_begins_as_the_identity_on_scores_above_zero() -> None:
    scores = torch.randn(2, 5, 20, 30)
    for dilations in (DILATIONS_8, DILATIONS_10):
        assert torch.equal(ContextModule(5, dilations)(scores), scores.relu())


@torch.no_grad()
def test_large_context_begins_close_to_the_identity() -> None:
    context = ContextModule(5, widths=LARGE_WIDTHS, padding="input")
    scores = torch.rand(1, 5, 30, 40)
    close = context(scores)
    assert close.shape == scores.shape
    assert 0 < (close - scores).abs().mean() < 0.3 * scores.mean()
    for layer in context:
        if isinstance(layer, nn.Conv2d):
            initialise_as_identity(layer, 5, noise=0.0)
    torch.testing.assert_close(context(scores), scores)


def test_identity_by_the_equation() -> None:
    layer = nn.Conv2d(6, 12, 3)
    initialise_as_identity(layer, 3, noise=1e-6)
    for out in range(12):
        for before in range(6):
            same = before * 3 // 6 == out * 3 // 12
            assert layer.weight[out, before, 1, 1].item() == pytest.approx(3 / 12 if same else 0, abs=1e-5)
    assert layer.weight[..., 0, 0].abs().max() < 1e-5
    assert layer.weight[..., 0, 0].all()


@torch.no_grad()
def test_padding_once_equals_padding_wide_and_cropping() -> None:
    context = ContextModule(2, widths=LARGE_WIDTHS, padding="input").eval()
    scores = torch.randn(1, 2, 12, 9)
    x = F.pad(scores, (33, 33, 33, 33))
    for layer in context:
        x = F.conv2d(x, layer.weight, layer.bias, dilation=layer.dilation) if isinstance(layer, nn.Conv2d) else x.relu()
    torch.testing.assert_close(context(scores), x)


@torch.no_grad()
def test_fixed_upsampling_is_bilinear_interpolation_inside() -> None:
    scores = torch.randn(1, 3, 6, 7)
    upsampled = FixedUpsampling(3, 8)(scores)
    expected = F.interpolate(scores, scale_factor=8, mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsampled[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4])
    assert torch.equal(upsampled.argmax(1), expected.argmax(1))


@torch.no_grad()
def test_the_image_is_mirrored() -> None:
    model = dilated_frontend(2, **THIN).eval()
    images = torch.randn(1, 3, 200, 208)
    padded = F.pad(images, (186, 186, 186, 186), mode="reflect")
    scores = model.score(model.classifier(model.encoder(padded)))
    expected = F.interpolate(scores, scale_factor=8, mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(images).logits, expected)


@torch.no_grad()
def test_a_context_continues_a_trained_front_end() -> None:
    frontend = dilated_frontend(3, **THIN).eval()
    frontend.score.bias.fill_(100)  # all scores above zero
    model = dilation8(3, context="basic", **THIN)
    missing, unexpected = model.load_state_dict(frontend.state_dict(), strict=False)
    assert unexpected == []
    assert all(name.startswith("context.") for name in missing)
    images = torch.randn(1, 3, 40, 50)
    torch.testing.assert_close(model.eval()(images).logits, frontend(images).logits)
    outputs = model.train()(images)
    assert len(outputs.auxiliary) == 1
    assert outputs.auxiliary[0].shape == outputs.logits.shape


@pytest.mark.slow
def test_pretrained_weights_reach_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {f"features.{name}": torch.full_like(value, 3) for name, value in vgg_layers("vgg16").state_dict().items()}
    state["classifier.0.weight"] = torch.arange(25088.0).expand(4096, -1)
    state["classifier.3.weight"] = torch.full((1, 1), 7.0).expand(4096, 4096)
    state["classifier.0.bias"] = state["classifier.3.bias"] = torch.zeros(4096)
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, progress: state)
    monkeypatch.setattr("delineate.models.blocks.convolutional_classifier.initialise_relu_network", lambda layers: None)
    model = dilated_frontend(2, pretrained=True)
    convolutions = [layer for layer in model.encoder if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 13
    assert convolutions[-1].weight[0, 0, 0, 0] == 3
    assert model.classifier[0].weight[4095, 2, 1, 3] == 2 * 49 + 7 + 3
    assert model.classifier[3].weight[0, 0] == 7


def test_errors_say_what_exists() -> None:
    with pytest.raises(UnknownNameError, match=r"context must be a known name; got 'larg'\. Did you mean 'large'"):
        dilation8(2, context="larg")
    with pytest.raises(ArgumentError, match="pretrained must be False unless VGG16 has its published widths"):
        dilation10(2, width=0.5, pretrained=True)
    with pytest.raises(ArgumentError, match="width must be above 0; got 0"):
        dilated_frontend(2, width=0)
    with pytest.raises(ArgumentError, match="fc_channels must be at least 1; got 0"):
        dilated_frontend(2, fc_channels=0)
    with pytest.raises(UnknownNameError, match=r"padding must be a known name; got 'layers'\. Did you mean 'layer'"):
        ContextModule(2, padding="layers")

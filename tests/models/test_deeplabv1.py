from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VGG16_Weights

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.blocks.convolutional_classifier import decimate_classifier
from delineate.models.deeplabv1 import HEADS, DeepLab, deeplabv1, field_of_view
from delineate.models.encoders.torchvision_encoder import vgg_layers
from tests.models.segmenter import SegmenterTests

THIN = {"width": 1 / 16, "fc_channels": 32}
FIELDS_OF_VIEW = {"7x7": 224, "4x4": 128, "4x4_rate8": 224, "largefov": 224}


class TestDeepLabV1(SegmenterTests):
    name = "deeplabv1"
    options = THIN
    published = [
        ({"num_classes": 21}, 20_505_429),
        ({"num_classes": 21, "head": "7x7"}, 134_346_581),
        ({"num_classes": 21, "head": "4x4"}, 65_140_565),
        ({"num_classes": 21, "head": "4x4_rate8"}, 65_140_565),
        # five branches of 3x3 convolutions to 128, 1x1 to 128, 1x1 to 21
        ({"num_classes": 21, "multi_scale": True}, 20_505_429 + 1_206_121),
    ]


class TestDeepLabV1MultiScale(SegmenterTests):
    name = "deeplabv1"
    options = {**THIN, "head": "4x4", "multi_scale": True, "multi_scale_channels": 8}


class TestDeepLabV1WithVGGsPooling(SegmenterTests):
    name = "deeplabv1"
    options = {**THIN, "head": "7x7", "pooling": "2x2"}


def spot(_module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> Tensor:
    score = torch.zeros_like(output)
    score[..., 3, 4] = 1
    return score


@pytest.mark.parametrize("options", [{}, {"head": "4x4"}, {"head": "7x7", "pooling": "2x2"}])
@torch.no_grad()
def test_scores_lie_on_every_eighth_pixel(options: dict[str, str]) -> None:
    model = deeplabv1(1, **THIN, **options).eval()
    model.head.register_forward_hook(spot)
    for size in ((65, 57), (60, 50), (64, 64)):
        logits = model(torch.zeros(1, 3, *size)).logits[0, 0]
        assert logits.argmax() == 24 * size[1] + 32
        assert logits[24].nonzero().flatten().tolist() == list(range(25, 40))


def test_sizes_of_the_release_at_321_pixels() -> None:
    with torch.device("meta"):
        model = deeplabv1(21)
        features = model.encoder(torch.zeros(1, 3, 321, 321))
        assert [feature.shape[-1] for feature in features] == [161, 81, 41, 41, 41]
        assert model.head(features[-1]).shape == (1, 21, 41, 41)


@pytest.mark.parametrize("head", HEADS)
def test_fields_of_view_of_the_paper(head: str) -> None:
    with torch.device("meta"):
        model = deeplabv1(21, head=head)
    fc6 = next(layer for layer in model.head.modules() if isinstance(layer, nn.Conv2d))
    assert field_of_view(fc6.kernel_size[0], fc6.dilation[0]) == FIELDS_OF_VIEW[head]


@torch.no_grad()
def test_holes_compute_what_vgg16_computes_at_its_own_positions() -> None:
    """VGG16 with its poolings, its fully connected layers slid over pool5, against the net with holes."""
    model = deeplabv1(3, head="7x7", pooling="2x2", **THIN).eval()
    plain = vgg_layers("vgg16", width=1 / 16)
    plain.load_state_dict(dict(zip(plain.state_dict(), model.encoder.state_dict().values(), strict=True)))
    fc6, _, _, fc7, _, _, fc8 = model.head
    images = torch.randn(1, 3, 224, 288)
    hidden = F.conv2d(plain(images), fc6.weight, fc6.bias, padding=3).relu()
    expected = fc8(fc7(hidden).relu())
    assert expected.shape[-2:] == (7, 9)
    scores = model.head(model.encoder(images)[-1])
    torch.testing.assert_close(scores[..., 2::4, 2::4], expected, atol=1e-5, rtol=1e-5)
    # the middle position sees exactly the classifier's 7 x 7
    classifier = fc6.weight.flatten(1) @ plain(images)[..., :, 1:8].flatten() + fc6.bias
    torch.testing.assert_close(hidden[0, :, 3, 4], classifier.relu(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_joined_features_scored_once_are_branches_scored_and_added() -> None:
    """The paper joins the branches' features with the last layer's at stride 8; then scores are interpolated."""
    model = deeplabv1(2, **THIN, multi_scale=True, multi_scale_channels=8).eval()
    for branch in model.side_heads:
        nn.init.normal_(branch[-1].weight)
    images = torch.randn(1, 3, 33, 41)
    features = model.encoder(images)
    # the release's strides: 8 on the image, 4, 2, 1 and 1 on pool1 to pool4
    assert [branch[0].stride for branch in model.side_heads] == [(n, n) for n in (8, 4, 2, 1, 1)]
    joined = [branch[:-1](feature) for branch, feature in zip(model.side_heads, [images, *features], strict=False)]
    average, head = model.head
    joined.append(head[:-1](average(features[-1])))
    classifiers = [*(branch[-1] for branch in model.side_heads), head[-1]]
    weight = torch.cat([classifier.weight for classifier in classifiers], dim=1)
    assert weight.shape[1] == 5 * 8 + 32
    scores = F.conv2d(torch.cat(joined, dim=1), weight, head[-1].bias)
    assert scores.shape == (1, 2, 5, 6)
    expected = F.interpolate(scores, size=(33, 41), mode="bilinear", align_corners=True)
    torch.testing.assert_close(model(images).logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_branches_begin_without_a_say() -> None:
    model = deeplabv1(2, **THIN, multi_scale=True).eval()
    alone = DeepLab(model.encoder, model.head, num_classes=2).eval()
    images = torch.randn(1, 3, 20, 30)
    assert torch.equal(model(images).logits, alone(images).logits)


def test_decimation_keeps_evenly_spaced_taps_and_channels() -> None:
    weights = {
        "classifier.0.weight": torch.arange(49.0).repeat(4096, 1),
        "classifier.3.weight": torch.arange(4096.0).repeat(4096, 1),
        "classifier.0.bias": torch.arange(4096.0),
        "classifier.3.bias": torch.arange(4096.0),
    }
    thinned = decimate_classifier(weights, 3, 1024)
    assert thinned["classifier.0.weight"].shape == (1024, 1, 3, 3)
    assert thinned["classifier.0.weight"][5, 0].tolist() == [[0, 3, 6], [21, 24, 27], [42, 45, 48]]
    assert thinned["classifier.3.weight"][0, :3].tolist() == thinned["classifier.0.bias"][:3].tolist() == [0, 4, 8]
    assert decimate_classifier(weights, 4, 4096)["classifier.0.weight"][0, 0, 0].tolist() == [0, 2, 4, 6]
    whole = decimate_classifier(weights, 7, 4096)
    assert torch.equal(whole["classifier.0.weight"].flatten(1), weights["classifier.0.weight"])


def test_pretrained_weights_reach_trunk_and_head(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {f"features.{name}": torch.full_like(value, 3) for name, value in vgg_layers("vgg16").state_dict().items()}
    state["classifier.0.weight"] = torch.full((1, 1), 6.0).expand(4096, 25088)
    state["classifier.3.weight"] = torch.full((1, 1), 7.0).expand(4096, 4096)
    state["classifier.0.bias"] = state["classifier.3.bias"] = torch.zeros(4096)
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, progress: state)
    model = deeplabv1(2, pretrained=True, in_channels=4)
    assert model.encoder.stages[0][0].weight.shape[1] == 4
    assert model.encoder.stages[4][2].weight.unique().item() == 3
    assert [model.head[1][place].weight.unique().item() for place in (0, 3)] == [6, 7]
    assert model.head[1][-1].weight.std() > 0


def test_errors_say_what_exists() -> None:
    with pytest.raises(UnknownNameError, match=r"head must be a known name; got 'largefow'\. Did you mean 'largefov'"):
        deeplabv1(2, head="largefow")
    with pytest.raises(ArgumentError, match=r"pooling must be '3x3' with multi_scale; got '2x2'\. Only then are all"):
        deeplabv1(2, pooling="2x2", multi_scale=True)
    with pytest.raises(ArgumentError, match="pretrained must be False unless width is 1"):
        deeplabv1(2, width=0.5, pretrained=True)
    with pytest.raises(ArgumentError, match="fc_channels must be a divisor of 4096 with pretrained weights"):
        deeplabv1(2, fc_channels=1000, pretrained=True)
    with pytest.raises(ArgumentError, match="fc_channels must be at least 1; got 0"):
        deeplabv1(2, fc_channels=0)

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models._api import WeightsEnum
from torchvision.models._utils import IntermediateLayerGetter

from delineate.errors import UnknownNameError
from delineate.models.encoders.torchvision_encoder import dilate, torchvision_encoder


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What torchvision would download: the state of a model made on the spot."""

    def serve(model: nn.Module) -> nn.Module:
        monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: model.state_dict())
        return model

    return serve


@pytest.mark.parametrize("name", ["vgg11", "vgg16_bn", "alexnet", "googlenet", "resnet18", "resnet50"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.no_grad()
def test_features_have_the_promised_channels_and_strides(name: str, output_stride: int) -> None:
    encoder = torchvision_encoder(name, in_channels=4, output_stride=output_stride).eval()
    assert encoder.strides[-1] == output_stride
    features = encoder(torch.randn(1, 4, 32, 64))
    expected = [(1, c, 32 // s, 64 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(feature.shape) for feature in features] == expected


@torch.no_grad()
def test_vgg_is_torchvisions(downloads: Any) -> None:
    layout = [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]
    reference = downloads(nn.ModuleDict({"features": models.vgg.make_layers(layout)}))["features"]
    encoder = torchvision_encoder("vgg11", pretrained=True)
    images = torch.randn(1, 3, 64, 64)
    features = encoder(images)
    assert torch.equal(features[-1], reference(images))
    assert torch.equal(features[0], reference[:2](images))
    # the published trunk
    assert sum(p.numel() for p in torchvision_encoder("vgg16").parameters()) == 14_714_688


@torch.no_grad()
def test_resnet_is_torchvisions_dilated_or_not(downloads: Any) -> None:
    reference = models.resnet50(replace_stride_with_dilation=[False, True, True])
    downloads(reference)
    encoder = torchvision_encoder("resnet50", output_stride=8, pretrained=True).eval()
    layers = IntermediateLayerGetter(
        reference, {"relu": "0", "layer1": "1", "layer2": "2", "layer3": "3", "layer4": "4"}
    )
    images = torch.randn(1, 3, 64, 64)
    expected = list(layers.eval()(images).values())
    for feature, wanted in zip(encoder(images), expected, strict=True):
        torch.testing.assert_close(feature, wanted, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(("output_stride", "step"), [(16, 2), (8, 4)])
@torch.no_grad()
def test_dilation_computes_the_same_feature_more_densely(output_stride: int, step: int) -> None:
    dense = torchvision_encoder("resnet18", output_stride=output_stride).eval()
    sparse = torchvision_encoder("resnet18").eval()
    dense.load_state_dict(sparse.state_dict())
    images = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(dense(images)[-1][..., ::step, ::step], sparse(images)[-1], atol=1e-4, rtol=1e-4)


def test_vgg_loses_its_poolings_and_spreads_its_kernels() -> None:
    encoder = torchvision_encoder("vgg16", output_stride=8)
    assert (encoder.channels, encoder.strides) == ((64, 128, 256, 512, 512), (1, 2, 4, 8, 8))
    assert [layer.dilation for layer in encoder.stages[4] if isinstance(layer, nn.Conv2d)] == [(2, 2)] * 3
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in encoder.stages[4])


def test_the_strided_convolution_keeps_the_old_rate() -> None:
    stage = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 1, 3))
    dilate(stage, rate=4, rate_before=2)
    assert [(layer.stride, layer.dilation, layer.padding) for layer in stage] == [
        ((1, 1), (2, 2), (2, 2)),
        ((1, 1), (4, 4), (4, 4)),
    ]


@torch.no_grad()
def test_googlenet_takes_imagenet_statistics(downloads: Any) -> None:
    """Pixels -1..1 went into the published weights; torchvision converts the input, and we the first layer."""
    reference = models.GoogLeNet(aux_logits=True, transform_input=True, init_weights=False)
    reference.conv1.bn.running_mean.normal_()
    downloads(reference)
    encoder = torchvision_encoder("googlenet", pretrained=True).eval()
    images = torch.randn(1, 3, 64, 64)
    expected = reference.eval().conv1(reference._transform_input(images))
    torch.testing.assert_close(encoder(images)[0][..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_alexnet_has_torchvisions_weights(downloads: Any) -> None:
    state = {}
    for place, shape in {
        0: (64, 3, 11, 11),
        3: (192, 64, 5, 5),
        6: (384, 192, 3, 3),
        8: (256, 384, 3, 3),
        10: (256, 256, 3, 3),
    }.items():
        state |= {
            f"features.{place}.weight": torch.full(shape, float(place)),
            f"features.{place}.bias": torch.zeros(shape[0]),
        }
    holder = nn.Module()
    holder.state_dict = lambda: state  # type: ignore[method-assign]
    downloads(holder)
    encoder = torchvision_encoder("alexnet", pretrained=True)
    convolutions = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert [float(layer.weight.mean()) for layer in convolutions] == [0, 3, 6, 8, 10]


@torch.no_grad()
def test_pretrained_first_layers_see_grey_as_three_equal_channels(downloads: Any) -> None:
    downloads(models.resnet18())
    colour, grey = (torchvision_encoder("resnet18", in_channels=c, pretrained=True).eval() for c in (3, 1))
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(grey(image)[0], colour(image.expand(-1, 3, -1, -1))[0], atol=1e-5, rtol=1e-4)


def test_gradients_flow_to_the_first_layer() -> None:
    encoder = torchvision_encoder("alexnet", output_stride=8)
    encoder(torch.randn(1, 3, 64, 64))[-1].square().mean().backward()
    weight: Tensor = encoder.stages[0][0].weight
    assert weight.grad is not None
    assert weight.grad.any()


def test_an_unknown_name_answers_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'googlenet'"):
        torchvision_encoder("google_net")

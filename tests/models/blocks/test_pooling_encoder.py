from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg16_bn

from delineate.models.blocks.pooling_encoder import PoolingEncoder, convolution_with_bias, load_vgg16, vgg16_encoder


def test_each_stage_is_pooled_and_remembered() -> None:
    images = torch.randn(1, 2, 5, 7)
    first, second = PoolingEncoder([nn.Identity(), nn.ReLU()])(images)
    assert torch.equal(first.pooled, F.max_pool2d(images, 2, ceil_mode=True))
    assert torch.equal(images.flatten(2).gather(2, first.indices.flatten(2)), first.pooled.flatten(2))
    assert (first.size, second.size) == ((5, 7), (3, 4))
    assert torch.equal(second.pooled, F.max_pool2d(first.pooled.relu(), 2, ceil_mode=True))


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_weights_keep_the_variance_either_way(layer: type) -> None:
    convolution, norm, activation = convolution_with_bias(16, 64, 5, layer=layer)
    assert isinstance(convolution, layer)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(activation, nn.ReLU)
    assert not convolution.bias.any()
    assert convolution.weight.std().item() == pytest.approx((2 / (16 * 25)) ** 0.5, rel=0.03)
    features = torch.randn(4, 16, 24, 24)
    inside = convolution(features)[:, :, 4:-4, 4:-4]
    assert inside.var().item() == pytest.approx(2, rel=0.15)  # which ReLU halves
    assert len(convolution_with_bias(1, 1, activation=False)) == 2


@torch.no_grad()
def test_vgg16_with_torchvision_weights_equals_torchvision() -> None:
    reference = vgg16_bn(num_classes=1).features
    reference(torch.randn(2, 3, 64, 64))  # gives batch norm something to tell apart
    reference.eval()
    published = {f"features.{name}": value for name, value in reference.state_dict().items()}
    # as in the published file
    published = {name: value for name, value in published.items() if not name.endswith("num_batches_tracked")}
    published["classifier.0.weight"] = torch.zeros(2, 2)
    encoder = vgg16_encoder(3, (64, 128, 256, 512, 512))
    load_vgg16(encoder, published, in_channels=3)
    images = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(encoder.eval()(images)[-1].pooled, reference(images))
    load_vgg16(encoder, published, in_channels=3)
    assert encoder[0][0][0].in_channels == 3


@torch.no_grad()
def test_the_first_layer_takes_other_channels() -> None:
    encoder = vgg16_encoder(3, (64, 128, 256, 512, 512))
    weights = {f"features.{name}": value for name, value in encoder.state_dict().items()}
    expected = weights["features.0.0.0.weight"].sum(1, keepdim=True)
    load_vgg16(encoder, weights, in_channels=1)
    torch.testing.assert_close(encoder[0][0][0].weight, expected)

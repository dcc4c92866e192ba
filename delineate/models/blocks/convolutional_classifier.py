"""VGG's fully connected layers as convolutions, which slide over an image of any size."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from delineate.checks import require
from delineate.models.blocks.initialisation import initialise_relu_network

_CLASSIFIER_KERNEL, _CLASSIFIER_CHANNELS = 7, 4096  # of VGG16's fc6


def convolutional_classifier(
    in_channels: int,
    kernel_size: int,
    channels: int,
    weights: Mapping[str, Tensor] | None = None,
    *,
    dilation: int = 1,
    padding: int = 0,
) -> nn.Sequential:
    """The fully connected layers fc6 and fc7, each followed by ReLU and dropout, as convolutions.

    Args:
        in_channels: of pool5.
        kernel_size: of pool5 where the classifier was trained.
        channels: of fc6 and fc7.
        weights: a torchvision VGG's, whose linear layers have these sizes; drawn at random when None.
        dilation: of fc6, for a pool5 that is finer than the one the classifier was trained on.
        padding: of fc6.

    Example:
        >>> fc6, *_ = convolutional_classifier(512, 7, 1024, dilation=4, padding=12)
        >>> fc6.weight.shape, fc6.dilation
        (torch.Size([1024, 512, 7, 7]), (4, 4))
    """
    fc6, fc7 = (
        nn.Conv2d(in_channels, channels, kernel_size, dilation=dilation, padding=padding),
        nn.Conv2d(channels, channels, 1),
    )
    layers = nn.Sequential(fc6, nn.ReLU(inplace=True), nn.Dropout(), fc7, nn.ReLU(inplace=True), nn.Dropout())
    if weights is None:
        initialise_relu_network(layers)
        return layers
    for layer, name in ((fc6, "classifier.0"), (fc7, "classifier.3")):
        # a row of a linear layer is a kernel that covers the whole feature
        matrix = weights[f"{name}.weight"].reshape(layer.weight.shape)
        layer.load_state_dict({"weight": matrix, "bias": weights[f"{name}.bias"]})
    return layers


def decimate_classifier(weights: Mapping[str, Tensor], kernel_size: int, channels: int) -> dict[str, Tensor]:
    """VGG16's fc6 and fc7 with evenly spaced taps and channels left out.

    Source: Chen et al., ICLR 2015, section 3.2: "simple decimation" of fc6 from 7x7 to 4x4 or 3x3.
    Differs: of 4096 channels every fourth is kept for 1024; the paper does not say which.

    Args:
        weights: a torchvision VGG16's.
        kernel_size: of fc6, at most 7.
        channels: of fc6 and fc7; a divisor of 4096.

    Returns:
        "classifier.0" and "classifier.3", weights and biases.
    """
    taps = torch.linspace(0, _CLASSIFIER_KERNEL - 1, kernel_size).round().long()
    step = _CLASSIFIER_CHANNELS // channels
    fc6 = weights["classifier.0.weight"].unflatten(1, (-1, _CLASSIFIER_KERNEL, _CLASSIFIER_KERNEL))
    return {
        "classifier.0.weight": fc6[::step][:, :, taps][..., taps],
        "classifier.0.bias": weights["classifier.0.bias"][::step],
        "classifier.3.weight": weights["classifier.3.weight"][::step, ::step],
        "classifier.3.bias": weights["classifier.3.bias"][::step],
    }


def vgg16_weights(*, pretrained: bool, width: float | int, fc_channels: int) -> Mapping[str, Tensor] | None:
    """The ImageNet weights of torchvision's VGG16, classifier included, or None.

    Raises:
        ArgumentError: when they are asked for and do not fit these widths.
    """
    if not pretrained:
        return None
    require(width == 1, "pretrained", "be False unless width is 1", pretrained)
    require(
        1 <= fc_channels <= _CLASSIFIER_CHANNELS and _CLASSIFIER_CHANNELS % fc_channels == 0,
        "fc_channels",
        "be a divisor of 4096 with pretrained weights, which are thinned out evenly",
        fc_channels,
    )
    weights: Mapping[str, Tensor] = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
    return weights

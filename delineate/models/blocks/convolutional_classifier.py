"""VGG's fully connected layers as convolutions, which slide over an image of any size."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from delineate.models.blocks.initialisation import initialise_relu_network


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

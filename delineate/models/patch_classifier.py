"""A classifier of the centre pixel of a window, slid over the image: the network that won ISBI 2012.

Source: Ciresan, Giusti, Gambardella, Schmidhuber, "Deep Neural Networks Segment Neuronal Membranes in Electron
Microscopy Images", NIPS 2012 (network N4). Every pixel at once: Giusti, Ciresan, Masci, Gambardella, Schmidhuber, "Fast
Image Scanning with Deep Max-Pooling Convolutional Neural Networks", ICIP 2013 (arXiv:1302.1700); training that way:
Masci et al., "A Fast Learning Algorithm for Image Segmentation with Max-Pooling Convolutional Networks", ICIP 2013
(arXiv:1302.1690).
Differs: dilated layers take the place of fragments (interleaved small maps); the values are the same. The activation is
that of the authors' earlier networks (Ciresan et al., "Flexible, High Performance Convolutional Neural Networks for
Image Classification", IJCAI 2011), 1.7159 tanh(2 x / 3). Weights start after LeCun et al. 1998, not uniform within
0.05, which hardly lets a signal through. Left out is what surrounds the network: foveation and non-uniform sampling of
windows, calibration of the outputs, the mean of four networks, and the median filter.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.ops.mirroring import mirror_pad
from delineate.registry import unknown_name
from delineate.structures.outputs import SemanticOutputs

WINDOW = 95  # pixels, odd: the one in the middle is classified
ACTIVATIONS = ("scaled_tanh", "relu")


class ScaledTanh(nn.Module):
    """1.7159 tanh(2 x / 3), which is 1 at 1 and -1 at -1.

    Source: LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998, section 4.4.

    Example:
        >>> round(float(ScaledTanh()(torch.ones(1))), 4)
        1.0
    """

    def forward(self, features: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The activations, within 1.7159 of 0."""
        return 1.7159 * torch.tanh(2 / 3 * features)


class WindowClassifier(nn.Sequential):
    """Windows of 95 x 95 pixels to logits: convolutions and poolings to 3 x 3, and two fully connected layers.

    Args:
        num_classes: of the logits.
        in_channels: of the windows.
        channels: of each convolution.
        hidden_channels: of the first fully connected layer.
        activation: "scaled_tanh" or "relu".
    """

    features: nn.Sequential
    classifier: nn.Sequential

    def __init__(
        self, num_classes: int, *, in_channels: int, channels: int, hidden_channels: int, activation: str
    ) -> None:
        def act() -> nn.Module:
            return ScaledTanh() if activation == "scaled_tanh" else nn.ReLU(inplace=True)

        layers: list[nn.Module] = []
        before = in_channels
        for kernel_size in (4, 5, 4, 4):  # 95 -> 92, 46 -> 42, 21 -> 18, 9 -> 6, then pooled to 3
            layers += [nn.Conv2d(before, channels, kernel_size), act(), nn.MaxPool2d(2)]
            before = channels
        classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * 9, hidden_channels), act(), nn.Linear(hidden_channels, num_classes)
        )
        super().__init__(OrderedDict(features=nn.Sequential(*layers), classifier=classifier))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # variance 1 / fan in, which the scaled tanh keeps; twice as much for ReLU, which loses half
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu" if activation == "relu" else "linear")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def everywhere(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K h w"]:
        """Logits of every pixel with a window around it: 94 rows and columns fewer than the images have.

        Each pooling keeps its stride of 1, and all behind it looks twice as far: a weight meets the very pixels it
        meets in the window.
        """
        features, dilation = images, 1
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                features = F.conv2d(features, layer.weight, layer.bias, dilation=dilation)
            elif isinstance(layer, nn.MaxPool2d):
                features = F.max_pool2d(features, 2, stride=1, dilation=dilation)
                dilation *= 2
            else:
                features = layer(features)
        _, first, activation, last = self.classifier
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        # a row of a linear layer is a kernel that covers the flattened 3 x 3 pixels
        hidden = activation(F.conv2d(features, first.weight.unflatten(1, (-1, 3, 3)), first.bias, dilation=dilation))
        return F.conv2d(hidden, last.weight[:, :, None, None], last.bias)


class PatchClassifier(nn.Module):
    """A window classifier at every pixel of an image, mirrored at its borders.

    To train as the paper does, draw windows, as many of each class, and give :meth:`classify` their centres' labels.
    Training on images learns the same function from all of their pixels at once.

    Args:
        window_classifier: windows to logits.
        num_classes: of the logits.
        in_channels: of the images.
    """

    def __init__(self, window_classifier: WindowClassifier, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.window_classifier = window_classifier
        self.num_classes = num_classes
        self.in_channels = in_channels

    def classify(self, windows: Float[Tensor, "N C h w"]) -> Float[Tensor, "N K"]:
        """Logits of the centre pixels of windows.

        Args:
            windows: 95 x 95 pixels each; the pixel at row and column 47 is classified.

        Raises:
            ArgumentError: when the windows have another size.

        Example:
            >>> model = patch_classifier(2, base_channels=2)
            >>> tuple(model.classify(torch.zeros(5, 1, 95, 95)).shape)
            (5, 2)
        """
        require(
            windows.shape[-2:] == (WINDOW, WINDOW),
            "windows",
            f"be {WINDOW} x {WINDOW} pixels",
            tuple(windows.shape[-2:]),
            "Call the model itself for images of any size.",
        )
        logits: Tensor = self.window_classifier(windows)
        return logits

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """At every pixel the logits of the window around it, whose part outside the image is a mirror image."""
        margin = WINDOW // 2
        return SemanticOutputs(self.window_classifier.everywhere(mirror_pad(images, (margin,) * 4)))


def patch_classifier(
    num_classes: int,
    *,
    in_channels: int = 1,
    base_channels: int = 48,
    hidden_channels: int = 200,
    activation: str = "scaled_tanh",
) -> PatchClassifier:
    """The patch classifier N4: 219,290 parameters from one channel to two classes, 121.5 MMAC a window.

    A window needs even numbers of rows and columns before each pooling; hence its 95 pixels, which are no option.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        base_channels: of each convolution.
        hidden_channels: of the first fully connected layer.
        activation: "scaled_tanh", or "relu", which learns faster.

    Raises:
        UnknownNameError: on an unknown activation.
        ArgumentError: when a width is below 1.

    Example:
        >>> model = patch_classifier(2)
        >>> sum(parameter.numel() for parameter in model.parameters())
        219290
    """
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    for name, value in (("base_channels", base_channels), ("hidden_channels", hidden_channels)):
        require(value >= 1, name, "be at least 1", value)
    classifier = WindowClassifier(
        num_classes,
        in_channels=in_channels,
        channels=base_channels,
        hidden_channels=hidden_channels,
        activation=activation,
    )
    return PatchClassifier(classifier, num_classes=num_classes, in_channels=in_channels)

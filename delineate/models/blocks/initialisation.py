"""Starting weights of what is trained from scratch."""

from __future__ import annotations

from torch import nn


def initialise_relu_network(module: nn.Module) -> None:
    """Draw every convolution of ``module`` so that ReLU layers keep the variance; biases start at 0.

    Source: He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 10 (fan in, uniform).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_classifier(layer: nn.Conv2d) -> None:
    """Draw a last layer, which no ReLU follows.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010, eq. 16.
    """
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)

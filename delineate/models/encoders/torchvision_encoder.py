"""Encoders from torchvision: VGG, AlexNet, GoogLeNet and ResNets, cut into stages at their strides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vgg import cfgs as vgg_layouts
from torchvision.models.vgg import make_layers

from delineate.models.encoders.encoder import Encoder
from delineate.registry import unknown_name

VGG_LAYOUTS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
TORCHVISION_ENCODERS = (
    *VGG_LAYOUTS,
    *(f"{name}_bn" for name in VGG_LAYOUTS),
    "alexnet",
    "googlenet",
    *RESNETS,
)


class StagedEncoder(Encoder):
    """A chain of stages; each stage's output is a feature.

    Args:
        stages: modules to apply one after another.
        channels: of each stage's output.
        strides: of each stage's output, in input pixels.
        in_channels: of the images.
        rounds_up: whether the stages take images of every size.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        in_channels: int = 3,
        rounds_up: bool = False,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(channels)
        self.strides = tuple(strides)
        self.in_channels = in_channels
        self.rounds_up = rounds_up

    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """Every stage's output."""
        features = [images]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


def torchvision_encoder(
    name: str, *, in_channels: int = 3, output_stride: int = 32, pretrained: bool = False
) -> StagedEncoder:
    """A torchvision classifier without its classifier.

    VGG's features are those before each pooling and after the last; the others' lie at strides 2 (AlexNet: 4) to 32.

    Differs: AlexNet's convolution and poolings are padded so that features measure the input's size divided by their
    stride (torchvision's shrink to nothing below 63 pixels); weights are the same.

    Args:
        name: one of ``TORCHVISION_ENCODERS``.
        in_channels: channels of the images; pretrained first layers are summed or repeated as timm does.
        output_stride: 8 and 16 replace strides and poolings from there on by dilation.
        pretrained: whether to download torchvision's default ImageNet weights.

    Raises:
        UnknownNameError: on a name that is not among them.

    Example:
        >>> torchvision_encoder("vgg16", output_stride=8).strides
        (1, 2, 4, 8, 8)
    """
    if name not in TORCHVISION_ENCODERS:
        raise unknown_name("encoder", name, TORCHVISION_ENCODERS)
    weights = models.get_model_weights(name).DEFAULT.get_state_dict(progress=False) if pretrained else None
    if name.startswith("vgg"):
        stages, channels, strides = _vgg(name, weights)
    elif name == "alexnet":
        stages, channels, strides = _alexnet(weights)
    elif name == "googlenet":
        stages, channels, strides = _googlenet(weights)
    else:
        stages, channels, strides = _resnet(name, weights)
    adapt_first_convolution(stages[0], in_channels, pretrained=pretrained)
    for stage, stride, before in zip(stages[1:], strides[1:], strides, strict=False):
        if stride > output_stride:
            dilate(stage, rate=stride // output_stride, rate_before=max(1, before // output_stride))
    kept = [place for place, stage in enumerate(stages) if next(stage.parameters(), None) is not None]
    if strides[-1] <= output_stride:
        kept = list(range(len(stages)))
    return StagedEncoder(
        [stages[place] for place in kept],
        channels=[channels[place] for place in kept],
        strides=[min(strides[place], output_stride) for place in kept],
        in_channels=in_channels,
        rounds_up=name in RESNETS,
    )


def adapt_first_convolution(module: nn.Module, in_channels: int, *, pretrained: bool) -> None:
    """Make the first convolution of ``module`` take ``in_channels`` in place of three.

    Pretrained weights are summed for one channel, and repeated and rescaled for others; random ones are drawn anew.
    """
    convolution = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    if convolution.in_channels == in_channels:
        return
    weight = convolution.weight
    if pretrained:
        adapted = adapt_input_conv(in_channels, weight.detach())
    else:
        adapted = torch.empty(len(weight), in_channels, *weight.shape[2:], device=weight.device, dtype=weight.dtype)
        nn.init.kaiming_normal_(adapted, mode="fan_out", nonlinearity="relu")
    convolution.in_channels = in_channels
    convolution.weight = nn.Parameter(adapted)


def dilate(stage: nn.Module, *, rate: int, rate_before: int = 1) -> None:
    """Take the strides out of ``stage`` and spread its kernels, so that each weight still sees its pixels.

    Poolings with a stride vanish; those without (Inception's) stay as they are. The strided convolution itself, and
    what lies before it, keep the rate of the stage before; everything after it gets ``rate``.

    Source: Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", ICLR 2015,
    section 3.1 (the hole algorithm); the same as torchvision's ``replace_stride_with_dilation``.
    """
    current = rate_before
    for name, layer in list(stage.named_modules()):
        if isinstance(layer, nn.MaxPool2d) and layer.stride in (2, (2, 2)):
            parent, _, child = name.rpartition(".")
            setattr(stage.get_submodule(parent), child, nn.Identity())
            current = rate
        elif isinstance(layer, nn.Conv2d):
            strided, spatial = layer.stride != (1, 1), layer.kernel_size != (1, 1)
            layer.stride = (1, 1)
            layer.dilation = (current, current)
            layer.padding = (current * (layer.kernel_size[0] // 2), current * (layer.kernel_size[1] // 2))
            if strided and spatial:
                current = rate


Stages = tuple[list[nn.Module], list[int], list[int]]
Weights = Mapping[str, Tensor]


def vgg_layers(name: str, weights: Weights | None = None, *, width: float = 1.0) -> nn.Sequential:
    """The convolutional part of torchvision's ``name``, with its indices.

    Args:
        name: "vgg11" to "vgg19", with or without "_bn".
        weights: torchvision's, or None to draw them as torchvision does.
        width: every layer has this share of the published channels.
    """
    layout = vgg_layouts[VGG_LAYOUTS[name.removesuffix("_bn")]]
    scaled = [entry if isinstance(entry, str) else max(1, round(entry * width)) for entry in layout]
    layers: nn.Sequential = make_layers(scaled, name.endswith("_bn"))
    if weights is not None:
        layers.load_state_dict(_below(weights, "features."))
        return layers
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return layers


def _below(weights: Weights, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _vgg(name: str, weights: Weights | None) -> Stages:
    layers = vgg_layers(name, weights)
    pools = [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    stages = [layers[start:end] for start, end in zip([0, *pools], [*pools, len(layers)], strict=True)]
    return list(stages), [64, 128, 256, 512, 512, 512], [1, 2, 4, 8, 16, 32]


def _alexnet(weights: Weights | None) -> Stages:
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )
    if weights is not None:
        layers.load_state_dict(_below(weights, "features."))
    return [layers[:2], layers[2:5], layers[5:12], layers[12:]], [64, 192, 256, 256], [4, 8, 16, 32]


def _googlenet(weights: Weights | None) -> Stages:
    net = models.GoogLeNet(aux_logits=False, init_weights=weights is None)
    if weights is not None:
        net.load_state_dict({key: value for key, value in weights.items() if not key.startswith("aux")})
        _accept_imagenet_statistics(net.conv1.conv, net.conv1.bn)
    stages = [
        net.conv1,
        nn.Sequential(net.maxpool1, net.conv2, net.conv3),
        nn.Sequential(net.maxpool2, net.inception3a, net.inception3b),
        nn.Sequential(
            net.maxpool3, net.inception4a, net.inception4b, net.inception4c, net.inception4d, net.inception4e
        ),
        nn.Sequential(net.maxpool4, net.inception5a, net.inception5b),
    ]
    return stages, [64, 192, 480, 832, 1024], [2, 4, 8, 16, 32]


@torch.no_grad()
def _accept_imagenet_statistics(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Build torchvision's ``transform_input`` into the first layer.

    GoogLeNet's weights expect pixels from -1 to 1, and we normalise with ImageNet's mean and deviation everywhere. The
    scale goes into the weights, the shift into the batch norm's mean; only the padded border sees a difference.
    """
    std, mean = torch.tensor([0.229, 0.224, 0.225]), torch.tensor([0.485, 0.456, 0.406])
    shift = torch.einsum("ochw,c->o", convolution.weight, (mean - 0.5) / 0.5)
    norm.get_buffer("running_mean").sub_(shift)
    convolution.weight.mul_((std / 0.5)[:, None, None])


def _resnet(name: str, weights: Weights | None) -> Stages:
    net = models.get_model(name)
    if weights is not None:
        net.load_state_dict(weights)
    stages = [
        nn.Sequential(net.conv1, net.bn1, net.relu),
        nn.Sequential(net.maxpool, net.layer1),
        net.layer2,
        net.layer3,
        net.layer4,
    ]
    expansion = net.layer1[0].expansion
    return stages, [64, *(expansion * width for width in (64, 128, 256, 512))], [2, 4, 8, 16, 32]

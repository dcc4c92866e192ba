"""ReSeg: recurrent networks that sweep rows and columns, on the first layers of VGG16.

Source: Visin, Ciccone, Romero, Kastner, Cho, Bengio, Matteucci, Courville, "ReSeg: A Recurrent Neural Network-based
Model for Semantic Segmentation", CVPR Workshops 2016 (arXiv:1511.07053); sizes from the configuration for CamVid of its
release, fvisin/reseg (``evaluate_camvid_with_cb.py``): conv3_3, two ReNet layers of 100 units, twice 50 maps upwards.
Differs: columns are read before rows, as the paper says and its release does not. PyTorch's recurrent unit has a second
bias for each gate. Recurrent matrices start orthogonal, ReLU layers as He et al., ICCV 2015, where the release draws
all after Glorot. RGB input with ImageNet statistics replaces BGR with subtracted means. The VGG part is trained too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torchvision import models

from delineate.checks import require
from delineate.models.blocks.initialisation import initialise_classifier
from delineate.models.blocks.recurrent_sweep import RecurrentSweep
from delineate.models.encoders.torchvision_encoder import VGG_LAYOUTS, adapt_first_convolution, vgg_layers
from delineate.ops.padding import crop_to_size, pad_to_multiple
from delineate.registry import unknown_name
from delineate.structures.outputs import SemanticOutputs

ENCODERS = (*VGG_LAYOUTS, *(f"{name}_bn" for name in VGG_LAYOUTS))
ENCODER_STRIDE = 4  # of conv3_3: two poolings


class ReSeg(nn.Module):
    """Convolutions, sweeps, transposed convolutions back to the input's resolution, and a 1x1 classifier.

    Args:
        encoder: images to one feature.
        sweeps: that feature to one of a coarser or equal stride.
        upsample: back to stride 1.
        classify: to one logit a class.
        stride: input pixels between neighbours after the sweeps.
        in_channels: of the images.
    """

    def __init__(
        self,
        encoder: nn.Module,
        sweeps: nn.Sequential,
        upsample: nn.Sequential,
        classify: nn.Conv2d,
        *,
        stride: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.sweeps = sweeps
        self.upsample = upsample
        self.classify = classify
        self.stride = stride
        self.in_channels = in_channels
        self.num_classes = classify.out_channels

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of the images, which may be any from 1 x 1."""
        features = self.sweeps(self.encoder(pad_to_multiple(images, self.stride)))
        return SemanticOutputs(crop_to_size(self.classify(self.upsample(features)), images.shape[-2:]))


def _first_layers(name: str, *, in_channels: int, width: float, pretrained: bool) -> nn.Sequential:
    """VGG to the last ReLU before its third pooling."""
    weights = models.get_model_weights(name).DEFAULT.get_state_dict(progress=False) if pretrained else None
    layers = vgg_layers(name, weights, width=width)
    poolings = [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    kept = layers[: poolings[2]]
    adapt_first_convolution(kept, in_channels, pretrained=pretrained)
    return kept


def reseg(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "vgg16",
    pretrained: bool = False,
    width: float = 1.0,
    sweep_channels: Sequence[int] = (100, 100),
    patch_sizes: Sequence[int] | None = None,
    upsample_channels: int = 50,
) -> ReSeg:
    """ReSeg: 2,544,549 parameters with 11 classes, 1,735,488 of them VGG16's up to conv3_3.

    Counts by arithmetic on the released configuration; the paper states none.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: "vgg11" to "vgg19", with or without "_bn"; its layers before the third pooling are used.
        pretrained: whether those start from torchvision's ImageNet weights, which are downloaded.
        width: the encoder's layers have this share of their published channels.
        sweep_channels: units of each direction, one number for each ReNet layer.
        patch_sizes: pixels (2 for squares of 2 x 2) that are one step of each ReNet layer: 1 everywhere when None.
            Powers of 2; each doubling makes that layer's feature half the size and adds an upsampling behind.
        upsample_channels: of each transposed convolution.

    Raises:
        UnknownNameError: on an encoder that is no VGG.
        ArgumentError: on pretrained weights for another width, or patch sizes that do not fit the ReNet layers.

    Example:
        >>> model = reseg(11)
        >>> sum(parameter.numel() for parameter in model.parameters())
        2544549
    """
    if encoder not in ENCODERS:
        raise unknown_name("encoder", encoder, ENCODERS)
    require(width > 0, "width", "be above 0", width)
    require(not pretrained or width == 1, "pretrained", "be False unless width is 1", pretrained)
    require(len(sweep_channels) > 0, "sweep_channels", "name at least one ReNet layer", list(sweep_channels))
    patches = list(patch_sizes) if patch_sizes is not None else [1] * len(sweep_channels)
    require(
        len(patches) == len(sweep_channels) and all(size >= 1 and size & (size - 1) == 0 for size in patches),
        "patch_sizes",
        f"hold {len(sweep_channels)} powers of 2, one for each of sweep_channels",
        patches,
    )
    trunk = _first_layers(encoder, in_channels=in_channels, width=width, pretrained=pretrained)
    channels = next(layer.out_channels for layer in reversed(trunk) if isinstance(layer, nn.Conv2d))
    sweeps = nn.Sequential()
    for units, size in zip(sweep_channels, patches, strict=True):
        sweeps.append(RecurrentSweep(channels, units, patch_size=size))
        channels = 2 * units
    stride = ENCODER_STRIDE * math.prod(patches)
    upsample = nn.Sequential()
    while 2 ** (len(upsample) // 2) < stride:
        layer = nn.ConvTranspose2d(channels, upsample_channels, 2, stride=2)
        # each output pixel is reached by one weight of every channel, not by the whole kernel
        nn.init.normal_(layer.weight, std=(2 / channels) ** 0.5)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        upsample.extend([layer, nn.ReLU(inplace=True)])
        channels = upsample_channels
    classify = nn.Conv2d(channels, num_classes, 1)
    initialise_classifier(classify)
    return ReSeg(trunk, sweeps, upsample, classify, stride=stride, in_channels=in_channels)

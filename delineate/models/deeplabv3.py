"""DeepLab v3: atrous pyramid with image pooling, or a cascade of atrous blocks, on a ResNet with multi-grid.

Source: Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation",
arXiv:1706.05587, 2017; dropout and aligned corners from its released code, tensorflow/models.
Differs: the paper's ResNet strides in the last unit of a stage, timm's and torchvision's in the first, which changes no
count; at output stride 8 the first unit of the last stage but one therefore keeps rate 1, where the paper's has 2. The
paper trains at output stride 16 and evaluates at 8, here a model has one. Batch norm's averages keep 0.9 at a step, the
paper's 0.9997, which is for longer trainings. ``variant="torchvision"`` is torchvision's network: output stride 8
without multi-grid, a 3x3 convolution before the classifier, dropout 0.5, a second head in training, corners that are
not aligned; outputs agree with it under equal weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.aspp import ASPP
from delineate.models.blocks.fcn_head import FCNHead
from delineate.models.blocks.initialisation import initialise_relu_network
from delineate.models.context_segmenter import ContextSegmenter
from delineate.models.encoder_decoder import SegmentationHead
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import Encoder
from delineate.models.encoders.residual_units import dilation_of, residual_units, set_dilations
from delineate.models.torchvision_weights import checked_weights, load_coco_weights
from delineate.registry import unknown_name

VARIANTS = ("paper", "cascade", "torchvision")
UNITS = 3  # of a ResNet-50's last stage, for which the paper gives its multi-grids


class AtrousCascade(nn.Module):
    """Blocks shaped like a ResNet's last one behind it, each at twice the rate of the one before.

    Source: Chen et al., 2017, section 3.1: block5 to block7.
    Differs: every unit keeps its width, so none needs a projection; weights are drawn anew, as ImageNet has none for
    these blocks.

    Args:
        unit: the last unit of the ResNet, which the others are copies of.
        multi_grid: factor on the block's rate, one a unit.
        blocks: how many.
        rate: of ``unit`` without its factor.
    """

    def __init__(self, unit: nn.Module, multi_grid: Sequence[int], *, blocks: int, rate: int) -> None:
        super().__init__()
        chain = []
        for block in range(1, blocks + 1):
            units = [deepcopy(unit) for _ in multi_grid]
            set_dilations(units, [rate * 2**block * factor for factor in multi_grid])
            chain.append(nn.Sequential(*units))
        self.blocks = nn.Sequential(*chain)
        initialise_relu_network(self)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Features of the same size and width."""
        deeper: Tensor = self.blocks(features)
        return deeper


def deeplabv3(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "resnet50",
    pretrained: bool = False,
    weights: str | None = None,
    variant: str = "paper",
    output_stride: int | None = None,
    rates: Sequence[int] | None = None,
    multi_grid: Sequence[int] | None = None,
    cascade_blocks: int = 3,
    channels: int = 256,
    dropout: float | int | None = None,
    auxiliary: bool | None = None,
) -> ContextSegmenter:
    """DeepLab v3 on a ResNet; the pyramid also on any other encoder that can be dilated.

    With 21 classes, ``variant="torchvision"``: resnet50 42,004,074 parameters (39,638,869 without the second head),
    resnet101 60,996,202 (58,630,997).

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        weights: with ``variant="torchvision"``, "coco" downloads torchvision's weights of the whole network, for
            resnet50 and resnet101: trained on COCO with the 21 classes of
            :func:`~delineate.models.torchvision_weights.coco_class_names`. With another ``num_classes``, everything
            but the classifiers is taken; with other ``in_channels``, the first layer is summed or repeated.
        variant: "paper" is the pyramid, "cascade" the paper's other network, without pyramid, "torchvision" that
            library's.
        output_stride: of the encoder: 16 as the paper trains, 8 as it evaluates best and as torchvision trains; 16,
            and 8 for "torchvision", when None.
        rates: dilations of the pyramid's 3x3 branches; when None, 6, 12, 18, doubled at output stride 8 and halved
            at 32. The cascade has none.
        multi_grid: factors on the dilation of the last stage's units, one a unit; for the cascade, those of its blocks
            too. When None, the paper's (1, 2, 4), or (1, 2, 1) for the cascade, where a ResNet's last stage has three
            units; plain dilation elsewhere and for "torchvision".
        cascade_blocks: how many blocks follow the encoder's last; 3 in the paper.
        channels: of the pyramid's branches, and of torchvision's 3x3 convolution.
        dropout: after the pyramid; 0.1 in the released code, 0.5 in torchvision's.
        auxiliary: whether a second head learns from the last stage but one in training; when None, for "torchvision".

    Raises:
        UnknownNameError: on an unknown encoder, variant or weights.
        ArgumentError: on an output stride the encoder cannot have, a multi-grid that does not fit its last stage, a
            cascade on an encoder that is no ResNet, or weights that were not published for this network.

    Example:
        >>> model = deeplabv3(21, variant="torchvision", auxiliary=False)
        >>> sum(parameter.numel() for parameter in model.parameters())
        39638869
    """
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    checked_weights(weights, "deeplabv3", encoder)
    torchvision = variant == "torchvision"
    require(
        weights is None or torchvision,
        "weights",
        f"be None for variant '{variant}'",
        weights,
        "Those are torchvision's.",
    )
    if output_stride is None:
        output_stride = 8 if torchvision else 16
    backbone = create_encoder(
        encoder, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained and weights is None
    )
    units = residual_units(backbone)
    rate = dilation_of(units[-1]) if units else 1
    if multi_grid is None and len(units) == UNITS and not torchvision:
        multi_grid = (1, 2, 1) if variant == "cascade" else (1, 2, 4)
    if multi_grid is not None:
        _check_multi_grid(multi_grid, units, encoder)
        set_dilations(units, [rate * factor for factor in multi_grid])
    width = backbone.channels[-1]
    context: nn.Module
    classifier: nn.Module
    if variant == "cascade":
        require(len(units) > 0, "encoder", "be a ResNet for the cascade", f"'{encoder}'", "Choose 'resnet50'.")
        require(cascade_blocks >= 1, "cascade_blocks", "be at least 1", cascade_blocks)
        context = AtrousCascade(units[-1], multi_grid or [1] * len(units), blocks=cascade_blocks, rate=rate)
        classifier = SegmentationHead(width, num_classes, kernel_size=1)
    else:
        if rates is None:
            rates = [rate * 16 // output_stride for rate in (6, 12, 18)]
        if dropout is None:
            dropout = 0.5 if torchvision else 0.1
        context = ASPP(width, channels, rates, dropout=float(dropout))
        initialise_relu_network(context)
        if torchvision:
            classifier = FCNHead(channels, num_classes, channels=channels, dropout=0)
        else:
            classifier = SegmentationHead(channels, num_classes, kernel_size=1)
    model = ContextSegmenter(
        backbone,
        context,
        classifier,
        num_classes=num_classes,
        auxiliary=_second_head(backbone, num_classes) if (torchvision if auxiliary is None else auxiliary) else None,
        align_corners=not torchvision,
    )
    if weights is not None:
        load_coco_weights(model, "deeplabv3", encoder)
    return model


def _second_head(encoder: Encoder, num_classes: int) -> FCNHead:
    return FCNHead(encoder.channels[-2], num_classes)


def _check_multi_grid(multi_grid: Sequence[int], units: Sequence[nn.Module], encoder: str) -> None:
    require(
        len(units) > 0,
        "multi_grid",
        f"be None with encoder '{encoder}'",
        tuple(multi_grid),
        "It dilates the units of a ResNet's last stage.",
    )
    require(
        len(multi_grid) == len(units) and all(factor >= 1 for factor in multi_grid),
        "multi_grid",
        f"have {len(units)} numbers from 1, one a unit of the last stage of '{encoder}'",
        tuple(multi_grid),
    )

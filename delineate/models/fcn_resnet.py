"""FCN on a dilated ResNet, as torchvision trains it.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, for the idea;
``torchvision.models.segmentation.fcn_resnet50`` and ``fcn_resnet101`` for the network, which has a ResNet at output
stride 8 in place of VGG16 with skips.
Differs: nothing; outputs agree with torchvision's under equal weights. From scratch, layers start as torchvision's
ResNets do (He et al., ICCV 2015), and the heads from the same with a Glorot classifier.
"""

from __future__ import annotations

from torch import nn

from delineate.models.blocks.fcn_head import FCNHead
from delineate.models.context_segmenter import ContextSegmenter
from delineate.models.encoders.creation import create_encoder
from delineate.models.torchvision_weights import checked_weights, load_coco_weights


def fcn_resnet(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "torchvision/resnet50",
    pretrained: bool = False,
    weights: str | None = None,
    output_stride: int = 8,
    head_channels: int | None = None,
    dropout: float | int = 0.1,
    auxiliary: bool = True,
) -> ContextSegmenter:
    """FCN as torchvision has it: one convolutional head on a ResNet at stride 8.

    With 21 classes: resnet50 35,322,218 parameters (32,957,013 without the second head), resnet101 54,314,346
    (51,949,141).

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        weights: "coco" downloads torchvision's weights of the whole network, for a resnet50 or resnet101 of published
            widths: trained on COCO with the 21 classes of
            :func:`~delineate.models.torchvision_weights.coco_class_names`. With another ``num_classes``, everything
            but the classifiers is taken; with other ``in_channels``, the first layer is summed or repeated.
        output_stride: of the encoder; 8 as torchvision trains it.
        head_channels: of the head's hidden layer; a quarter of the encoder's when None.
        dropout: before the last layer.
        auxiliary: whether a second head learns from the last stage but one in training; the losses'
            ``auxiliary_weight`` says how much it counts (0.5 in torchvision's script).

    Raises:
        UnknownNameError: on an unknown encoder or weights.
        ArgumentError: on weights that were not published for this network.

    Example:
        >>> model = fcn_resnet(21, auxiliary=False)
        >>> sum(parameter.numel() for parameter in model.parameters())
        32957013
    """
    checked_weights(weights, "fcn", encoder)
    backbone = create_encoder(
        encoder, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained and weights is None
    )
    model = ContextSegmenter(
        backbone,
        nn.Identity(),
        FCNHead(backbone.channels[-1], num_classes, channels=head_channels, dropout=dropout),
        num_classes=num_classes,
        auxiliary=FCNHead(backbone.channels[-2], num_classes) if auxiliary else None,
    )
    if weights is not None:
        load_coco_weights(model, "fcn", encoder)
    return model

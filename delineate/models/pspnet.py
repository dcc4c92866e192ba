"""PSPNet: a dilated ResNet whose last feature is joined with its means over the scene and its parts.

Source: Zhao, Shi, Qi, Wang, Jia, "Pyramid Scene Parsing Network", CVPR 2017, and its released code, hszhao/PSPNet
(Caffe) and hszhao/semseg: the stem of three 3x3 convolutions, the dilation of whole stages, aligned corners.
Differs: pooling covers any size of feature, the release's fixed kernels one. Stages stride in a 3x3 convolution, as the
release's ResNet-101 does and its ResNet-50 for ADE20K, which strides in the 1x1 convolution ahead, does not; both
dilate a stage from its first unit on, and so does this. Dropout is of single values, as in Caffe; semseg drops whole
channels. What is not pretrained starts from He et al.'s weights (ICCV 2015). segmentation_models.pytorch's PSPNet is
another, cheaper network: it ends at stride 8 of an encoder without dilation.
"""

from __future__ import annotations

from collections.abc import Sequence

from delineate.checks import require
from delineate.models.blocks.fcn_head import FCNHead
from delineate.models.blocks.initialisation import initialise_relu_network
from delineate.models.blocks.pyramid_pooling import PyramidPooling
from delineate.models.context_segmenter import ContextSegmenter
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.residual_units import dilate_whole_stages


def pspnet(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "resnet50s",
    pretrained: bool = False,
    output_stride: int = 8,
    bins: Sequence[int] = (1, 2, 3, 6),
    head_channels: int = 512,
    dropout: float | int = 0.1,
    auxiliary: bool = True,
) -> ContextSegmenter:
    """PSPNet on a dilated ResNet.

    Without the second head: resnet101s 65,708,501 parameters with 21 classes (229.8 GMAC at 473 x 473), 65,707,475
    with 19 (517.2 GMAC at 713 x 713); resnet50s 46,782,550 with 150 (161.5 GMAC at 473 x 473).

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`. "resnet50s" and "resnet101s"
            are the paper's, for which there are no ImageNet weights; "resnet50", "resnet50d" and "resnet101" have them.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        output_stride: of the encoder: 8 as in the paper; 16 and 32 are faster and coarser.
        bins: the pyramid's, in each direction; a branch each.
        head_channels: of the 3x3 convolution behind the pyramid.
        dropout: before the last layer.
        auxiliary: whether a second head learns from the last stage but one in training; the losses'
            ``auxiliary_weight`` says how much it counts (0.4 in the paper).

    Raises:
        UnknownNameError: on an unknown encoder.
        ArgumentError: on an output stride the encoder cannot have, or no bins.

    Example:
        >>> model = pspnet(21, encoder="resnet18", auxiliary=False)
        >>> model.context.out_channels, model.encoder.strides[-1]
        (1024, 8)
    """
    require(len(bins) > 0 and all(count >= 1 for count in bins), "bins", "be numbers from 1, at least one", tuple(bins))
    backbone = create_encoder(encoder, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained)
    dilate_whole_stages(backbone)
    width = backbone.channels[-1]
    pyramid = PyramidPooling(width, max(1, width // len(bins)), bins, align_corners=True)
    initialise_relu_network(pyramid)
    return ContextSegmenter(
        backbone,
        pyramid,
        FCNHead(pyramid.out_channels, num_classes, channels=head_channels, dropout=dropout),
        num_classes=num_classes,
        auxiliary=FCNHead(backbone.channels[-2], num_classes) if auxiliary else None,
        align_corners=True,
    )

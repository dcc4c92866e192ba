"""FCN: a classifier made convolutional, with skips from its poolings.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015; numbers not in
the paper (padding, crop offsets, kernels, scales, caffe's pooling that rounds up) from its released code,
shelhamer/fcn.berkeleyvision.org.
Differs: nothing in the network by default; its layers start from He et al.'s weights (ICCV 2015) without pretrained
ones. The release keeps every upsampling layer at bilinear interpolation, and the paper learns the intermediate ones:
``learned_upsampling="none"`` is the release. RGB input with ImageNet statistics replaces BGR with subtracted means.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from delineate.checks import require
from delineate.models.blocks.bilinear import BilinearTransposedConv
from delineate.models.encoders.torchvision_encoder import adapt_first_convolution
from delineate.models.fcn_trunks import FC_CHANNELS, alexnet_trunk, googlenet_trunk, vgg16_trunk
from delineate.ops.padding import crop_to_size
from delineate.registry import unknown_name
from delineate.structures.outputs import SemanticOutputs

ENCODERS = ("vgg16", "alexnet", "googlenet")
SCALINGS = ("staged", "at_once")
LEARNED = ("none", "intermediate", "all")


class ScoredSkip(nn.Module):
    """The coarser scores, upsampled twice, plus scores of a finer feature.

    Args:
        channels: of the finer feature.
        num_classes: of both scores.
        offset: row and column of the finer feature that falls on the first of the upsampled scores.
        scale: factor on the finer feature before it is scored.
        learned: whether the upsampling is trained.
    """

    def __init__(
        self, channels: int, num_classes: int, *, offset: int, scale: float = 1.0, learned: bool = True
    ) -> None:
        super().__init__()
        self.upsample = BilinearTransposedConv(num_classes, 4, 2, learned=learned)
        self.score = _zero_classifier(channels, num_classes)
        self.offset = (offset, offset)
        self.scale = scale

    def forward(
        self, coarse: Float[Tensor, "B K h w"], feature: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B K h2 w2"]:
        """Scores at the feature's stride, of twice the size of ``coarse`` plus 2."""
        upsampled: Tensor = self.upsample(coarse)
        cropped = crop_to_size(feature, upsampled.shape[-2:], offset=self.offset)
        return upsampled + self.score(cropped * self.scale if self.scale != 1.0 else cropped)


class FCN(nn.Module):
    """Stages, a classifier that is convolutional, skips from the stages, and one last upsampling.

    Args:
        stages: images to features, one after another.
        classifier: the last feature to what is scored.
        score: that to one score a class.
        skips: from the last stage but one, towards finer ones.
        upsample: scores to at least the image's size.
        offset: row and column of the upsampled scores that fall on the image's first pixel.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        classifier: nn.Module,
        score: nn.Conv2d,
        skips: Sequence[ScoredSkip],
        upsample: BilinearTransposedConv,
        *,
        offset: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.classifier = classifier
        self.score = score
        self.skips = nn.ModuleList(skips)
        self.upsample = upsample
        self.offset = (offset, offset)
        self.in_channels = in_channels
        self.num_classes = score.out_channels

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of ``images``."""
        features = [images]
        for stage in self.stages:
            features.append(stage(features[-1]))
        scores = self.score(self.classifier(features.pop()))
        for skip in self.skips:
            scores = skip(scores, features.pop())
        return SemanticOutputs(crop_to_size(self.upsample(scores), images.shape[-2:], offset=self.offset))

    @torch.no_grad()
    def initialise_from(self, coarser: FCN) -> None:
        """Take over every weight of a trained net with fewer skips; the new skip starts at zero and changes nothing.

        Source: Long et al., CVPR 2015, section 4.2: 16s is initialised from 32s, 8s from 16s.

        Args:
            coarser: of the same encoder, widths, channels and classes.

        Raises:
            ArgumentError: when ``coarser`` is not, with the first weight that does not fit.
        """
        require(
            len(coarser.skips) < len(self.skips),
            "coarser",
            f"have fewer skips than {len(self.skips)}",
            len(coarser.skips),
            "FCN-16s starts from FCN-32s, and FCN-8s from FCN-16s.",
        )
        mine = self.state_dict()
        theirs = {name: value for name, value in coarser.state_dict().items() if not name.startswith("upsample.")}
        for name, value in theirs.items():
            expected = tuple(mine[name].shape) if name in mine else "no such weight"
            require(expected == tuple(value.shape), "coarser", f"have '{name}' of {expected}", tuple(value.shape))
        self.load_state_dict(theirs, strict=False)


def _zero_classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution that scores 0 until it is trained (section 4.3)."""
    layer = nn.Conv2d(channels, num_classes, 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _fcn(
    num_classes: int,
    stride: int,
    *,
    in_channels: int,
    encoder: str,
    pretrained: bool,
    scaling: str,
    learned_upsampling: str,
    fc_channels: int,
    width: float,
) -> FCN:
    for kind, name, known in (
        ("encoder", encoder, ENCODERS),
        ("scaling", scaling, SCALINGS),
        ("learned_upsampling", learned_upsampling, LEARNED),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    require(width > 0, "width", "be above 0", width)
    require(
        not pretrained or (encoder == "vgg16" and width == 1 and fc_channels == FC_CHANNELS),
        "pretrained",
        "be False unless encoder='vgg16' has its published widths",
        pretrained,
        "torchvision has no weights for the other classifiers in Caffe's form, or for narrower networks.",
    )
    if encoder == "alexnet":
        trunk = alexnet_trunk(width=width, fc_channels=fc_channels)
    elif encoder == "googlenet":
        trunk = googlenet_trunk(width=width, fc_channels=fc_channels)
    else:
        weights = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False) if pretrained else None
        trunk = vgg16_trunk(width=width, fc_channels=fc_channels, weights=weights)
    require(
        stride in trunk.upsampling,
        "encoder",
        f"be 'vgg16' for FCN-{stride}s",
        f"'{encoder}'",
        "The paper has the other classifiers without skips only: fcn32s.",
    )
    adapt_first_convolution(trunk.stages[0], in_channels, pretrained=pretrained)

    def skip(channels: int, offset: int, scale: float) -> ScoredSkip:
        learned = learned_upsampling != "none"
        return ScoredSkip(
            channels, num_classes, offset=offset, scale=scale if scaling == "at_once" else 1.0, learned=learned
        )

    skips = []
    if stride <= 16:
        skips.append(skip(trunk.channels[1], 5, 0.01))
    if stride <= 8:
        skips.append(skip(trunk.channels[0], 9, 0.0001))
    kernel_size, offset = trunk.upsampling[stride]
    return FCN(
        trunk.stages,
        trunk.classifier,
        _zero_classifier(trunk.scored_channels, num_classes),
        skips,
        BilinearTransposedConv(num_classes, kernel_size, stride, learned=learned_upsampling == "all"),
        offset=offset,
        in_channels=in_channels,
    )


def fcn32s(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "vgg16",
    pretrained: bool = False,
    learned_upsampling: str = "intermediate",
    fc_channels: int = FC_CHANNELS,
    width: float = 1.0,
) -> FCN:
    """FCN-32s: scores at stride 32, upsampled in one step.

    With 21 classes: VGG16 136,152,917 parameters, AlexNet 58,704,590, GoogLeNet 7,745,406, upsampling kernels included.
    GoogLeNet has 5,995,077 without it, the paper's 6 million.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: "vgg16"; "alexnet", Caffe's, with groups and local response norms; or "googlenet", as in its paper,
            with 5x5 convolutions, local response norms and no batch norm.
        pretrained: whether VGG16, fc6 and fc7 included, starts from torchvision's ImageNet weights.
        learned_upsampling: which upsampling layers leave bilinear interpolation in training: the "intermediate" ones
            (the paper), "none" (the release) or "all".
        fc_channels: of fc6 and fc7, which GoogLeNet has not; fewer spare most of the parameters.
        width: the encoder's layers have this share of their published channels.

    Raises:
        UnknownNameError: on an unknown encoder or learned_upsampling.
        ArgumentError: when pretrained weights do not exist for these widths.

    Example:
        >>> model = fcn32s(21, fc_channels=256, width=0.25)
        >>> tuple(model.upsample.weight.shape)
        (21, 21, 64, 64)
    """
    return _fcn(
        num_classes,
        32,
        in_channels=in_channels,
        encoder=encoder,
        pretrained=pretrained,
        scaling="staged",
        learned_upsampling=learned_upsampling,
        fc_channels=fc_channels,
        width=width,
    )


def fcn16s(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "vgg16",
    pretrained: bool = False,
    scaling: str = "staged",
    learned_upsampling: str = "intermediate",
    fc_channels: int = FC_CHANNELS,
    width: float = 1.0,
) -> FCN:
    """FCN-16s: FCN-32s with a skip from pool4; 134,815,994 parameters with 21 classes.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: "vgg16".
        pretrained: whether VGG16, fc6 and fc7 included, starts from torchvision's ImageNet weights.
        scaling: "staged" to be trained after :meth:`FCN.initialise_from` a trained FCN-32s; "at_once" scales the
            skip's feature by 0.01, so that everything can be trained together.
        learned_upsampling: which upsampling layers leave bilinear interpolation in training: the "intermediate" ones
            (the paper), "none" (the release) or "all".
        fc_channels: of fc6 and fc7; fewer spare most of the parameters.
        width: the encoder's layers have this share of their published channels.

    Raises:
        UnknownNameError: on an unknown encoder, scaling or learned_upsampling.
        ArgumentError: with another encoder, or when pretrained weights do not exist for these widths.

    Example:
        >>> model = fcn16s(21, fc_channels=256, width=0.25)
        >>> model.initialise_from(fcn32s(21, fc_channels=256, width=0.25))
        >>> len(model.skips)
        1
    """
    return _fcn(
        num_classes,
        16,
        in_channels=in_channels,
        encoder=encoder,
        pretrained=pretrained,
        scaling=scaling,
        learned_upsampling=learned_upsampling,
        fc_channels=fc_channels,
        width=width,
    )


def fcn8s(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "vgg16",
    pretrained: bool = False,
    scaling: str = "staged",
    learned_upsampling: str = "intermediate",
    fc_channels: int = FC_CHANNELS,
    width: float = 1.0,
) -> FCN:
    """FCN-8s: FCN-16s with another skip from pool3; 134,489,759 parameters with 21 classes.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: "vgg16".
        pretrained: whether VGG16, fc6 and fc7 included, starts from torchvision's ImageNet weights.
        scaling: "staged" to be trained after :meth:`FCN.initialise_from` a trained FCN-16s; "at_once" scales the
            skips' features by 0.01 (pool4) and 0.0001 (pool3), so that everything can be trained together.
        learned_upsampling: which upsampling layers leave bilinear interpolation in training: the "intermediate" ones
            (the paper), "none" (the release) or "all".
        fc_channels: of fc6 and fc7; fewer spare most of the parameters.
        width: the encoder's layers have this share of their published channels.

    Raises:
        UnknownNameError: on an unknown encoder, scaling or learned_upsampling.
        ArgumentError: with another encoder, or when pretrained weights do not exist for these widths.

    Example:
        >>> model = fcn8s(21, fc_channels=256, width=0.25, scaling="at_once")
        >>> [skip.scale for skip in model.skips]
        [0.01, 0.0001]
    """
    return _fcn(
        num_classes,
        8,
        in_channels=in_channels,
        encoder=encoder,
        pretrained=pretrained,
        scaling=scaling,
        learned_upsampling=learned_upsampling,
        fc_channels=fc_channels,
        width=width,
    )

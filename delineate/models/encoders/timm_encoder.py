"""Encoders from timm: any of its models that returns features."""

from __future__ import annotations

from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers import BlurPool2d, Format
from torch import Tensor, nn

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.models.encoders.encoder import Encoder
from delineate.registry import unknown_name

# what timm's transformers raise, or their constructors for an argument they do not have
_REFUSALS = (TypeError, AttributeError, NotImplementedError, AssertionError, RuntimeError)


class TimmEncoder(Encoder):
    """A timm model as an encoder.

    Differs: with random weights, the residual branches of timm's ResNets start at work, as in He et al. 2015, where
    timm scales them by zero at first (Goyal et al. 2017, for large batches). In the short trainings that segmentation
    from scratch is, a network that begins as its shortcuts alone loses many epochs.

    Args:
        name: as in ``timm.list_models()``, with or without the tag of its weights ("resnet50.a1_in1k").
        in_channels: channels of the images; timm adapts pretrained first layers (sums or repeats their weights).
        output_stride: 32 for the architecture's own; 8 or 16 dilate instead of stride, where timm knows how.
        pretrained: whether timm downloads its weights.

    Raises:
        UnknownNameError: when timm has no such model; says the nearest.
        ArgumentError: when the model returns no features, takes images of one size only, or cannot have this stride.

    Example:
        >>> TimmEncoder("resnet18", output_stride=16).strides
        (2, 4, 8, 16, 16)
    """

    def __init__(self, name: str, *, in_channels: int = 3, output_stride: int = 32, pretrained: bool = False) -> None:
        super().__init__()
        if not timm.is_model(name.partition(".")[0]):
            raise unknown_name("encoder", name, timm.list_models())
        model = _features_model(name, pretrained=pretrained, in_chans=in_channels, output_stride=output_stride)
        if not pretrained:
            wake_residual_branches(model)
        self.model: nn.Module = model
        self.in_channels = in_channels
        self.channels = tuple(model.feature_info.channels())
        self.strides = tuple(model.feature_info.reduction())
        self.rounds_up = _rounds_up(name, model)
        self.channels_last = getattr(model, "output_fmt", None) == Format.NHWC
        require(
            output_stride == 32 or self.strides[-1] == output_stride,
            "output_stride",
            f"be one that encoder '{name}' can have ({self.strides[-1]})",
            output_stride,
            "ResNets, EfficientNets, ConvNeXts and RegNets can have 8, 16 and 32.",
        )

    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """The features, finest first, channels before rows."""
        features: list[Tensor] = self.model(images)
        return [feature.permute(0, 3, 1, 2) for feature in features] if self.channels_last else features


@torch.no_grad()
def wake_residual_branches(model: nn.Module) -> None:
    """Set the scales of batch norm that timm starts at zero to one."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.weight.is_meta and not layer.weight.any():
            layer.weight.fill_(1)


def _rounds_up(name: str, model: nn.Module) -> bool:
    """Whether ``model`` is a ResNet, which pads as far as its kernels reach; those that blur need pixels to mirror."""
    resnet = timm.models.model_entrypoint(name).__module__ == "timm.models.resnet"
    return resnet and not any(isinstance(layer, BlurPool2d) for layer in model.modules())


def _features_model(name: str, *, output_stride: int, **options: Any) -> Any:
    configuration = timm.get_pretrained_cfg(name)
    # a model made for one size: interpolate its position embeddings, or else only drop the size check
    fixed = configuration is not None and configuration.fixed_input_size
    sizes: list[dict[str, Any]] = [{"dynamic_img_size": True}, {"strict_img_size": False}] if fixed else [{}]
    attempts = [{**size, "output_stride": output_stride} for size in sizes] if output_stride != 32 else []
    # without the option: the architecture's own stride may be the one asked for
    for attempt in [*attempts, *sizes]:
        try:
            return timm.create_model(name, features_only=True, **options, **attempt)
        except _REFUSALS as error:
            refusal = error
    raise ArgumentError(
        f"encoder must return features for images of any size; got '{name}' ({refusal}). "
        "Choose a convolutional one, such as 'resnet34' or 'convnext_tiny'."
    ) from refusal

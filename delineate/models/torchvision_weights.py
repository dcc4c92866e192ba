"""torchvision's published segmenters, brought to this library's names.

Source: torchvision's ``FCN_ResNet50_Weights``, ``DeepLabV3_ResNet101_Weights`` and their like, trained on those images
of COCO 2017 that show Pascal VOC's classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models import adapt_input_conv
from torch import Tensor, nn
from torchvision import models

from delineate.errors import ArgumentError
from delineate.models.context_segmenter import ContextSegmenter
from delineate.models.encoders.torchvision_encoder import StagedEncoder
from delineate.registry import unknown_name

WEIGHTS = ("coco",)
ENCODERS = ("resnet50", "resnet101")
FCN_HEAD = {"0": "hidden.0", "1": "hidden.1", "4": "classify"}
STAGED_RESNET = {
    "conv1": "stages.0.0",
    "bn1": "stages.0.1",
    "layer1": "stages.1.1",
    "layer2": "stages.2",
    "layer3": "stages.3",
    "layer4": "stages.4",
}
CLASSIFIERS = {
    "fcn": {f"classifier.{theirs}": f"classifier.{ours}" for theirs, ours in FCN_HEAD.items()},
    "deeplabv3": {
        **{f"classifier.0.convs.{branch}": f"context.branches.{branch}" for branch in range(4)},
        # the first is the pooling, which has no weights
        "classifier.0.convs.4.1": "context.branches.4.project.0",
        "classifier.0.convs.4.2": "context.branches.4.project.1",
        "classifier.0.project": "context.project.0",
        "classifier.1": "classifier.hidden.0",
        "classifier.2": "classifier.hidden.1",
        "classifier.4": "classifier.classify",
    },
}
LAST_LAYERS = ("classifier.classify.", "auxiliary.classify.")
FIRST_LAYERS = ("stages.0.0.weight", "model.conv1.weight")


def coco_class_names() -> tuple[str, ...]:
    """What the 21 logits of ``weights="coco"`` stand for: Pascal VOC's classes, the background first.

    Example:
        >>> names = coco_class_names()
        >>> len(names), names[0], names[15]
        (21, 'background', 'person')
    """
    names = _published("fcn", "resnet50").meta["categories"]
    return tuple(name.strip("_") for name in names)


def checked_weights(weights: str | None, architecture: str, encoder: str) -> None:
    """Raise unless ``weights`` is None or published for this encoder; before anything is built or downloaded.

    Raises:
        UnknownNameError: on weights that are not "coco".
        ArgumentError: when they are for other encoders.
    """
    if weights is None:
        return
    if weights not in WEIGHTS:
        raise unknown_name("weights", weights, WEIGHTS)
    if plain_name(encoder) not in ENCODERS:
        raise ArgumentError(
            f"weights must be None with encoder '{encoder}'; got '{weights}'. torchvision published {architecture} "
            f"weights for {' and '.join(ENCODERS)}."
        )


def load_coco_weights(model: ContextSegmenter, architecture: str, encoder: str) -> None:
    """Give ``model`` torchvision's weights; with another number of classes, all but the last layers.

    The file is checked by its hash and read as tensors alone. A model on the meta device stays as it is.

    Args:
        model: of the published widths.
        architecture: "fcn" or "deeplabv3".
        encoder: "resnet50" or "resnet101", with or without the library's name in front.

    Raises:
        ArgumentError: when the model has other layers or widths.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    state = published_state(_published(architecture, plain_name(encoder)))
    renamed = from_torchvision(state, architecture, staged=isinstance(model.encoder, StagedEncoder))
    if model.num_classes != len(coco_class_names()):
        renamed = {name: value for name, value in renamed.items() if not name.startswith(LAST_LAYERS)}
    if model.auxiliary is None:
        renamed = {name: value for name, value in renamed.items() if not name.startswith("auxiliary.")}
    load_renamed(model, renamed, in_channels=model.in_channels)


def published_state(published: Any) -> dict[str, Tensor]:
    """What torchvision published: downloaded once, checked by its hash, read as tensors alone.

    Args:
        published: a member of one of torchvision's enumerations of weights.

    Raises:
        ArgumentError: when it cannot be downloaded.
    """
    try:
        state: dict[str, Tensor] = published.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArgumentError(
            f"weights must be downloaded once when they are 'coco'; that failed ({reason}). Leave weights out to train "
            "without them."
        ) from error
    return state


def load_renamed(model: nn.Module, renamed: Mapping[str, Tensor], *, in_channels: int) -> None:
    """Give ``model`` these weights, the first layer's summed or repeated for its channels; the others stay.

    Args:
        model: any.
        renamed: by the model's names.
        in_channels: of its images.

    Raises:
        ArgumentError: when the model lacks one of them, or has it in another shape; then nothing has changed.
    """
    first = next(name for name in renamed if name.endswith(FIRST_LAYERS))
    renamed = {**renamed, first: adapt_input_conv(in_channels, renamed[first])}
    expected = model.state_dict()
    for name, value in renamed.items():
        found = tuple(expected[name].shape) if name in expected else "no such layer"
        if found != tuple(value.shape):
            raise ArgumentError(
                f"weights must be None for other widths than the published; got '{name}' of {found}, where torchvision "
                f"has {tuple(value.shape)}. Leave widths and variant at torchvision's."
            )
    model.load_state_dict(renamed, strict=False)


def from_torchvision(state: Mapping[str, Tensor], architecture: str, *, staged: bool = True) -> dict[str, Tensor]:
    """The state of a torchvision segmenter under this library's names.

    Args:
        state: of ``fcn_resnet50``, ``deeplabv3_resnet101`` and their like.
        architecture: "fcn" or "deeplabv3".
        staged: whether the encoder is "torchvision/...", whose layers are grouped by stride; timm's keep their names.

    Example:
        >>> import torch
        >>> list(from_torchvision({"classifier.4.bias": torch.zeros(21)}, "deeplabv3"))
        ['classifier.classify.bias']
    """
    table = {
        **CLASSIFIERS[architecture],
        **{f"aux_classifier.{theirs}": f"auxiliary.{ours}" for theirs, ours in FCN_HEAD.items()},
        **({f"backbone.{theirs}": f"encoder.{ours}" for theirs, ours in STAGED_RESNET.items()} if staged else {}),
        "backbone": "encoder.model",
    }
    renamed = {}
    for name, value in state.items():
        prefix = max((prefix for prefix in table if name.startswith(f"{prefix}.")), key=len)
        renamed[table[prefix] + name.removeprefix(prefix)] = value
    return renamed


def plain_name(encoder: str) -> str:
    """An encoder's name without its library in front and its weights behind.

    Example:
        >>> plain_name("timm/resnet50.a1_in1k")
        'resnet50'
    """
    return encoder.rpartition("/")[2].partition(".")[0]


def _published(architecture: str, encoder: str) -> Any:
    return models.get_model_weights(f"{architecture}_{encoder}").DEFAULT

"""Detectors whose weights torchvision published: what makes ours the same networks, and how they take the weights.

Source: torchvision's ``RetinaNet_ResNet50_FPN_Weights``, ``SSD300_VGG16_Weights`` and their like, trained on COCO 2017.
Differs: torchvision counts labels by COCO's category ids, of which ten are not in use; here labels are the 80 in use. A
softmax over fewer classes gives scores that are higher by what the unused ones had, which trained weights make next to
nothing. The first versions divide by a batch norm's deviation alone, where batch norm adds a small number to the
variance: its scales are made to suit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from delineate.errors import ArgumentError
from delineate.models.encoders.torchvision_encoder import StagedEncoder
from delineate.models.torchvision_detectors import (
    faster_rcnn_state,
    mask_rcnn_state,
    present_names,
    retinanet_state,
    ssd_state,
)
from delineate.models.torchvision_weights import WEIGHTS, load_renamed, plain_name, published_state
from delineate.registry import unknown_name
from delineate.structures.preprocessing import Preprocessing

NORM_EPSILON = 1e-5  # of batch norm in ResNets
SSD_MEAN, SSD_STD = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)


@dataclass(frozen=True)
class PublishedDetector:
    """A network that torchvision published weights of.

    Args:
        options: what makes our model the same network.
        state: torchvision's state to ours; takes ``labels``, and but for SSD ``staged``.
        last_layers: where the names of those layers begin that have as many rows as there are classes or joints.
        without_epsilon: whether its batch norm divides by the deviation alone.
    """

    options: Mapping[str, Any]
    state: Callable[..., dict[str, Tensor]]
    last_layers: tuple[str, ...]
    without_epsilon: bool = False


def _retinanet(norm: str, *, extra: str) -> PublishedDetector:
    return PublishedDetector(
        options={
            "encoder": "resnet50",
            "finest": 8,
            "extra": extra,
            "channels": 256,
            "layers": 4,
            "norm": norm,
            "scale": 4,
            "whole_sizes": True,
        },
        state=partial(retinanet_state, norm=norm),
        last_layers=(f"classes.{8 if norm == 'none' else 12}.",),
        without_epsilon=norm == "none",
    )


def _rcnn(last_layer: str = "", *, without_epsilon: bool, **options: Any) -> PublishedDetector:
    return PublishedDetector(
        options={"encoder": "resnet50", "channels": 256, "hidden": 1024, "scale": 8, **options},
        state=mask_rcnn_state if last_layer else faster_rcnn_state,
        last_layers=("classes.", "boxes.", *([last_layer] if last_layer else [])),
        without_epsilon=without_epsilon,
    )


PUBLISHED = {
    "retinanet_resnet50_fpn": _retinanet("none", extra="pyramid"),
    "retinanet_resnet50_fpn_v2": _retinanet("group", extra="encoder"),
    "ssd300_vgg16": PublishedDetector({"width": 1, "norm": "none", "boxes": "coco"}, ssd_state, ("classes.",)),
    "fasterrcnn_resnet50_fpn": _rcnn(without_epsilon=True),
    "fasterrcnn_resnet50_fpn_v2": _rcnn(without_epsilon=False),
    "maskrcnn_resnet50_fpn": _rcnn("head.10.", without_epsilon=True, head_channels=256),
    "maskrcnn_resnet50_fpn_v2": _rcnn("head.14.", without_epsilon=False, head_channels=256),
    "keypointrcnn_resnet50_fpn": _rcnn("head.16.", without_epsilon=True, head_channels=512),
}


def coco_object_names(network: str = "fasterrcnn_resnet50_fpn") -> tuple[str, ...]:
    """What the labels of a detector with ``weights="coco"`` stand for.

    Args:
        network: torchvision's name of it.

    Example:
        >>> names = coco_object_names()
        >>> len(names), names[0], names[79]
        (80, 'person', 'toothbrush')
        >>> coco_object_names("keypointrcnn_resnet50_fpn")
        ('person',)
    """
    names = _published(network).meta["categories"]
    return tuple(names[label] for label in _labels(network))


def check_published(weights: str | None, network: str | None, **options: Any) -> None:
    """Raise unless ``weights`` is None or published for a network of these options; before anything is built.

    Args:
        weights: what a factory was given.
        network: torchvision's name of the network; None where it published none.
        options: the factory's, all that :data:`PUBLISHED` names.

    Raises:
        UnknownNameError: on weights that are not "coco".
        ArgumentError: when they are for other options; says which.

    Example:
        >>> check_published("coco", "ssd300_vgg16", width=1.0, norm="none", boxes="voc")
        Traceback (most recent call last):
        ...
        delineate.errors.ArgumentError: weights must be None for a network that differs from torchvision's; got 'coco'
        with boxes='voc'. Pass boxes='coco'.
    """
    if weights is None:
        return
    if weights not in WEIGHTS:
        raise unknown_name("weights", weights, WEIGHTS)
    condition = f"weights must be None for a network that differs from torchvision's; got '{weights}' with"
    if network is None:
        raise ArgumentError(f"{condition} another variant. Pass variant='v1' or variant='v2'.")
    wanted = PUBLISHED[network].options
    given = {name: plain_name(value) if name == "encoder" else value for name, value in options.items()}
    wrong = [name for name, value in wanted.items() if given[name] != value]
    if wrong:
        got = ", ".join(f"{name}={options[name]!r}" for name in wrong)
        raise ArgumentError(f"{condition} {got}. Pass {', '.join(f'{name}={wanted[name]!r}' for name in wrong)}.")


def load_published(model: nn.Module, network: str) -> None:
    """Give ``model`` the weights that torchvision trained on COCO.

    With 80 classes (one for key points), labels are those of :func:`coco_object_names`. With another number, all is
    taken but the layers that tell classes apart, and with another number of joints all but the last layer; with other
    image channels, the first layer is summed or repeated. The file is checked by its hash and read as tensors alone. A
    model on the meta device stays as it is.

    Args:
        model: of the options that :data:`PUBLISHED` names.
        network: torchvision's name of it.

    Raises:
        ArgumentError: when the weights cannot be downloaded, or the model has other layers or widths.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    published = PUBLISHED[network]
    form = {"staged": isinstance(model.encoder, StagedEncoder)} if hasattr(model, "encoder") else {}
    state = present_names(published_state(_published(network)))
    renamed = published.state(state, labels=_labels(network), **form)
    if published.without_epsilon:
        renamed = with_epsilon(renamed)
    expected = {name: value.shape for name, value in model.state_dict().items()}
    for name in [name for name in renamed if name.startswith(published.last_layers)]:
        if name in expected and expected[name] != renamed[name].shape:
            del renamed[name]
    load_renamed(model, renamed, in_channels=model.in_channels)  # type: ignore[arg-type]


def with_epsilon(state: Mapping[str, Tensor], *, epsilon: float = NORM_EPSILON) -> dict[str, Tensor]:
    """The scales of batch norms that divide by the deviation, for batch norms that add ``epsilon`` to the variance.

    Args:
        state: any; batch norms are found by their "running_var".
        epsilon: what is added.

    Example:
        >>> import torch
        >>> state = {"norm.weight": torch.ones(1), "norm.running_var": torch.full((1,), 0.5)}
        >>> with_epsilon(state, epsilon=1.5)["norm.weight"].tolist()
        [2.0]
    """
    found = dict(state)
    for name, variance in state.items():
        if name.endswith(".running_var"):
            scale = name.replace(".running_var", ".weight")
            exact = variance.double()
            factor = torch.where(exact > 0, (exact + epsilon) / exact, 1).sqrt()
            found[scale] = (state[scale] * factor).to(state[scale])
    return found


def ssd_preprocessing(channels: int) -> Preprocessing:
    """What the published SSD expects: pixels less their mean, not scaled; for other channels the mean over channels.

    Example:
        >>> round(ssd_preprocessing(1).mean[0], 5)
        0.44967
    """
    if channels == len(SSD_MEAN):
        return Preprocessing(SSD_MEAN, SSD_STD)
    return Preprocessing((sum(SSD_MEAN) / len(SSD_MEAN),) * channels, (SSD_STD[0],) * channels)


def _published(network: str) -> Any:
    return models.get_model_weights(network).COCO_V1


def _labels(network: str) -> list[int]:
    names = _published(network).meta["categories"]
    return [label for label, name in enumerate(names) if label > 0 and name != "N/A"]

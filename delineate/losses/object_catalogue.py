"""The losses of detectors by name. A detector learns from one of them, which holds the parts that its paper sums."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from delineate.checks import require
from delineate.losses.bipartite_multibox import BipartiteMultiBoxLoss
from delineate.losses.focal_detection import FocalDetectionLoss
from delineate.losses.instance_detection import InstanceDetectionLoss
from delineate.losses.localisation import LocalisationLoss
from delineate.losses.multibox import MultiBoxLoss
from delineate.losses.region_detection import RegionDetectionLoss
from delineate.losses.yolo import YOLOLoss
from delineate.losses.yolov2 import YOLOv2Loss
from delineate.registry import Registry, unknown_name

OBJECT_LOSSES: Registry[type[nn.Module]] = Registry(
    "loss",
    {
        "localisation": LocalisationLoss,
        "bipartite_multibox": BipartiteMultiBoxLoss,
        "focal_detection": FocalDetectionLoss,
        "multibox": MultiBoxLoss,
        "yolo": YOLOLoss,
        "yolov2": YOLOv2Loss,
        "region_detection": RegionDetectionLoss,
        "instance_detection": InstanceDetectionLoss,
    },
)


def object_loss_options(name: str) -> dict[str, Any]:
    """The options of a detector's loss and their defaults.

    Raises:
        UnknownNameError: when there is no such loss; names the nearest.

    Example:
        >>> object_loss_options("yolo")
        {'coordinates': 5.0, 'no_object': 0.5}
    """
    return {option: value.default for option, value in inspect.signature(OBJECT_LOSSES[name]).parameters.items()}


def create_object_loss(config: Sequence[Mapping[str, Any]]) -> nn.Module:
    """The loss of a detector.

    Args:
        config: a list of one mapping, as recipes hold it: "name" and the options of its class.

    Returns:
        A module of (outputs, targets, normaliser=...) with a dictionary whose "loss" is to be minimised.

    Raises:
        UnknownNameError: on an unknown loss or option; names the nearest.
        ArgumentError: when it is not one loss, or a value is bad.

    Example:
        >>> create_object_loss([{"name": "focal_detection", "gamma": 1.5}]).gamma
        1.5
        >>> create_object_loss([{"name": "multibox", "ration": 2}])
        Traceback (most recent call last):
        ...
        delineate.errors.UnknownNameError: option of loss 'multibox' must be a known name; got 'ration'. Did you mean...
    """
    listed = not isinstance(config, Mapping | str) and len(config) == 1 and isinstance(config[0], Mapping)
    advice = "Its parts are weighed by its own options."
    require(listed and "name" in config[0], "loss", "be a list of one named loss for a detector", config, advice)
    options = dict(config[0])
    name = options.pop("name")
    known = object_loss_options(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of loss '{name}'", option, known)
    return OBJECT_LOSSES[name](**options)

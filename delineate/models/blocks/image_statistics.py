"""A check for layers that normalise one value an image over the batch."""

from __future__ import annotations

from torch import Tensor

from delineate.checks import require


def require_several_images(features: Tensor) -> None:
    """Raise :class:`~delineate.errors.ArgumentError` unless a training batch has two images or more.

    After pooling a whole image to one value a channel, batch norm has nothing else to normalise over.
    """
    require(
        len(features) > 1,
        "batch size",
        "be at least 2 in training: image pooling normalises one value an image over the batch",
        len(features),
        "Use a larger batch and drop the last incomplete one.",
    )

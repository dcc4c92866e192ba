"""Pictures of one prediction: overlays, the error map, and how they get into a page without being files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from delineate.checks import require
from delineate.structures.taxonomy import Colour

LONGEST = 640
"""Pictures are shrunk to this many pixels on their longer side."""

_LOSSLESS_BELOW = 200
_WRONG = np.array([226, 52, 42], np.float32)
_IGNORED = np.array([128, 128, 128], np.float32)

Picture = NDArray[np.uint8]
Labels = NDArray[Any]


def visible_image(image: Picture) -> Picture:
    """The image as RGB ``(H, W, 3)``: one or two channels as grey, more than three by their first three."""
    require(image.ndim in (2, 3), "image", "be (H, W) or (H, W, C)", f"shape {image.shape}")
    layers = image if image.ndim == 3 else image[:, :, None]
    return layers[:, :, :3] if layers.shape[2] >= 3 else layers[:, :, :1].repeat(3, axis=2)


def shrunk(picture: Picture, longest: int = LONGEST) -> Picture:
    """The picture with its longer side at most ``longest``, averaged; unchanged where it fits."""
    height, width = _fitting(picture.shape[:2], longest)
    if (height, width) == picture.shape[:2]:
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def shrunk_labels(labels: Labels, longest: int = LONGEST) -> Labels:
    """The labels with their longer side at most ``longest``, each the nearest original one."""
    height, width = _fitting(labels.shape[:2], longest)
    rows = (np.arange(height) + 0.5) * labels.shape[0] / height
    columns = (np.arange(width) + 0.5) * labels.shape[1] / width
    return labels[rows.astype(np.intp)[:, None], columns.astype(np.intp)]


def label_overlay(
    image: Picture,
    labels: Labels,
    colours: Sequence[Colour],
    *,
    background: int | None = None,
    alpha: float = 0.6,
) -> Picture:
    """The image in grey, tinted with the colour of each pixel's class, regions outlined.

    Grey, because a tint over colours is a third colour that no legend explains.

    Args:
        image: RGB.
        labels: class of each pixel; a label without a colour (the ignored one) is shown as a grey veil.
        colours: RGB of each class.
        background: the class that stays untinted, if there is one.
        alpha: 0 shows the image alone, 1 the colours alone.
    """
    known = labels < len(colours)
    palette = np.array([*colours, _IGNORED], np.float32)
    index = np.where(known, labels, len(colours)).astype(np.intp)
    strength = np.full(len(palette), alpha, np.float32)
    if background is not None:
        strength[background] = 0
    opacity = strength[index]
    outline = _outlines(labels) & (opacity > 0)
    opacity[outline] = 1
    return _blend(_grey(image), palette[index], opacity)


def error_map(image: Picture, target: Labels, prediction: Labels, *, ignore_index: int = 255) -> Picture:
    """The image in pale grey, wrong pixels red, ignored pixels flat grey.

    Args:
        image: RGB.
        target: true class of each pixel, or ``ignore_index``.
        prediction: predicted class of each pixel.
        ignore_index: pixels with this target are neither right nor wrong.

    Example:
        >>> image = np.zeros((1, 3, 3), np.uint8)
        >>> error_map(image, np.array([[0, 0, 255]]), np.array([[0, 1, 1]]))[0].tolist()
        [[140, 140, 140], [205, 74, 67], [128, 128, 128]]
    """
    pale = 140 + _grey(image) * 0.41
    ignored = target == ignore_index
    wrong = (target != prediction) & ~ignored
    picture = _blend(pale, np.broadcast_to(_WRONG, pale.shape), np.where(wrong, 0.75, 0))
    picture[ignored] = _IGNORED.astype(np.uint8)
    return picture


def data_uri(picture: Picture) -> str:
    """The picture as a ``data:`` address: WebP, lossless when small so that single pixels stay single pixels."""
    buffer = io.BytesIO()
    lossless = max(picture.shape[:2]) < _LOSSLESS_BELOW
    Image.fromarray(picture).save(buffer, "WEBP", lossless=lossless, quality=85, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _fitting(size: tuple[int, ...], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _outlines(labels: Labels) -> NDArray[np.bool_]:
    """Pixels with a direct neighbour of another label."""
    across, down = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= across
    edge[:, 1:] |= across
    edge[:-1] |= down
    edge[1:] |= down
    return edge


def _grey(image: Picture) -> NDArray[np.float32]:
    """Luminance in all three channels."""
    luminance = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return luminance[:, :, None].repeat(3, axis=2)


def _blend(under: NDArray[np.float32], over: NDArray[np.float32], opacity: NDArray[Any]) -> Picture:
    share = opacity[:, :, None].astype(np.float32)
    return (under * (1 - share) + over * share + 0.5).astype(np.uint8)

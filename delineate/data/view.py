"""One random look at a picture and its target: scaled, turned, bent and cropped, in one pass over the pixels.

A mask of two dimensions (H, W) holds labels and is filled with ``ignore_index`` where there is no picture; one of three
(N, H, W) holds instances and is filled with 0. All randomness comes from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from delineate.checks import require
from delineate.data.elastic import displacement_field, sample_image, sample_labels, undeformed

FILL = (124.0, 116.0, 104.0)  # the ImageNet mean: what an encoder takes for "nothing"
OUTLINE_POINTS = 9  # a side of a box, to follow it through a bent field


def channel_fill(fill: Sequence[float], channels: int) -> tuple[float, ...]:
    """``fill`` as one value a channel: as given when it fits, else its mean in every channel.

    Example:
        >>> channel_fill((124, 116, 104), 1)
        (114.66666666666667,)
    """
    return tuple(fill) if len(fill) == channels else (sum(fill) / len(fill),) * channels


def uniform(low: float, high: float) -> float:
    """One number between ``low`` and ``high`` from torch's global generator."""
    return low + (high - low) * float(torch.rand(()))


@dataclass(frozen=True)
class View:
    """Which part of the source a :class:`RandomView` shows, and how.

    Args:
        size: (height, width) of the result.
        top, left: the first row and column of the source window; negative where the window begins outside.
        height, width: the size of the source window, before turning and bending.
        angle: degrees, counter-clockwise.
        coarse: control displacements in pixels of the result, (2, G, G); None for none.
    """

    size: tuple[int, int]
    top: int
    left: int
    height: int
    width: int
    angle: float = 0.0
    coarse: Tensor | None = None

    @property
    def is_warped(self) -> bool:
        """Whether the window is turned or bent."""
        return self.angle != 0 or self.coarse is not None

    def places(self) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
        """The source row and column (pixel centres) of every pixel of the result."""
        height, width = self.size
        rows = torch.arange(height, dtype=torch.float32)[:, None] - (height - 1) / 2
        columns = torch.arange(width, dtype=torch.float32)[None, :] - (width - 1) / 2
        if self.coarse is not None:
            field = displacement_field(self.coarse, self.size)
            rows, columns = rows + field[0], columns + field[1]
        sine, cosine = math.sin(math.radians(self.angle)), math.cos(math.radians(self.angle))
        zoom_y, zoom_x = self.height / height, self.width / width
        turned_rows = (rows * cosine + columns * sine) * zoom_y + (self.top + (self.height - 1) / 2)
        turned_columns = (columns * cosine - rows * sine) * zoom_x + (self.left + (self.width - 1) / 2)
        return turned_rows, turned_columns

    def moved(self, points: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
        """Where points (x, y) of the source come to lie; whole numbers are the edges of pixels."""
        height, width = self.size
        x = (points[:, 0] - self.left - self.width / 2) * (width / self.width)
        y = (points[:, 1] - self.top - self.height / 2) * (height / self.height)
        sine, cosine = math.sin(math.radians(self.angle)), math.cos(math.radians(self.angle))
        x, y = x * cosine + y * sine + width / 2, y * cosine - x * sine + height / 2
        if self.coarse is not None:
            y, x = (undeformed(self.coarse, torch.stack([y, x], 1) - 0.5, self.size) + 0.5).unbind(1)
        return torch.stack([x, y], 1)


class RandomView(v2.Transform):
    """One random look at a picture: scaled, turned, elastically bent and cropped to a fixed size, in one pass.

    The window is cut in source coordinates first and only then resized (antialiased), so that the work depends on the
    size of the result. A turned or bent window reads what lies around it in the source, not blank corners; what lies
    outside the source becomes ``fill`` in images, ``ignore_index`` in label maps, 0 in instance masks.

    Source (elastic): Ronneberger et al., "U-Net", MICCAI 2015, section 3.1.
    Differs: the window is a whole number of source pixels, so the scale is rounded by up to half a source pixel in the
    window's length.

    Args:
        size: (height, width) of the result; None keeps each image's own.
        scale: smallest and largest magnification, drawn log-uniformly; below 1 more of the source is seen.
        rotation: the largest angle in degrees, either way.
        elastic: standard deviation of the displacements in pixels of the result; 0 for none. Where it nears the spacing
            of the grid, the field may fold over.
        elastic_grid: control vectors along each side.
        ignore_index: the fill of label maps.
        fill: the fill of images, 0..255, one value a channel (their mean where the channels differ in number).

    Example:
        >>> image = tv_tensors.Image(torch.zeros(3, 20, 30, dtype=torch.uint8))
        >>> image, target = RandomView((16, 40))(image, {"semantic_mask": tv_tensors.Mask(torch.zeros(20, 30).byte())})
        >>> tuple(image.shape), int((target["semantic_mask"] == 255).sum())
        ((3, 16, 40), 160)
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        *,
        scale: tuple[float, float] = (1.0, 1.0),
        rotation: float = 0.0,
        elastic: float = 0.0,
        elastic_grid: int = 3,
        ignore_index: int = 255,
        fill: Sequence[float] = FILL,
    ) -> None:
        super().__init__()
        require(size is None or min(size) > 0, "size", "be a positive (height, width) or None", size)
        require(0 < scale[0] <= scale[1], "scale", "be (smallest, largest), both positive", scale)
        require(rotation >= 0, "rotation", "be 0 degrees or more", rotation)
        require(elastic >= 0, "elastic", "be 0 pixels or more", elastic)
        require(elastic_grid >= 2, "elastic_grid", "be at least 2", elastic_grid)
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.scale = scale
        self.rotation = rotation
        self.elastic = elastic
        self.elastic_grid = elastic_grid
        self.ignore_index = ignore_index
        self.fill = tuple(float(value) for value in fill)

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse what could only pass through untouched, out of step with the rest."""
        for value in flat_inputs:
            refused = isinstance(value, (PIL.Image.Image, tv_tensors.Video))
            require(
                not refused, "image", "be a tv_tensors.Image", type(value).__name__, "Put v2.ToImage() before this."
            )

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The view, drawn at random, and the places it reads when it is not a plain rectangle."""
        sizes = sorted({tuple(functional.get_size(value)) for value in flat_inputs})
        require(len(sizes) == 1, "image and target", "share one (height, width)", sizes)
        source = sizes[0]
        size = self.size or (source[0], source[1])
        scale = math.exp(uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        window = [max(1, round(length / scale)) for length in size]
        top, left = (_offset(length, part) for length, part in zip(source, window, strict=True))
        angle = uniform(-self.rotation, self.rotation) if self.rotation else 0.0
        coarse = torch.randn(2, self.elastic_grid, self.elastic_grid) * self.elastic if self.elastic else None
        view = View(size, top, left, window[0], window[1], angle, coarse)
        return {"view": view, "places": view.places() if view.is_warped else None}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The part of ``inpt`` that the view shows."""
        view: View = params["view"]
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            return _moved_boxes(inpt, view)
        if isinstance(inpt, tv_tensors.KeyPoints):
            moved = view.moved(inpt.as_subclass(Tensor).float().reshape(-1, 2)).reshape(inpt.shape)
            return tv_tensors.wrap(moved.to(inpt.dtype), like=inpt, canvas_size=view.size)
        plain = inpt.as_subclass(Tensor)
        places = params["places"]
        if isinstance(inpt, tv_tensors.Mask):
            fill = self.ignore_index if inpt.ndim == 2 else 0
            cut = _cut_labels(plain, view, fill) if places is None else sample_labels(plain, places[0], places[1], fill)
            return tv_tensors.wrap(cut, like=inpt)
        fills = channel_fill(self.fill, plain.shape[-3])
        if plain.is_floating_point():
            fills = tuple(value / 255 for value in fills)
        cut = _cut_image(plain, view, fills) if places is None else _warped_image(plain, view, places, fills)
        return tv_tensors.wrap(cut, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else cut


def _offset(length: int, window: int) -> int:
    """Where a window begins along one side: somewhere inside, or so that it holds the whole side."""
    spare = length - window
    begin = int(torch.randint(0, abs(spare) + 1, ()))
    return begin if spare >= 0 else -begin


def _overlap(begin: int, window: int, length: int, result: int) -> tuple[slice, slice]:
    """The part of one side that has a picture: in the source, and in the result."""
    first, last = max(begin, 0), min(begin + window, length)
    low = round((first - begin) * result / window)
    high = round((last - begin) * result / window)
    low = min(low, result - 1)
    return slice(first, last), slice(low, max(high, low + 1))


def _placed(part: Tensor, size: tuple[int, int], rows: slice, columns: slice, fill: Sequence[float]) -> Tensor:
    """``part`` on a canvas of ``fill``, one value a channel or one for all."""
    if tuple(part.shape[-2:]) == size:
        return part
    canvas = part.new_empty((*part.shape[:-2], *size))
    canvas[:] = torch.tensor(fill, dtype=torch.float32).to(part.dtype)[:, None, None] if len(fill) > 1 else fill[0]
    canvas[..., rows, columns] = part
    return canvas


def _cut_image(image: Shaped[Tensor, "C H W"], view: View, fills: Sequence[float]) -> Shaped[Tensor, "C h w"]:
    height, width = image.shape[-2:]
    source_rows, rows = _overlap(view.top, view.height, height, view.size[0])
    source_columns, columns = _overlap(view.left, view.width, width, view.size[1])
    part = image[..., source_rows, source_columns]
    part = functional.resize_image(part, [rows.stop - rows.start, columns.stop - columns.start], antialias=True)
    return _placed(part, view.size, rows, columns, fills)


def _cut_labels(labels: Shaped[Tensor, "*N H W"], view: View, fill: int) -> Shaped[Tensor, "*N h w"]:
    height, width = labels.shape[-2:]
    source_rows, rows = _overlap(view.top, view.height, height, view.size[0])
    source_columns, columns = _overlap(view.left, view.width, width, view.size[1])
    part = labels.index_select(-2, _nearest(source_rows, rows)).index_select(-1, _nearest(source_columns, columns))
    return _placed(part, view.size, rows, columns, (fill,))


def _nearest(source: slice, result: slice) -> Tensor:
    """The source index under the centre of each pixel of the result."""
    length, size = source.stop - source.start, result.stop - result.start
    return source.start + (torch.arange(size) * 2 + 1).mul_(length).div_(2 * size, rounding_mode="floor")


def _warped_image(
    image: Shaped[Tensor, "C H W"], view: View, places: tuple[Tensor, Tensor], fills: Sequence[float]
) -> Shaped[Tensor, "C h w"]:
    """The image read at ``places``; made smaller first where pixels would be skipped."""
    rows, columns = places
    height, width = image.shape[-2:]
    low = [max(0, math.floor(float(place.min())) - 1) for place in places]
    high = [min(length, math.ceil(float(p.max())) + 2) for length, p in zip((height, width), places, strict=True)]
    if low[0] >= high[0] or low[1] >= high[1]:  # every place is outside
        low, high = [0, 0], [1, 1]
        rows = torch.full_like(rows, -9.0)
    part = image[..., low[0] : high[0], low[1] : high[1]]
    lengths = [last - first for first, last in zip(low, high, strict=True)]
    zooms = [min(1.0, to / of) for to, of in zip(view.size, (view.height, view.width), strict=True)]
    smaller = [max(1, round(length * zoom)) for length, zoom in zip(lengths, zooms, strict=True)]
    part = functional.resize_image(part, smaller, antialias=True)
    rows = (rows - low[0] + 0.5) * (smaller[0] / lengths[0]) - 0.5
    columns = (columns - low[1] + 0.5) * (smaller[1] / lengths[1]) - 0.5
    return sample_image(part, rows, columns, fills)


def _moved_boxes(boxes: tv_tensors.BoundingBoxes, view: View) -> tv_tensors.BoundingBoxes:
    """The upright boxes around the moved outlines, clipped to the result; degenerate where nothing is left."""
    form = tv_tensors.BoundingBoxFormat
    require(
        boxes.format in (form.XYXY, form.XYWH, form.CXCYWH),
        "boxes",
        "be upright (XYXY, XYWH or CXCYWH)",
        boxes.format.name,
    )
    xyxy = functional.convert_bounding_box_format(boxes.as_subclass(Tensor), boxes.format, form.XYXY).float()
    steps = torch.linspace(0, 1, OUTLINE_POINTS if view.coarse is not None else 2)
    x = xyxy[:, 0:1] + (xyxy[:, 2:3] - xyxy[:, 0:1]) * steps
    y = xyxy[:, 1:2] + (xyxy[:, 3:4] - xyxy[:, 1:2]) * steps
    left, top, right, bottom = (xyxy[:, side : side + 1].expand_as(x) for side in range(4))
    outline = torch.stack([torch.cat([x, x, left, right], 1), torch.cat([top, bottom, y, y], 1)], dim=-1)
    moved = view.moved(outline.reshape(-1, 2)).reshape(outline.shape)
    height, width = view.size
    limits = torch.tensor([width, height], dtype=torch.float32)
    corners = torch.cat([moved.amin(1).clamp_min(0).minimum(limits), moved.amax(1).clamp_min(0).minimum(limits)], dim=1)
    result = functional.convert_bounding_box_format(corners, form.XYXY, boxes.format)
    return tv_tensors.wrap(result.to(boxes.dtype), like=boxes, canvas_size=view.size)

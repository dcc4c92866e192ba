"""What the predictors of all tasks share: weights ready to use, and pictures in any form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from delineate.checks import require
from delineate.data.image_io import IMAGE_SUFFIXES, image_from_pillow, read_image
from delineate.engine.casting import cast_once
from delineate.engine.folding import folded, rectified
from delineate.engine.packing import packing_pays, with_packed
from delineate.engine.precision import autocast_dtype, resolve_precision
from delineate.engine.streams import in_order
from delineate.engine.weights import ModelCard
from delineate.engine.winograd import winograd_pays, with_winograd
from delineate.errors import DataError
from delineate.structures.detections import Detections
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.semantic_map import SemanticMap
from delineate.structures.taxonomy import Taxonomy

Picture = str | Path | Image.Image | np.ndarray | Tensor


class Predictor(ABC):
    """Weights, preprocessing and class names together; made by :func:`load`, one kind a task.

    Batch normalisation is folded into the convolutions, on the CPU ReLUs too, memory is channels-last, weights are laid
    out in the number format and order that they are multiplied in, and nothing is recorded for gradients.
    Where "auto" chooses the format of a CPU without matrix units, wide 3 x 3 convolutions are Winograd's
    (:mod:`delineate.ops.winograd`); "float32" and "bfloat16" leave them as they are.

    Args:
        model: images to outputs.
        card: what the model is, see :class:`~delineate.engine.weights.ModelCard`.
        precision: "auto", "float32", "bfloat16" or "float16".
        device: where to run; the GPU when there is one.
    """

    def __init__(
        self, model: nn.Module, card: ModelCard, *, precision: str = "auto", device: str | torch.device | None = None
    ) -> None:
        self.card = card
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = resolve_precision(precision, cuda=self.device.type == "cuda")
        self.model = model.eval()
        height, width = getattr(model, "input_size", (64, 64))
        shape = (1, self.preprocessing.channels, height, width)
        example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        fast = folded(self.model, example)
        kind = autocast_dtype(self.precision)
        if self.device.type == "cpu":
            if precision == "auto" and winograd_pays(kind or torch.float32):
                fast = with_winograd(fast, kind or torch.float32)
            if packing_pays():
                fast = rectified(with_packed(fast), example)
        self._fast: nn.Module = fast.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if kind is not None:
            cast_once(self._fast, example.to(self.device, memory_format=torch.channels_last), kind)

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the predictions."""
        return self.card.taxonomy

    @property
    def preprocessing(self) -> Preprocessing:
        """How pixels become the model's input."""
        return self.card.preprocessing

    def outputs(self, images: UInt8[Tensor, "B C H W"]) -> Any:
        """What the model says of images, in its own precision."""
        pixels = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), self._in_precision():
            return self._fast(self.preprocessing(pixels))

    def _in_precision(self) -> torch.autocast:
        """What the model's layers run under."""
        kind = autocast_dtype(self.precision)
        return torch.autocast(self.device.type, dtype=kind, enabled=kind is not None)

    @abstractmethod
    def predict(
        self, image: Picture, *, tile: int | None = None, overlap: int = 64, name: str = "", **options: Any
    ) -> SemanticMap | Detections:
        """What is in one picture, in its own coordinates."""

    def predict_all(self, images: Iterable[Picture], **options: Any) -> Iterator[Any]:
        """One result a picture, in order; made as they are asked for, on the CPU a few ahead.

        Args:
            images: files, PIL images, arrays or tensors.
            options: of :meth:`predict`. With ``tile`` one picture is worked on at a time: memory stays bounded.
        """
        yield from in_order(
            lambda image: self.predict(image, **options), images, at_once=self.at_once(tile=options.get("tile"))
        )

    def at_once(self, *, tile: int | None) -> int | None:
        """How many pictures :func:`~delineate.engine.streams.in_order` may work on at a time."""
        return None if self.device.type == "cpu" and tile is None else 1

    def pixels(self, image: Picture, *, large: bool = False) -> np.ndarray:
        """``(H, W, C)`` uint8 of any way to give a picture.

        Args:
            image: a file, a PIL image, an ``(H, W, C)`` uint8 array or a ``(C, H, W)`` uint8 tensor.
            large: whether files of any size are read.

        Raises:
            DataError: when a file cannot be read as an image, or is too large to take whole.
            ArgumentError: when an array has another shape.
        """
        channels = self.preprocessing.channels
        if isinstance(image, str | Path):
            return read_image(image, channels=channels, **({"max_pixels": None} if large else {}))
        if isinstance(image, Image.Image):
            return image_from_pillow(image, channels=channels)
        if isinstance(image, Tensor):
            require(image.ndim == 3, "image", "be a (C, H, W) tensor", tuple(image.shape))
            image = image.permute(1, 2, 0).cpu().numpy()
        require(
            isinstance(image, np.ndarray), "image", "be a file, a PIL image, an array or a tensor", type(image).__name__
        )
        pixels = image[..., None] if image.ndim == 2 else image
        require(
            pixels.ndim == 3 and pixels.shape[-1] == channels and pixels.dtype == np.uint8 and pixels.size > 0,
            "image",
            f"be (H, W, {channels}) uint8 pixels",
            f"{pixels.dtype} {tuple(pixels.shape)}",
        )
        return pixels


def displayed(pixels: np.ndarray) -> np.ndarray:
    """RGB ``(H, W, 3)`` of pixels with any number of channels: the first one as grey where they are not three."""
    rgb: np.ndarray = pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    return rgb


def as_batch(pixels: np.ndarray) -> Tensor:
    """One picture ``(H, W, C)`` as a batch ``(1, C, H, W)``."""
    # torch warns about arrays that may not be written, such as np.asarray of a PIL image; those are copied
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1)[None]


def image_files(patterns: Iterable[str | Path]) -> list[Path]:
    """The image files that files, folders (walked through) and globs name, sorted within each, none twice.

    Hidden files in folders (``._photo.jpg``, which macOS leaves in archives) are passed over.

    Raises:
        DataError: when one of them names nothing.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            named = (f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
            files = sorted(f for f in named if f.is_file())
        elif path.is_file():
            files = [path]
        else:
            files = _matching(path)
        if not files:
            raise DataError(
                f"image must name a file, a folder with images or a glob; got '{pattern}', which holds none."
            )
        for file in files:
            found.setdefault(file.parent.resolve() / file.name, file)
    return list(found.values())


def _matching(pattern: Path) -> list[Path]:
    """The files that a glob names, sorted; none when it is not a pattern."""
    anchor = Path(pattern.anchor)
    relative = str(pattern.relative_to(anchor)) if pattern.is_absolute() else str(pattern)
    try:
        return sorted(file for file in anchor.glob(relative) if file.is_file())
    except ValueError:  # such as "a**b"
        return []

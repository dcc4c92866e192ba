"""A trained model, ready to use: pixels in, label maps in image coordinates out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from delineate.checks import require
from delineate.data.image_io import IMAGE_SUFFIXES, image_from_pillow, read_image
from delineate.engine.folding import folded
from delineate.engine.precision import autocast_dtype, resolve_precision
from delineate.engine.weights import ModelCard, load_weights
from delineate.errors import DataError
from delineate.postprocess.refinement import Refinement, RefinementOptions
from delineate.postprocess.test_time_augmentation import Infer
from delineate.postprocess.tiling import predict_tiled
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.semantic_map import SemanticMap
from delineate.structures.taxonomy import Taxonomy

Picture = str | Path | Image.Image | np.ndarray | Tensor


class Predictor:
    """Weights, preprocessing and class names together; makes label maps of pictures.

    Batch normalisation is folded into the convolutions, memory is channels-last, and nothing is recorded for gradients.

    Args:
        model: images to SemanticOutputs.
        card: what the model is, see :class:`~delineate.engine.weights.ModelCard`.
        precision: "auto", "float32", "bfloat16" or "float16".
        device: where to run; the GPU when there is one.

    Attributes:
        refinement: what is done to the model's answers; nothing at first, see :meth:`refined`.
    """

    def __init__(
        self, model: nn.Module, card: ModelCard, *, precision: str = "auto", device: str | torch.device | None = None
    ) -> None:
        self.card = card
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = resolve_precision(precision, cuda=self.device.type == "cuda")
        self.refinement = Refinement()
        self.model = model.eval()
        example = torch.randn(1, self.preprocessing.channels, 64, 64, generator=torch.Generator().manual_seed(0))
        fast = folded(self.model, example)
        self._fast = fast.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the predicted labels."""
        return self.card.taxonomy

    @property
    def preprocessing(self) -> Preprocessing:
        """How pixels become the model's input."""
        return self.card.preprocessing

    def logits(self, images: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        """Scores before the softmax, float32, at the size of ``images``."""
        pixels = images.to(self.device).contiguous(memory_format=torch.channels_last)
        kind = autocast_dtype(self.precision)
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=kind, enabled=kind is not None):
            outputs = self._fast(self.preprocessing(pixels))
        scores: Tensor = outputs.logits.float()
        return scores

    def refined(self, **refinement: Unpack[RefinementOptions]) -> Predictor:
        """The same predictor, on the same weights, whose answers are refined.

        Args:
            refinement: ``tta``, ``crf``, ``superpixels``, ``islands``, ``holes``, see
                :class:`~delineate.postprocess.refinement.Refinement`; what is not named stays as it is here.

        Raises:
            ArgumentError: when one of them has another form.
            UnknownNameError: when one of them names what is not known; says the nearest.
        """
        other = copy.copy(self)
        other.refinement = replace(self.refinement, **refinement)
        return other

    def inference(self) -> Infer:
        """Images to logits: :meth:`logits`, over views, with CRF and superpixels as far as they are asked for.

        Islands and holes are removed from label maps only, by ``refinement.cleaned``.
        """
        return self.refinement.over(self.logits)

    def predict(
        self,
        image: Picture,
        *,
        tile: int | None = None,
        overlap: int = 64,
        name: str = "",
        **refinement: Unpack[RefinementOptions],
    ) -> SemanticMap:
        """The label and its probability at every pixel of one picture.

        Args:
            image: a file, a PIL image, an ``(H, W, C)`` uint8 array or a ``(C, H, W)`` uint8 tensor.
            tile: work through the picture in squares of this many pixels, in bounded memory.
            overlap: pixels that neighbouring tiles share; their logits are blended.
            name: what the result is called; the file's stem when left out.
            refinement: ``tta="flip,scale"``, ``crf="default"``, ``superpixels="slic"``, ``islands=50``, ``holes=20``;
                see :class:`~delineate.postprocess.refinement.Refinement`. With tiles, CRF and superpixels see one at a
                time. A pixel whose label is changed by islands or holes has the score 0: the model gave it another.

        Raises:
            DataError: when a file cannot be read as an image, or is too large to take whole.
            ArgumentError: when a tile is not larger than its overlap, or an array has another shape.
        """
        if refinement:
            return self.refined(**refinement).predict(image, tile=tile, overlap=overlap, name=name)
        pixels = self._pixels(image, large=tile is not None)
        infer = self.inference()
        labels: np.ndarray
        scores: np.ndarray | None
        if tile is None:
            labels, scores = _decide(infer(_batch(pixels)))
        else:
            classes = self.taxonomy.num_classes
            tiled = predict_tiled(pixels, infer, num_classes=classes, tile=tile, overlap=overlap, batch_size=1)
            labels, scores = tiled.labels, tiled.scores
        cleaned = self.refinement.cleaned(labels, ignore_index=self.taxonomy.ignore_index)
        if cleaned is not labels and scores is not None:
            scores = np.where(cleaned == labels, scores, np.zeros((), scores.dtype))
        shown = displayed(pixels)
        name = name or (Path(image).stem if isinstance(image, str | Path) else "")
        return SemanticMap(labels=cleaned, taxonomy=self.taxonomy, image=shown, scores=scores, name=name)

    def predict_all(self, images: Iterable[Picture], **options: Any) -> Iterator[SemanticMap]:
        """One result a picture, made as they are asked for."""
        for image in images:
            yield self.predict(image, **options)

    def _pixels(self, image: Picture, *, large: bool) -> np.ndarray:
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


def _batch(pixels: np.ndarray) -> Tensor:
    # torch warns about arrays that may not be written, such as np.asarray of a PIL image; those are copied
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1)[None]


def _decide(logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Labels and their probabilities of one image's logits."""
    best, labels = logits[0].max(0)
    scores = torch.exp(best - torch.logsumexp(logits[0], 0))
    kind = np.uint8 if logits.shape[1] <= 256 else np.int32
    return labels.cpu().numpy().astype(kind), scores.cpu().numpy()


def load(path: str | Path, *, precision: str = "auto", device: str | torch.device | None = None) -> Predictor:
    """The predictor of a run folder or of a ``model.safetensors``; nothing is unpickled.

    Raises:
        RunError: when the weights are missing, damaged or belong to another architecture.
    """
    model, card = load_weights(path)
    return Predictor(model, card, precision=precision, device=device)


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

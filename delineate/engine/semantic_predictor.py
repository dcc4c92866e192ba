"""A trained segmenter, ready to use: pixels in, label maps in image coordinates out."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from delineate.engine.predictor import Picture, Predictor, as_batch, displayed
from delineate.postprocess.refinement import Refinement, RefinementOptions
from delineate.postprocess.test_time_augmentation import Infer
from delineate.postprocess.tiling import predict_tiled
from delineate.structures.semantic_map import SemanticMap


class SemanticPredictor(Predictor):
    """Makes label maps of pictures.

    Args:
        arguments, options: of :class:`~delineate.engine.predictor.Predictor`.

    Attributes:
        refinement: what is done to the model's answers; nothing at first, see :meth:`refined`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.refinement = Refinement()

    def logits(self, images: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        """Scores before the softmax, float32, at the size of ``images``."""
        scores: Tensor = self.outputs(images).logits.float()
        return scores

    def refined(self, **refinement: Unpack[RefinementOptions]) -> SemanticPredictor:
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

    def predict(  # type: ignore[override] # its options by name, where the base takes any
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
        pixels = self.pixels(image, large=tile is not None)
        infer = self.inference()
        labels: np.ndarray
        scores: np.ndarray | None
        if tile is None:
            labels, scores = _decide(infer(as_batch(pixels)))
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


def _decide(logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Labels and their probabilities of one image's logits."""
    values = logits[0].contiguous()  # class by class, sums over them take a third of the time
    classes = len(values)
    best = values.amax(0)
    # torch.max with its indices takes twice as long as this: the first of those that are best has the highest rank
    rank = torch.arange(classes, 0, -1, dtype=torch.uint8 if classes <= 255 else torch.int32, device=values.device)
    labels = classes - ((values == best) * rank[:, None, None]).amax(0).clamp_(min=1).int()
    scores = (values - best).exp_().sum(0).reciprocal_()
    return labels.cpu().numpy().astype(np.uint8 if classes <= 256 else np.int32), scores.cpu().numpy()

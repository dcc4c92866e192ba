"""Samples become batches: stacked when they are of one size, padded with "look away" when they are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class SemanticBatch:
    """Images and label maps of one batch.

    Args:
        images: ``(B, C, H, W)`` uint8.
        target: ``(B, H, W)`` int64 labels; padding carries the ignored label.
        sizes: the height and width of each image before padding.
        indices: the index of each sample in its data set.
        valid_classes: ``(B, K)`` bool, the classes that each image's data set labels; None where all label all.
    """

    images: Tensor
    target: Tensor
    sizes: tuple[tuple[int, int], ...]
    indices: tuple[int, ...]
    valid_classes: Tensor | None = None

    def to(self, device: torch.device, *, non_blocking: bool = False) -> SemanticBatch:
        """The same batch on another device."""
        return SemanticBatch(
            self.images.to(device, non_blocking=non_blocking),
            self.target.to(device, non_blocking=non_blocking),
            self.sizes,
            self.indices,
            None if self.valid_classes is None else self.valid_classes.to(device, non_blocking=non_blocking),
        )

    def unpadded(self) -> Iterator[SemanticBatch]:
        """The batch itself where its images are of one size, else each image by itself, cut to its own size.

        A model sees padding, even where no score counts it; so what is measured on it is measured without.
        """
        if len(set(self.sizes)) == 1:
            yield self
            return
        for place, (height, width) in enumerate(self.sizes):
            yield SemanticBatch(
                self.images[place : place + 1, :, :height, :width],
                self.target[place : place + 1, :height, :width],
                self.sizes[place : place + 1],
                self.indices[place : place + 1],
                None if self.valid_classes is None else self.valid_classes[place : place + 1],
            )

    def pin_memory(self) -> SemanticBatch:
        """The same batch in page-locked memory, for copies that overlap with work on a GPU."""
        valid = None if self.valid_classes is None else self.valid_classes.pin_memory()
        return SemanticBatch(self.images.pin_memory(), self.target.pin_memory(), self.sizes, self.indices, valid)


@dataclass(frozen=True)
class SemanticCollate:
    """Stack samples to a :class:`SemanticBatch`; smaller ones are padded at the bottom and right.

    Args:
        ignore_index: the label of padded pixels.
    """

    ignore_index: int = 255

    def __call__(self, samples: Sequence[tuple[Tensor, dict[str, Any]]]) -> SemanticBatch:
        """Images padded by repeating their edge, targets by ``ignore_index``."""
        sizes = tuple((int(image.shape[-2]), int(image.shape[-1])) for image, _ in samples)
        height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
        images, targets = [], []
        for (image, target), (h, w) in zip(samples, sizes, strict=True):
            pixels, labels = image.as_subclass(Tensor), target["semantic_mask"].as_subclass(Tensor)
            if (h, w) != (height, width):
                missing = (0, width - w, 0, height - h)
                pixels = pad(pixels[None].float(), missing, mode="replicate")[0].to(image.dtype)
                labels = pad(labels, missing, value=self.ignore_index)
            images.append(pixels)
            targets.append(labels.long())
        indices = tuple(int(target["image_id"]) for _, target in samples)
        valid = [target["valid_classes"] for _, target in samples if "valid_classes" in target]
        valid_classes = torch.stack(valid) if valid else None
        return SemanticBatch(torch.stack(images), torch.stack(targets), sizes, indices, valid_classes)

"""Samples with objects become batches: images padded to one size, targets as they are, for their number differs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ObjectBatch:
    """Images and objects of one batch.

    Args:
        images: ``(B, C, H, W)`` uint8, smaller ones with zeros below and to the right: places stay where they are.
        sizes: the height and width of each image before padding.
        targets: of each image, plain tensors: "boxes" (N, 4) xyxy, "labels" (N,), and what else the data have. "masks"
            are of the image's own size.
        indices: the index of each sample in its data set.
    """

    images: Tensor
    sizes: tuple[tuple[int, int], ...]
    targets: tuple[dict[str, Tensor], ...]
    indices: tuple[int, ...]

    def to(self, device: torch.device, *, non_blocking: bool = False) -> ObjectBatch:
        """The same batch on another device."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ObjectBatch:
        """The same batch in page-locked memory, for copies that overlap with work on a GPU."""
        return self._with(Tensor.pin_memory)

    def unpadded(self) -> Iterator[ObjectBatch]:
        """The batch itself where its images are of one size, else each image by itself, cut to its own size."""
        if len(set(self.sizes)) == 1:
            yield self
            return
        for place, (height, width) in enumerate(self.sizes):
            here = slice(place, place + 1)
            images = self.images[here, :, :height, :width]
            yield ObjectBatch(images, self.sizes[here], self.targets[here], self.indices[here])

    def __getstate__(self) -> dict[str, Any]:
        """One tensor a key: between processes every tensor is an open file, of which a system allows a thousand."""
        keys = sorted({key for target in self.targets for key in target})
        packed = {}
        for key in keys:
            held = [target.get(key) for target in self.targets]
            flat = torch.cat([value.reshape(-1) for value in held if value is not None])
            packed[key] = flat, [None if value is None else tuple(value.shape) for value in held]
        return {"images": self.images, "sizes": self.sizes, "indices": self.indices, "packed": packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        targets: list[dict[str, Tensor]] = [{} for _ in state["sizes"]]
        for key, (flat, shapes) in state["packed"].items():
            start = 0
            for target, shape in zip(targets, shapes, strict=True):
                if shape is not None:
                    count = math.prod(shape)
                    target[key] = flat[start : start + count].reshape(shape)
                    start += count
        for name, value in {**state, "targets": tuple(targets)}.items():
            if name != "packed":
                object.__setattr__(self, name, value)

    def _with(self, move: Callable[[Tensor], Tensor]) -> ObjectBatch:
        targets = tuple({key: move(value) for key, value in target.items()} for target in self.targets)
        return replace(self, images=move(self.images), targets=targets)


def object_collate(samples: Sequence[tuple[Tensor, dict[str, Any]]]) -> ObjectBatch:
    """Samples as an :class:`ObjectBatch`; what is no tensor in a target, such as its "stem", stays behind.

    Args:
        samples: ``(image, target)`` as :class:`~delineate.data.object_dataset.ObjectDataset` has them, each with an
            "image_id", one at least.

    Example:
        >>> image = torch.ones(3, 2, 5, dtype=torch.uint8)
        >>> target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "image_id": 4}
        >>> batch = object_collate([(image, target), (image[:, :1], target)])
        >>> tuple(batch.images.shape), batch.sizes, batch.indices
        ((2, 3, 2, 5), ((2, 5), (1, 5)), (4, 4))
    """
    sizes = tuple((int(image.shape[-2]), int(image.shape[-1])) for image, _ in samples)
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    first = samples[0][0]
    images = torch.zeros(len(samples), first.shape[0], height, width, dtype=first.dtype)
    for row, ((image, _), (h, w)) in enumerate(zip(samples, sizes, strict=True)):
        images[row, :, :h, :w] = image.as_subclass(Tensor)
    targets = tuple(
        {key: value.as_subclass(Tensor) for key, value in target.items() if isinstance(value, Tensor)}
        for _, target in samples
    )
    return ObjectBatch(images, sizes, targets, tuple(int(target["image_id"]) for _, target in samples))

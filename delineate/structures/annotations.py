"""What is true of a set of images: their names and sizes, the classes, and the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Int64

from delineate.checks import require
from delineate.structures.objects import Objects


@dataclass(frozen=True, eq=False)
class Annotations:
    """Images, classes and true objects.

    Args:
        image_ids: what the file calls each image (COCO: numbers; VOC, YOLO: names), ascending: of predictions with the
            same score those of an earlier image come first, as in pycocotools.
        image_sizes: (height, width), zeros where the file does not say.
        image_files: file names, "" where the file does not say.
        classes: names, all different.
        class_ids: what the file calls each class; numbers from 0 when left out.
        objects: the true objects; ``images`` and ``labels`` refer to the above.
        keypoint_names: one for each keypoint of a person, () without keypoints.

    Raises:
        ArgumentError: on ids that repeat or do not ascend, and on objects whose image or class does not exist.

    Example:
        >>> objects = Objects.of(images=[1], labels=[0], boxes=[[0, 0, 4, 5]])
        >>> Annotations.of(("a", "b"), ("cell",), objects).image_index("b")
        1
    """

    image_ids: tuple[int, ...] | tuple[str, ...]
    image_sizes: Int64[np.ndarray, "I 2"]
    image_files: tuple[str, ...]
    classes: tuple[str, ...]
    class_ids: tuple[int, ...]
    objects: Objects
    keypoint_names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        image_ids: Sequence[int] | Sequence[str],
        classes: Sequence[str],
        objects: Objects,
        *,
        image_sizes: Sequence[tuple[int, int]] | Int64[np.ndarray, "I 2"] | None = None,
        image_files: Sequence[str] | None = None,
        class_ids: Sequence[int] | None = None,
        keypoint_names: Sequence[str] = (),
    ) -> Annotations:
        """Annotations of plain sequences; what is left out takes its default."""
        sizes = np.zeros((len(image_ids), 2), np.int64) if image_sizes is None else np.asarray(image_sizes, np.int64)
        return cls(
            image_ids=tuple(image_ids),  # type: ignore[arg-type]
            image_sizes=sizes.reshape(-1, 2),
            image_files=("",) * len(image_ids) if image_files is None else tuple(image_files),
            classes=tuple(classes),
            class_ids=tuple(range(len(classes))) if class_ids is None else tuple(class_ids),
            objects=objects,
            keypoint_names=tuple(keypoint_names),
        )

    def __post_init__(self) -> None:
        images, classes = len(self.image_ids), len(self.classes)
        require(
            all(a < b for a, b in pairwise(self.image_ids)),  # type: ignore[operator]
            "image_ids",
            "ascend without repeating",
            _first_fall(self.image_ids),
        )
        require(
            len(self.image_sizes) == images, "image_sizes", f"hold {images} sizes, one an image", len(self.image_sizes)
        )
        require(
            len(self.image_files) == images, "image_files", f"hold {images} names, one an image", len(self.image_files)
        )
        require(len(self.class_ids) == classes, "class_ids", f"hold {classes} ids, one a class", len(self.class_ids))
        require(len(set(self.classes)) == classes, "classes", "not repeat a name", self.classes)
        require(len(set(self.class_ids)) == classes, "class_ids", "not repeat an id", self.class_ids)
        for name, limit in (("images", images), ("labels", classes)):
            column = getattr(self.objects, name)
            require(
                len(column) == 0 or int(column.max()) < limit,
                f"objects.{name}",
                f"be below {limit}",
                int(column.max()) if len(column) else None,
            )

    @property
    def num_images(self) -> int:
        """The number of images, those without objects included."""
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """The number of classes, those without objects included."""
        return len(self.classes)

    def image_index(self, image_id: int | str) -> int:
        """The index of the image that the file calls ``image_id``.

        Raises:
            ArgumentError: when there is none.
        """
        require(image_id in self.image_ids, "image_id", "be that of an annotated image", image_id)
        return self.image_ids.index(image_id)

    def class_agnostic(self) -> Annotations:
        """The same with all classes taken as one, called "object"; see :meth:`Objects.class_agnostic`."""
        return replace(self, classes=("object",), class_ids=(0,), objects=self.objects.class_agnostic())


def _first_fall(values: Sequence[int] | Sequence[str]) -> str:
    for a, b in pairwise(values):
        if not a < b:  # type: ignore[operator]
            return f"{b!r} after {a!r}"
    return ""

"""What every evaluation keeps: the numbers, and how each image did."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from delineate.data.samples import AnySamples
from delineate.engine.predictor import Predictor
from delineate.errors import DataError
from delineate.files import write_json


class AnyImageScore(Protocol):
    """How one image did: besides these two, the task's own figures."""

    @property
    def index(self) -> int:
        """In the data set."""
        ...

    @property
    def name(self) -> str:
        """Its stem."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """The scores of a predictor on a split.

    Args:
        scores: nested numbers of the task.
        images: how each image did, in the data set's order.
        split: what was evaluated.
        data: its path.
        skipped: files of the data set that were left out.
    """

    scores: dict[str, Any]
    images: tuple[AnyImageScore, ...]
    split: str = ""
    data: str = ""
    skipped: tuple[str, ...] = field(default=())

    def write(self, path: str | Path) -> None:
        """Write all of it as JSON, whole or not at all; undefined numbers are null."""
        write_json(
            Path(path),
            {
                "data": self.data,
                "split": self.split,
                **self.scores,
                "images": [vars(image) for image in self.images],
                "skipped": list(self.skipped),
            },
        )


def check_classes(predictor: Predictor, data: AnySamples) -> None:
    """Raise :class:`~delineate.errors.DataError` unless the data has the predictor's classes, in their order."""
    ours, theirs = predictor.taxonomy.names, data.taxonomy.names
    if len(ours) != len(theirs):
        raise DataError(
            f"data must have the {len(ours)} classes the model was trained on; got {len(theirs)} in '{data.name}'. "
            f"The model knows: {', '.join(ours)}."
        )
    if set(ours) == set(theirs) and ours != theirs:
        raise DataError(
            f"data must have its classes in the order the model was trained on, {', '.join(ours)}; got "
            f"{', '.join(theirs)} in '{data.name}'. Sort its class list (and the ids in its masks) that way."
        )

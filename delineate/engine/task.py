"""What a task is to the engine: one row across the floors, from the data to what is learnt and how it is scored.

The engine's own files know no task by name. They ask the row of the recipe's model (:mod:`delineate.engine.tasks`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from delineate.data.mixing import Mixing
from delineate.engine.learner import Learner
from delineate.engine.proposing import Proposer
from delineate.engine.recipe import Recipe
from delineate.structures.preprocessing import Preprocessing

Transform = Callable[..., Any]


class Task(ABC):
    """A task family.

    Attributes:
        name: as in the catalogue of models.
        monitor: the logged validation score of which the largest is best.
        monitored: what people call it.
        target_keys: what of a sample's target is learnt from; nothing else is augmented, kept in memory or sent.
    """

    name: str
    monitor: str
    monitored: str
    target_keys: tuple[str, ...]

    @abstractmethod
    def open_split(self, recipe: Recipe, split: str) -> Any:
        """A split of the recipe's data."""

    @abstractmethod
    def check_data(self, samples: Any, recipe: Recipe) -> None:
        """Raise where the data do not allow what the recipe asks for."""

    @abstractmethod
    def fitted(self, recipe: Recipe, samples: Any, model: nn.Module) -> Recipe:
        """The recipe with what images and model decide where it leaves that open, such as the size of crops."""

    @abstractmethod
    def sample_weights(self, recipe: Recipe, samples: Any) -> list[float] | None:
        """How often each training image comes; None for once an epoch."""

    @abstractmethod
    def mixings(self, recipe: Recipe, samples: Any) -> Sequence[Mixing]:
        """What makes one of several training samples."""

    @abstractmethod
    def train_transform(self, recipe: Recipe, samples: Any) -> Transform:
        """The training augmentation of ``(image, target)``."""

    @abstractmethod
    def eval_transform(self, recipe: Recipe, samples: Any) -> Transform | None:
        """What validation samples pass through; None for nothing."""

    @abstractmethod
    def collate(self, samples: Any) -> Callable[[Any], Any]:
        """Samples to a batch with ``images``, ``indices``, ``to`` and ``pin_memory``."""

    @abstractmethod
    def losses(self, recipe: Recipe, samples: Any, *, counted: bool = True) -> nn.Module:
        """The recipe's loss, tried on outputs of the model's kind as far as that needs no image.

        Args:
            recipe: of one stage.
            samples: of the training split.
            counted: also count on the images what a loss asks to be counted; else take anything in its place.

        Raises:
            DelineateError: when the loss does not fit the model or the data.
        """

    @abstractmethod
    def learner(
        self,
        model: nn.Module,
        losses: nn.Module,
        *,
        recipe: Recipe,
        preprocessing: Preprocessing,
        samples: Any,
        total_steps: int,
        proposer: Proposer | None = None,
    ) -> Learner:
        """The LightningModule; ``proposer`` is there where the recipe's ``start.proposals`` is."""

    def watched(self, recipe: Recipe) -> tuple[str, str]:
        """The logged score of which the largest is best in a run of this recipe, and what people call it."""
        return self.monitor, self.monitored

    def decided(self, samples: Any) -> dict[str, Any]:
        """Options of the model that the data decide, beside the numbers of classes and channels."""
        return {}

    def card_facts(self, recipe: Recipe, samples: Any) -> dict[str, Any]:
        """What the model card says beyond the model, its preprocessing and its classes."""
        return {}

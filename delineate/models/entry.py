"""One row of the catalogue of models."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module
else:
    Module = Any  # torch takes seconds to import, and a list of names needs none of it


@dataclass(frozen=True)
class ModelEntry:
    """One row of the catalogue.

    Args:
        name: what :func:`create_model` takes.
        factory: ``"module:function"``; imported when a model is built, so that listing stays cheap.
        task: the task family whose outputs the model returns.
        paper: authors, title, venue.
        year: of publication.
        summary: one line for a table.
        encoder: the default encoder's name, or None when the architecture has no exchangeable one.
        loss: what it learns from unless a recipe says otherwise, by its name in the task's catalogue of losses.
    """

    name: str
    factory: str
    task: str
    paper: str
    year: int
    summary: str
    encoder: str | None = None
    loss: str = "cross_entropy"

    def load(self) -> Callable[..., Module]:
        """The factory function itself."""
        module, function = self.factory.split(":")
        loaded: Callable[..., Module] = getattr(importlib.import_module(module), function)
        return loaded

    @property
    def citation(self) -> str:
        """The paper as a text names it.

        Example:
            >>> ModelEntry("x", "m:f", "semantic", "Yu, Koltun: Multi-Scale Context, ICLR", 2016, "").citation
            'Yu and Koltun 2016'
        """
        authors = self.paper.partition(":")[0].split(", ")
        if len(authors) == 1 and authors[0].endswith(" et al."):
            return f"{authors[0]} {self.year}"
        names = " and ".join(authors) if len(authors) < 3 else f"{authors[0]} et al."
        return f"{names} {self.year}"

"""How pixels become a model's input when it starts from weights that another run trained: as that run knew them."""

from __future__ import annotations

from torch import nn

from delineate.engine.recipe import Recipe
from delineate.engine.run import Run
from delineate.engine.weights import card_beside
from delineate.errors import RecipeError
from delineate.models.pretrained import MatchReport
from delineate.structures.preprocessing import Preprocessing


def started_preprocessing(
    model: nn.Module, recipe: Recipe, started: MatchReport | None, resumed: Run | None = None
) -> tuple[Preprocessing, str]:
    """How pixels become the model's input, and a line on where that is from; "" where there is nothing to say.

    A network has learned its weights on pixels that were brought to some mean and spread. Where the layer that sees the
    pixels is a run's, so is the preprocessing. A run that goes on keeps what it began with: its model is made without
    published weights then, and what it started from may be gone.

    Args:
        model: with its starting weights.
        recipe: of one stage.
        started: which of them were taken; None for none.
        resumed: the run that goes on, if it does.

    Raises:
        RecipeError: when the model insists on another one than the run's.
    """
    begun = resumed.read_environment().get("sessions", [{}])[-1].get("preprocessing") if resumed is not None else None
    if begun is not None:
        return Preprocessing.from_dict(begun), ""
    own = getattr(model, "preprocessing", None)
    preprocessing: Preprocessing = own or Preprocessing.for_channels(recipe.data.channels)
    card = None if started is None else card_beside(recipe.start.weights)
    if started is None or card is None or card.preprocessing == preprocessing:
        return preprocessing, ""
    theirs = f"mean {_shortly(card.preprocessing.mean)}, std {_shortly(card.preprocessing.std)}"
    seeing = next((name for name, weight in model.named_parameters() if weight.ndim == 4), "")
    if seeing not in started.loaded:
        return preprocessing, f"preprocessing: the usual one, not the weights' ({theirs}), as their first layer differs"
    if own is not None:
        raise RecipeError(
            f"start.weights must know pixels as '{recipe.model['name']}' does (mean {_shortly(own.mean)}, std "
            f"{_shortly(own.std)}); got '{recipe.start.weights}' ({theirs}). Leave out model.weights."
        )
    return card.preprocessing, f"preprocessing: that of the weights, {theirs}"


def _shortly(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in values) + "]"

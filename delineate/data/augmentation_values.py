"""Values of an augmentation as recipes hold them: a preset's name, and what is changed of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from delineate.errors import RecipeError
from delineate.registry import Registry, nearest_name


class AugmentationValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every augmentation of a recipe has.

    Args:
        preset: the name of the preset the values began with.
    """

    preset: str = "medium"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML or JSON, in the order of the fields; ``resolved`` reads them back."""
        values: dict[str, Any] = msgspec.to_builtins(self, builtin_types=())
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


Values = TypeVar("Values", bound=AugmentationValues)


def hold(holds: bool, key: str, condition: str, got: object) -> None:
    """Raise RecipeError naming the recipe's key unless ``holds``."""
    if not holds:
        raise RecipeError(f"augmentation.{key} must {condition}; got {got}.")


def over_preset(values: Mapping[str, Any], presets: Registry[Values], kinds: Mapping[str, str]) -> Values:
    """The preset named in ``values`` (or "medium") with every other value that is given put in its place.

    Args:
        values: as a recipe holds them: lists for tuples.
        presets: by name.
        kinds: what a value of each key must be, where that is not "be a number".

    Raises:
        RecipeError: on an unknown preset or key (the message says the nearest) or a value of the wrong kind or range.
    """
    name = values.get("preset", "medium")
    if name not in presets:
        raise _unknown("augmentation.preset", "preset", str(name), tuple(presets))
    base = presets[name]
    fields = {field.name: field.type for field in msgspec.structs.fields(base)}
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise _unknown(f"augmentation.{key}", "key", str(key), tuple(fields))
        try:
            given[key] = msgspec.convert(value, fields[key])
        except msgspec.ValidationError:
            hold(False, key, kinds.get(key, "be a number"), repr(value))
    return msgspec.structs.replace(base, **given)


def _unknown(place: str, kind: str, name: str, known: Sequence[str]) -> RecipeError:
    near = nearest_name(name, known)
    hint = f"Did you mean '{near}'?" if near else f"Known: {', '.join(known)}."
    return RecipeError(f"{place} must be a known {kind}; got '{name}'. {hint}")

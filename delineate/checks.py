"""Argument checks, stated once at the public edge.

Each check raises :class:`~delineate.errors.ArgumentError` in the house's form
``{argument} must {condition}; got {value}. {what to do}``.
"""

from __future__ import annotations

from typing import Any

from delineate.errors import ArgumentError


def require(holds: bool, argument: str, condition: str, got: Any, advice: str = "") -> None:
    """Raise unless ``holds``.

    Args:
        holds: the condition itself.
        argument: the argument's name, as the caller wrote it.
        condition: what must be true, as the rest of a sentence ("be (N, 4) xyxy pixels").
        got: the value, or the part of it that matters (a shape rather than a tensor).
        advice: what to do about it, a full sentence; may be empty.

    Raises:
        ArgumentError: when ``holds`` is false.

    Example:
        >>> require(False, "overlap", "be smaller than tile", 64, "Pass a larger tile.")
        Traceback (most recent call last):
        ...
        delineate.errors.ArgumentError: overlap must be smaller than tile; got 64. Pass a larger tile.
    """
    if not holds:
        raise ArgumentError(f"{argument} must {condition}; got {got}.{' ' + advice if advice else ''}")

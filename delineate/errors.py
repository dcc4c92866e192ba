"""Every error delineate raises on purpose, so that callers can catch one family.

Messages follow one form: ``{argument} must {condition}; got {value}. {what to do}``.
The command line prints the message as one line and exits with 1; nothing here carries a traceback to a user.
"""

from __future__ import annotations


class DelineateError(Exception):
    """The family: anything delineate raises on purpose."""


class ArgumentError(DelineateError, ValueError):
    """A public function got a value it cannot work with."""


class UnknownNameError(DelineateError, LookupError):
    """A name that is not in a registry, a recipe or a taxonomy; the message carries the nearest known one."""


class DataError(DelineateError, ValueError):
    """A file or a record of a data set cannot be used; the message names it."""


class RecipeError(DelineateError, ValueError):
    """A recipe key or value is wrong; the message names the key."""


class RunError(DelineateError, RuntimeError):
    """A run folder, a checkpoint or a weights file is missing, incomplete or from another model."""


class NonFiniteLossError(DelineateError, ArithmeticError):
    """The training loss became NaN or infinite; the message names the files of the batch."""


class MissingDependencyError(DelineateError, ImportError):
    """An optional library is needed for this call; the message says which extra installs it."""

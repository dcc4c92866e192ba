"""Means and shares in which what is undefined stays undefined."""

from __future__ import annotations

import numpy as np


def defined_mean(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN when none is.

    Example:
        >>> defined_mean(np.array([0.5, np.nan, 1.0])), defined_mean(np.array([]))
        (0.75, nan)
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where the whole is 0.

    Example:
        >>> share(np.array([1, 0]), np.array([4, 0])).tolist()
        [0.25, nan]
    """
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=np.asarray(whole) > 0)

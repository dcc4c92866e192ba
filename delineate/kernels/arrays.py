"""Arrays as kernels take them, so that numba compiles each kernel once."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike


def frozen(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """The array read-only, contiguous and of one type; copied only where it is not that already.

    Numba compiles once more for each mixture of types, of layouts, and of writable and read-only arguments.

    Args:
        array: itself stays writable.
        dtype: the array's own when None.
    """
    view: np.ndarray = np.asarray(array, dtype, order="C").view()
    view.flags.writeable = False
    return view

import numpy as np
import pytest
from numba import njit

from delineate.kernels.arrays import frozen


def test_by_hand():
    array = np.array([[1, 2], [3, 4]], np.int32)
    found = frozen(array.T, np.float64)
    assert found.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert (found.dtype, found.flags.c_contiguous, found.flags.writeable) == (np.float64, True, False)
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 7


@pytest.mark.parametrize("dtype", [None, np.int32])
def test_what_fits_is_not_copied_and_stays_writable(dtype):
    array = np.arange(3, dtype=np.int32)
    found = frozen(array, dtype)
    array[1] = 7
    assert found.tolist() == [0, 7, 2]
    assert found.dtype == np.int32


def test_the_order_in_memory_is_that_of_the_indices():
    array = np.arange(24).reshape(2, 3, 4)
    for view in (array[:, ::2], array.transpose(2, 0, 1), array[..., 1], np.asfortranarray(array), array[:, :0]):
        found = frozen(view)
        assert found.flags.c_contiguous
        assert np.array_equal(found, view)


def test_a_single_number_keeps_its_shape():
    assert frozen(np.array(3)).shape == ()


def test_a_kernel_is_compiled_once():
    total = njit(lambda values: values.sum())
    read_only = np.arange(4.0)
    read_only.flags.writeable = False
    mixture = (np.arange(4.0), np.arange(8.0)[::2], read_only, np.arange(4), np.arange(4, dtype=np.float32))
    sums = [total(frozen(values, np.float64)) for values in mixture]
    assert sums == [6.0, 12.0, 6.0, 6.0, 6.0]
    assert len(total.signatures) == 1

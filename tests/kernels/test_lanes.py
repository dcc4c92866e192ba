import numpy as np
import pytest
from numba import njit

from delineate.kernels.lanes import (
    LANES,
    LOWEST,
    add,
    exponential,
    fill,
    larger,
    largest,
    load,
    multiply_add,
    store,
    total,
)


@njit
def _exponentials(x, out):
    for i in range(0, x.size, LANES):
        store(out, i, exponential(load(x, i)))


@njit
def _reductions(x, y, out):
    for i in range(0, x.size, LANES):
        a, b = load(x, i), load(y, i)
        store(out, i, multiply_add(a, b, add(larger(a, b), fill(np.float32(0.5)))))
    return largest(load(x, 0)), total(load(x, 0))


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).normal(size=(2, 8 * LANES)).astype(np.float32)


def test_the_exponential_is_exact_to_float32():
    x = np.linspace(LOWEST, 0, 20_000 // LANES * LANES, dtype=np.float32)
    out = np.empty_like(x)
    _exponentials(x, out)
    assert np.abs(out[x > LOWEST] / np.exp(x[x > LOWEST].astype(float)) - 1).max() < 2e-7
    assert out[-1] == 1


def test_the_exponential_ends_in_zero_and_never_in_a_denormal_number():
    x = np.array([LOWEST, -100, -1e30, -np.inf] * (LANES // 4), np.float32)
    out = np.empty_like(x)
    _exponentials(x, out)
    assert not out.any()


def test_arithmetic_equals_numpy(numbers):
    x, y = numbers
    out = np.empty_like(x)
    top, whole = _reductions(x, y, out)
    assert np.allclose(out, x * y + np.maximum(x, y) + 0.5, rtol=1e-6, atol=1e-6)
    assert top == x[:LANES].max()
    assert whole == pytest.approx(x[:LANES].sum(), rel=1e-5)


def test_a_load_may_begin_anywhere(numbers):
    x, out = numbers[0].copy(), np.empty(LANES, np.float32)
    _exponentials(-np.abs(x[3 : 3 + LANES]), out)
    assert np.allclose(out, np.exp(-np.abs(x[3 : 3 + LANES])), rtol=1e-6)

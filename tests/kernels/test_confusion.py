import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.kernels import confusion
from delineate.kernels.confusion import confusion_counts


def naive(target, prediction, num_classes, ignore_index=255):
    """The definition, pixel by pixel."""
    counts, missed = np.zeros((num_classes, num_classes), np.int64), [0] * num_classes
    for t, p in zip(target.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if 0 <= t < num_classes and t != ignore_index:
            if 0 <= p < num_classes:
                counts[t, p] += 1
            else:
                missed[t] += 1
    return counts, missed


def test_by_hand():
    target = np.array([[0, 0, 1], [1, 255, 2]], np.uint8)
    prediction = np.array([[0, 1, 1], [1, 1, 7]], np.uint8)
    counts, missed = confusion_counts(target, prediction, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert counts.dtype == np.int64
    assert missed.tolist() == [0, 0, 1]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(0, 200),
    run=st.integers(1, 40),
    num_classes=st.sampled_from([1, 2, 19, 254, 255, 256]),
    dtypes=st.sampled_from([("uint8", "uint8"), ("uint8", "int64"), ("int64", "uint8"), ("int64", "int64")]),
    ignore_index=st.sampled_from([255, 0, -1]),
)
def test_equals_the_definition(seed, size, run, num_classes, dtypes, ignore_index):
    generator = np.random.default_rng(seed)
    maps = []
    for dtype in dtypes:
        low, high = (-3, 300) if dtype == "int64" else (0, 256)
        near = generator.integers(0, min(num_classes, 255), size, dtype=dtype)
        far = generator.integers(low, high, size, dtype=dtype)
        maps.append(np.repeat(np.where(generator.random(size) < 0.2, far, near), run)[generator.integers(0, 8) :])
    target, prediction = (labels[: min(map(len, maps))] for labels in maps)
    counts, missed = confusion_counts(target, prediction, num_classes, ignore_index)
    expected, expected_missed = naive(target, prediction, num_classes, ignore_index)
    assert np.array_equal(counts, expected)
    assert missed.tolist() == expected_missed


@pytest.mark.parametrize("dtypes", [("int64", "int64"), ("uint16", "int32")])
def test_more_classes_than_a_byte_holds(dtypes):
    generator = np.random.default_rng(0)
    target = generator.integers(0, 400, 3000).astype(dtypes[0])
    prediction = generator.integers(0, 310, 3000).astype(dtypes[1])
    counts, missed = confusion_counts(target, prediction, 300)
    expected, expected_missed = naive(target, prediction, 300)
    assert np.array_equal(counts, expected)
    assert missed.tolist() == expected_missed
    assert missed.sum() > 0


def test_any_layout_of_memory():
    generator = np.random.default_rng(0)
    target = generator.integers(0, 5, (31, 47), dtype=np.uint8)
    prediction = generator.integers(0, 6, (31, 47), dtype=np.uint8)
    expected = confusion_counts(target, prediction, 5)
    misaligned = np.frombuffer(b"x" + target.tobytes(), np.uint8, offset=1).reshape(31, 47)
    for same in (np.asfortranarray(target), misaligned, np.repeat(target, 2, axis=1)[:, ::2]):
        counts, missed = confusion_counts(same, prediction, 5)
        assert np.array_equal(counts, expected[0])
        assert missed.tolist() == expected[1].tolist()


def test_empty_and_all_ignored():
    for target in (np.zeros((0, 4), np.uint8), np.full((3, 3), 255, np.uint8)):
        counts, missed = confusion_counts(target, np.zeros(target.shape, np.uint8), 2)
        assert not counts.any()
        assert not missed.any()


def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr(confusion, "_SMALL", 64)
    generator = np.random.default_rng(0)
    target = generator.integers(0, 7, 1003, dtype=np.uint8)
    prediction = generator.integers(0, 9, 1003, dtype=np.int64)
    expected, expected_missed = naive(target, prediction, 7)
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(confusion, "thread_count", lambda n=threads: n)
        counts, missed = confusion_counts(target, prediction, 7)
        assert np.array_equal(counts, expected)
        assert missed.tolist() == expected_missed


def test_callers_at_once_do_not_meet(monkeypatch):
    monkeypatch.setattr(confusion, "_SMALL", 64)
    monkeypatch.setattr(confusion, "thread_count", lambda: 2)
    generator = np.random.default_rng(0)
    maps = [generator.integers(0, 4, (2, 5000), dtype=np.uint8) for _ in range(8)]
    found = {}

    def count(i):
        found[i] = [confusion_counts(*maps[i], 4)[0] for _ in range(20)]

    callers = [threading.Thread(target=count, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for i, pair in enumerate(maps):
        expected = naive(*pair, 4)[0]
        assert all(np.array_equal(counts, expected) for counts in found[i])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_works_in_a_forked_child_after_the_pool_was_used(monkeypatch):
    monkeypatch.setattr(confusion, "_SMALL", 64)
    monkeypatch.setattr(confusion, "thread_count", lambda: 2)
    target = np.arange(1000, dtype=np.uint8)
    expected = confusion_counts(target, target, 100)[0]
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(confusion_counts(target, target, 100)[0], expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

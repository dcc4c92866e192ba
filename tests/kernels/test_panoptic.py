from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.kernels import panoptic
from delineate.kernels.panoptic import pair_counts, segment_boxes


def naive_pairs(first, second):
    """The definition, pixel by pixel."""
    return Counter(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))


def as_counter(counted):
    return {(a, b): n for a, b, n in zip(*(column.tolist() for column in counted), strict=True)}


def naive_box(ids, segment):
    rows, columns = np.nonzero(ids == segment)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]


def test_pairs_by_hand():
    first = np.array([[0, 0, 7], [7, 7, 16_777_215]], np.int32)
    second = np.array([[5, 0, 5], [5, 2, 2]], np.int32)
    ids, others, pixels = pair_counts(first, second)
    assert ids.tolist() == [0, 0, 7, 7, 16_777_215]
    assert others.tolist() == [0, 5, 2, 5, 2]
    assert pixels.tolist() == [1, 1, 1, 2, 1]
    assert {column.dtype for column in (ids, others, pixels)} == {np.dtype(np.int64)}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    pixels=st.sampled_from([1, 2, 7, 8, 9, 4096, 4097, 4098, 8192, 8193, 9000]),
    run=st.sampled_from([1, 2, 9, 100, 5000]),
    distinct=st.integers(1, 60),
)
def test_pairs_equal_the_definition(seed, pixels, run, distinct):
    generator = np.random.default_rng(seed)
    known = generator.integers(0, 256**3, distinct).astype(np.int32)
    first, second = (
        np.repeat(generator.choice(known, pixels // run + 2), run)[offset : pixels + offset]
        for offset in generator.integers(0, run, 2)
    )
    assert as_counter(pair_counts(first, second)) == naive_pairs(first, second)


def test_more_pairs_than_the_table_holds():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 256**3, (2, 150, 150)).astype(np.int32)
    assert first.size > panoptic._SLOTS
    assert as_counter(pair_counts(first, second)) == naive_pairs(first, second)


@pytest.mark.parametrize("count", [20, 400])
@pytest.mark.parametrize("slot", [5, panoptic._SLOTS - 1])
def test_ids_that_all_meet_in_one_slot(slot, count):
    """Products that share their highest bits: a few move to the next slots, many crowd the table before it is full."""
    candidates = np.arange(1, 1 << 22, dtype=np.uint64)
    slots = (candidates << np.uint64(32)) * panoptic._GOLDEN >> panoptic._SHIFT
    meeting = candidates[slots == slot][:count].astype(np.int32)
    assert len(meeting) == count
    assert 20 < panoptic._PROBES < 400
    zeros = np.zeros_like(meeting)
    assert as_counter(pair_counts(meeting, zeros)) == naive_pairs(meeting, zeros)


def test_any_layout_of_memory():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 5, (2, 31, 47)).astype(np.int32)
    expected = naive_pairs(first, second)
    assert as_counter(pair_counts(np.asfortranarray(first), second)) == expected
    assert as_counter(pair_counts(np.repeat(first, 2, axis=1)[:, ::2], second)) == expected


def test_no_pixels_have_no_pairs():
    empty = np.zeros((0, 4), np.int32)
    assert [column.tolist() for column in pair_counts(empty, empty)] == [[], [], []]


def test_boxes_by_hand():
    ids = np.array([[0, 3, 3, 0], [9, 0, 3, 0], [9, 0, 0, 9]], np.int32)
    assert segment_boxes(ids, np.array([9, 3, 5])).tolist() == [[0, 1, 4, 3], [1, 0, 3, 2], [0, 0, 0, 0]]


@pytest.mark.parametrize("distinct", [1, 2, 40])
def test_boxes_equal_the_definition(distinct):
    generator = np.random.default_rng(distinct)
    known = generator.choice(256**3, distinct, replace=False)
    ids = np.kron(generator.choice(known, (9, 7)), np.ones((3, 4))).astype(np.int32)
    asked = generator.permutation(known)[: max(1, distinct // 2)]
    assert segment_boxes(ids, asked).tolist() == [naive_box(ids, segment) for segment in asked]
    assert segment_boxes(ids, np.empty(0, np.int64)).shape == (0, 4)

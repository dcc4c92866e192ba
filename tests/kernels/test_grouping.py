from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.kernels.grouping import grouped_order, merged_groups, work_pieces


def column(*values):
    return np.array(values, np.int64)


def test_order_by_hand():
    labels, images = column(1, 0, 1, 1, 0, 1), column(0, 2, 0, 1, 0, 0)
    scores = np.array([0.3, 0.9, 0.7, 0.9, 0.1, 0.3])
    # (class 0: image 0, image 2), (class 1: image 0 with 0.7, 0.3 and the later 0.3; image 1)
    assert grouped_order(labels, images, scores).tolist() == [4, 1, 2, 0, 5, 3]
    assert grouped_order(labels, images).tolist() == [4, 1, 0, 2, 5, 3]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.sampled_from([0.0, -0.0, 0.1, 0.5, 1.0, -2.0]))),
    scored=st.booleans(),
)
def test_order_equals_a_stable_sort(rows, scored):
    labels, images = (column(*(row[k] for row in rows)) for k in (0, 1))
    scores = np.array([row[2] for row in rows], np.float64) if scored else None
    expected = sorted(range(len(rows)), key=lambda i: (rows[i][:2], -rows[i][2] if scored else 0))
    found = grouped_order(labels, images, scores)
    assert found.tolist() == expected
    assert found.dtype == np.int64


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-3, 9)), st.lists(st.integers(-3, 9)))
def test_groups_of_two_columns(first, second):
    first, second = sorted(first), sorted(second)
    keys, first_starts, second_starts = merged_groups(column(*first), column(*second))
    assert keys.tolist() == sorted({*first, *second})
    for rows, starts in ((first, first_starts), (second, second_starts)):
        own = {key: list(values) for key, values in groupby(rows)}
        assert [rows[a:b] for a, b in pairwise(starts)] == [own.get(k, []) for k in keys]


def test_groups_by_hand():
    keys, first, second = merged_groups(column(2, 2, 7), column(3, 7, 7, 9))
    assert (keys.tolist(), first.tolist(), second.tolist()) == ([2, 3, 7, 9], [0, 2, 2, 3, 3], [0, 0, 1, 3, 4])


@pytest.mark.parametrize("pieces", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("work", [[], [0], [5], [0, 0, 0], [1] * 17, [0, 90, 0, 1, 1], [1, 1, 90], [3, 0, 0, 4, 2, 9]])
def test_pieces_cover_every_group_once(work, pieces):
    starts = np.concatenate([[0], np.cumsum(work)]).astype(np.int64)
    parts = work_pieces(starts, pieces)
    assert [g for a, b in parts for g in range(a, b)] == list(range(len(work)))
    assert len(parts) <= max(pieces, 1)
    share = sum(work) / pieces
    assert all(sum(work[a:b]) <= share + max(work) for a, b in parts)  # even, but for one group

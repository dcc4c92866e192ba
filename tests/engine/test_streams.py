"""Work side by side that comes back in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from delineate.engine.streams import in_order


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4
    torch.set_num_threads(before)


def test_results_keep_their_order_whoever_is_done_first() -> None:
    def late(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return 10 * number

    assert list(in_order(late, range(12))) == [10 * number for number in range(12)]
    assert list(in_order(late, [])) == []


def test_several_are_under_way_with_a_share_of_the_threads_each() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def work(_: int) -> int:
        meeting.wait()  # passed by two at a time only
        return torch.get_num_threads()

    assert list(in_order(work, range(4), at_once=2)) == [2] * 4
    fresh: list[int] = []
    thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert fresh == [4]  # a thread that starts later has all again


@pytest.mark.parametrize(("count", "at_once"), [(1, None), (3, 1)])
def test_one_at_a_time_runs_where_it_was_asked_for(count: int, at_once: int | None) -> None:
    here = threading.get_ident()
    found = list(in_order(lambda _: (threading.get_ident(), torch.get_num_threads()), range(count), at_once=at_once))
    assert found == [(here, 4)] * count


def test_items_are_taken_a_few_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), at_once=2)
    assert taken == []
    assert next(results) == 0
    assert len(taken) <= 4
    results.close()
    assert len(taken) <= 4


def test_an_error_is_raised_at_its_turn_and_ends_the_rest() -> None:
    started = []

    def work(number: int) -> int:
        started.append(number)
        if number == 2:
            raise ValueError("of two")
        return number

    results = in_order(work, range(50), at_once=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="of two"):
        next(results)
    assert len(started) < 10

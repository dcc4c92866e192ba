import threading

import pytest

from delineate.data.read_ahead import read_ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order(threads):
    assert list(read_ahead(lambda x: x * x, range(50), threads=threads)) == [x * x for x in range(50)]
    assert list(read_ahead(str, [], threads=threads)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_out_where_its_item_would_have(threads):
    results = read_ahead(lambda x: 1 / x, [1, 2, 0, 4], threads=threads)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_more_than_a_few_are_read_ahead():
    read, lock = [], threading.Lock()

    def note(x):
        with lock:
            read.append(x)
        return x

    results = read_ahead(note, range(1000), threads=2)
    next(results)
    assert len(read) <= 6
    results.close()
    assert len(read) < 1000

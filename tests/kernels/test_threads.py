import subprocess
import sys
import threading

import pytest
import torch

from delineate.kernels import threads


def test_results_keep_the_order_of_the_pieces():
    assert threads.run_pieces(lambda piece: piece**2, range(20)) == [piece**2 for piece in range(20)]
    assert threads.run_pieces(str, []) == []


def test_the_caller_and_the_pool_share_the_pieces(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    both = threading.Barrier(2, timeout=30)  # passed only when two threads are at work at once

    def meet(piece):
        if piece < 2:
            both.wait()
        return threading.current_thread().name

    names = threads.run_pieces(meet, range(20))
    assert threading.current_thread().name in names
    assert any(name.startswith("delineate-kernel") for name in names)


def test_one_thread_stays_alone(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 1)
    names = threads.run_pieces(lambda _: threading.current_thread().name, range(5))
    assert set(names) == {threading.current_thread().name}


def test_pieces_may_have_pieces_of_their_own(monkeypatch):
    """A thread of the pool that waited for the pool would wait for itself."""
    monkeypatch.setattr(threads, "thread_count", lambda: 4)

    def outer(i):
        return sum(threads.run_pieces(lambda j: i * j, range(6)))

    finished = []
    runner = threading.Thread(target=lambda: finished.append(threads.run_pieces(outer, range(12))), daemon=True)
    runner.start()
    runner.join(timeout=60)
    assert finished == [[15 * i for i in range(12)]]


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_reaches_the_caller(monkeypatch, count):
    monkeypatch.setattr(threads, "thread_count", lambda: count)
    for place in range(4):
        pieces = [1, 1, 1, 1]
        pieces[place] = 0
        with pytest.raises(ZeroDivisionError):
            threads.run_pieces(lambda piece: 1 // piece, pieces)


def test_follows_torch(monkeypatch):
    monkeypatch.setattr(threads, "available_processors", lambda: 4)
    for asked, given in ((1, 1), (3, 3), (64, 4)):
        monkeypatch.setattr(torch, "get_num_threads", lambda asked=asked: asked)
        assert threads.thread_count() == given


def test_follows_openmp_where_torch_is_not_loaded(monkeypatch):
    monkeypatch.setattr(threads, "available_processors", lambda: 4)
    monkeypatch.delitem(sys.modules, "torch")
    for asked, given in (("2", 2), ("64", 4), ("2,1", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert threads.thread_count() == given


def test_says_once_that_it_compiles(tmp_path):
    package = tmp_path / "delineate_fresh.py"
    package.write_text(
        "import numba, delineate.kernels.threads\n"
        "for n in (1, 2):\n"
        "    f = lambda x: x + n\n"
        "    f.__module__ = 'delineate.kernels.fresh'\n"
        "    numba.njit(f)(1)\n"
    )
    done = subprocess.run(
        [sys.executable, package], capture_output=True, text=True, check=True, env={"PYTHONPATH": "."}
    )
    assert done.stderr.count("compiling kernels") == 1

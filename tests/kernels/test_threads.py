import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
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


def test_after_an_error_nobody_starts_another_piece(monkeypatch):
    """Wherever it happens: here in a thread of the pool, while the caller waits for it."""
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    caller, failing, started = threading.get_ident(), threading.Event(), []

    def work(piece):
        started.append(piece)
        if threading.get_ident() != caller:
            failing.set()
            raise ValueError(piece)
        assert failing.wait(timeout=30)
        time.sleep(0.1)  # meanwhile the other thread takes no further piece

    with pytest.raises(ValueError, match=r"^[01]$"):
        threads.run_pieces(work, range(40))
    assert len(started) < 5  # two, unless the threads run very unevenly


def test_of_several_errors_the_first_piece_has_its_own_raised(monkeypatch):
    """As in one thread: the pieces before it have all started, whoever fails first."""
    monkeypatch.setattr(threads, "thread_count", lambda: 3)
    monkeypatch.setattr(threads, "_pool", ThreadPoolExecutor(2, thread_name_prefix="delineate-kernel"))
    for last in range(3):
        together, others = threading.Barrier(3, timeout=30), threading.Semaphore(0)

        def fail(piece, last=last, together=together, others=others):
            together.wait()
            if piece == last:
                assert all(others.acquire(timeout=30) for _ in range(2))
            others.release()
            raise ValueError(f"piece {piece}")

        with pytest.raises(ValueError, match="piece 0"):
            threads.run_pieces(fail, range(20))


def test_an_error_does_not_keep_the_data_alive(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    data = np.zeros(3)
    seen = weakref.ref(data)
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError):
            threads.run_pieces(lambda piece, data=data: len(data) // piece, [0, 0])
        del data
        for _ in range(100):  # a thread of the pool may still be letting go of it
            if seen() is None:
                break
            time.sleep(0.05)
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("queued", [False, True])
def test_a_pool_that_takes_no_work_leaves_it_to_the_caller(monkeypatch, queued):
    """Without a thread to spare, the executor refuses what it has queued already."""
    late = []

    class Full:
        def submit(self, *call):
            if queued:
                late.append(call)
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "thread_count", lambda: 3)
    monkeypatch.setattr(threads, "_shared_pool", Full)
    calls = []
    assert threads.run_pieces(lambda piece: calls.append(piece) or piece**2, range(6)) == [0, 1, 4, 9, 16, 25]
    for function, *arguments in late:
        function(*arguments)
    assert calls == list(range(6))


def test_works_while_the_interpreter_ends():
    program = (
        "import atexit, delineate.kernels.threads as threads\n"
        "threads.thread_count = lambda: 2\n"
        "atexit.register(lambda: print('late', threads.run_pieces(lambda piece: piece**2, range(4))))\n"
        "print('early', threads.run_pieces(lambda piece: piece**2, range(4)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["early [0, 1, 4, 9]", "late [0, 1, 4, 9]"]
    assert done.stderr == ""


def test_many_callers_at_once(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 3)
    results = {}

    def call(caller):
        results[caller] = [threads.run_pieces(lambda piece: caller * piece, range(50)) for _ in range(20)]

    callers = [threading.Thread(target=call, args=(caller,), daemon=True) for caller in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    assert results == {caller: [[caller * piece for piece in range(50)]] * 20 for caller in range(12)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_from_a_busy_pool_has_a_pool_of_its_own():
    program = """
import os, threading, time, warnings
import delineate.kernels.threads as threads
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is the point
threads.thread_count = lambda: 2
ended = threading.Event()
def busy():
    while not ended.is_set():
        threads.run_pieces(lambda _: time.sleep(0.0005), range(4))
callers = [threading.Thread(target=busy) for _ in range(3)]
for caller in callers:
    caller.start()
failed = 0
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if threads.run_pieces(lambda piece: piece**2, range(6)) == [0, 1, 4, 9, 16, 25] else 1)
    failed += os.waitpid(child, 0)[1] != 0
ended.set()
for caller in callers:
    caller.join()
print("failed", failed)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "failed 0\n"


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

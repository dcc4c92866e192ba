import subprocess
import sys
import threading

import pytest
import torch

from delineate.kernels import threads


def test_results_keep_the_order_of_the_pieces():
    assert threads.run_pieces(lambda piece: piece**2, range(20)) == [piece**2 for piece in range(20)]
    assert threads.run_pieces(str, []) == []


def test_the_first_piece_runs_in_the_calling_thread():
    names = threads.run_pieces(lambda _: threading.current_thread().name, range(3))
    assert names[0] == threading.current_thread().name
    assert all(name.startswith("delineate-kernel") for name in names[1:])


def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        threads.run_pieces(lambda piece: 1 // piece, [1, 0])


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

"""A checkpoint that cannot be used is named, and nothing in it is executed."""

from __future__ import annotations

import pytest
import torch

from delineate.engine.checkpointing import WholeCheckpointIO, read_checkpoint
from delineate.errors import RunError


class Loud:
    """Raises the moment somebody unpickles it."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_what_is_saved_is_read_and_leaves_nothing_behind(tmp_path):
    io = WholeCheckpointIO()
    saved = {"state_dict": {"weight": torch.arange(3.0)}, "epoch": 4, "history": [{"lr": 0.1}]}
    io.save_checkpoint(saved, tmp_path / "last.ckpt")
    read = io.load_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(read["state_dict"].pop("weight"), torch.arange(3.0))
    assert read == {"state_dict": {}, "epoch": 4, "history": [{"lr": 0.1}]}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_write_that_fails_keeps_the_last_good_one(tmp_path, monkeypatch):
    io = WholeCheckpointIO()
    io.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")

    def full(checkpoint, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        io.save_checkpoint({"epoch": 2}, tmp_path / "last.ckpt")
    assert read_checkpoint(tmp_path / "last.ckpt") == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_missing_one_is_named(tmp_path):
    with pytest.raises(RunError, match=r"checkpoint must exist; got '.*last\.ckpt', which is not there"):
        read_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("kept", [0, 10, 400])
def test_a_cut_off_one_is_named(tmp_path, kept):
    path = tmp_path / "last.ckpt"
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"a whole file of plain tensors; got '.*last\.ckpt' \(.+\)"):
        read_checkpoint(path)


def test_code_is_not_executed(tmp_path):
    torch.save({"weight": Loud()}, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match="a whole file of plain tensors"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_an_error_without_words_is_named_by_its_kind(tmp_path, monkeypatch):
    def silent(*arguments, **options):
        raise AssertionError

    (tmp_path / "last.ckpt").write_bytes(b"x")
    monkeypatch.setattr(torch, "load", silent)
    with pytest.raises(RunError, match=r"\(AssertionError\)"):
        read_checkpoint(tmp_path / "last.ckpt")

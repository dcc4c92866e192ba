"""Errors, checks, registries and whole files."""

from __future__ import annotations

import json
import stat

import pytest

from delineate.checks import require
from delineate.errors import ArgumentError, DelineateError, UnknownNameError
from delineate.files import linked_file, replaced_file, write_text
from delineate.registry import Registry, nearest_name, unknown_name


def test_require_states_argument_condition_value_and_advice():
    with pytest.raises(ArgumentError) as caught:
        require(False, "boxes", "be (N, 4) xyxy pixels", "shape (7, 5)", "Pass boxes[:, :4].")
    assert str(caught.value) == "boxes must be (N, 4) xyxy pixels; got shape (7, 5). Pass boxes[:, :4]."
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DelineateError)
    require(True, "boxes", "be anything", None)


def test_registry_reads_and_refuses_with_the_nearest_name():
    table = Registry("model", {"unet": 1, "segnet": 2})
    assert dict(table) == {"unet": 1, "segnet": 2}
    assert "unet" in table
    assert len(table) == 2
    with pytest.raises(UnknownNameError, match=r"model must be a known name; got 'unte'. Did you mean 'unet'\?"):
        table["unte"]
    with pytest.raises(TypeError):
        table["new"] = 3  # type: ignore[index]


def test_unknown_name_lists_some_when_nothing_is_near():
    assert nearest_name("zzz", ["unet"]) is None
    message = str(unknown_name("model", "zzz", [f"m{i}" for i in range(20)]))
    assert "Known: m0, m1" in message
    assert message.endswith("...") or "..." in message


def test_replaced_file_keeps_the_old_one_when_the_block_fails(tmp_path):
    path = tmp_path / "deep" / "scores.json"
    write_text(path, "old")

    def fail() -> None:
        with replaced_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["scores.json"]


def test_replaced_file_is_as_readable_as_any_new_file(tmp_path):
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_text("x")
    write_text(ours, json.dumps({}))
    assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_linked_file_stays_when_its_source_is_replaced(tmp_path):
    write_text(tmp_path / "last", "first")
    linked_file(tmp_path / "last", tmp_path / "best")
    write_text(tmp_path / "last", "second")
    assert (tmp_path / "best").read_text() == "first"
    linked_file(tmp_path / "last", tmp_path / "best")
    assert (tmp_path / "best").read_text() == "second"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["best", "last"]

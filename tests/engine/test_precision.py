"""bfloat16 where the hardware multiplies it, float32 elsewhere."""

from __future__ import annotations

import pytest
import torch

from delineate.engine import precision
from delineate.engine.precision import PRECISIONS, autocast_dtype, has_amx, resolve_precision
from delineate.errors import UnknownNameError


@pytest.mark.parametrize(
    ("amx", "avx512", "name", "chosen"),
    [
        (True, True, "Intel(R) Xeon(R) Platinum 8488C", "bfloat16"),
        (False, True, "Intel(R) Xeon(R) Platinum 8488C", "float32"),
        (False, True, "AMD EPYC 9R14", "bfloat16"),
        (False, False, "AMD EPYC 7R32", "float32"),
    ],
)
def test_the_processor_decides(monkeypatch, amx, avx512, name, chosen):
    monkeypatch.setattr(precision, "has_amx", lambda: amx)
    monkeypatch.setattr(precision, "processor_name", lambda: name)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    assert resolve_precision("auto") == chosen


@pytest.mark.parametrize(("capability", "chosen"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_the_gpu_decides_where_there_is_one(monkeypatch, capability, chosen):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: capability < (8, 0))  # must not matter
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    assert resolve_precision("auto", cuda=True) == chosen


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("cuda", [False, True])
def test_what_is_asked_for_is_taken(name, cuda):
    assert resolve_precision(name, cuda=cuda) == name


def test_an_unknown_name_answers_with_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"precision must be a known name; got 'float23'. Did you mean 'float32'"
    ):
        resolve_precision("float23")


def test_every_precision_has_a_dtype_and_a_name_in_lightning():
    from typing import get_args

    from lightning.fabric.connector import _PRECISION_INPUT_STR

    known = {value for group in get_args(_PRECISION_INPUT_STR) for value in (get_args(group) or (group,))}
    assert {PRECISIONS[name] for name in PRECISIONS if name != "auto"} <= known
    assert autocast_dtype("float32") is None
    assert autocast_dtype("bfloat16") is torch.bfloat16
    assert autocast_dtype("float16") is torch.float16


def test_amx_is_a_plain_answer():
    assert has_amx() in (True, False)

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from delineate.errors import ArgumentError, RunError
from delineate.models.pretrained import MatchReport, Mismatch, load_matching


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


NAMES = tuple(network().state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt"])
def test_a_file_gives_back_every_weight(suffix: str, tmp_path: Path) -> None:
    source, model = network(), network()
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(source.state_dict(), path)
    report = load_matching(model, path if suffix == ".pt" else str(path))
    assert report == MatchReport(NAMES, (), (), ())
    assert report.complete
    assert str(report) == "9 of 9 weights loaded"
    assert all(torch.equal(model.state_dict()[name], value) for name, value in source.state_dict().items())


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "module", None])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod.module.", "model._orig_mod."])
def test_wrappers_and_prefixes_come_off(wrapper: str | None, prefix: str, tmp_path: Path) -> None:
    source, model = network(), network()
    state: dict[str, Any] = {prefix + name: value for name, value in source.state_dict().items()}
    state["loss.weight"] = torch.ones(3)  # as a Lightning checkpoint has beside the model
    torch.save({wrapper: state, "epoch": 3, "lr": [0.1]} if wrapper else state, tmp_path / "weights.pt")
    report = load_matching(model, tmp_path / "weights.pt")
    assert report == MatchReport(NAMES, (), ("loss.weight",), ())
    assert torch.equal(model[0].weight, source[0].weight)


def test_the_models_own_prefix_stays() -> None:
    """An encoder whose names begin with "model." must not lose it."""

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

    source, model = Wrapped(), Wrapped()
    assert load_matching(model, {f"module.{name}": value for name, value in source.state_dict().items()}).complete
    assert torch.equal(model.model[0].weight, source.model[0].weight)


def test_what_does_not_fit_is_named_and_left_alone() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights: dict[str, Tensor] = {
        "0.weight": torch.ones(4, 3, 3, 3),
        "2.weight": torch.ones(21, 4, 1, 1),
        "2.bias": torch.ones(21),
        "3.bias": torch.ones(1),
    }
    report = load_matching(model, weights)
    assert report.loaded == ("0.weight",)
    assert report.missing == (
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    )
    assert report.unexpected == ("3.bias",)
    assert report.mismatched == (
        Mismatch("2.weight", (2, 4, 1, 1), (21, 4, 1, 1)),
        Mismatch("2.bias", (2,), (21,)),
    )
    assert not report.complete
    assert str(report).splitlines() == [
        "1 of 9 weights loaded",
        "6 not in the weights: 0.bias, 1.weight, 1.bias, 1.running_mean, 1.running_var and 1 more",
        "1 not in the model: 3.bias",
        "2 of another shape: 2.weight (model (2, 4, 1, 1), weights (21, 4, 1, 1)), 2.bias (model (2,), weights (21,))",
    ]
    assert model[0].weight.eq(1).all()
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in NAMES if name != "0.weight")


def test_another_precision_is_converted() -> None:
    source, model = network().half(), network()
    load_matching(model, source.state_dict())
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight, source[0].weight.float())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weights must hold tensors by name; got none in weights."),
        ({"epoch": 3, "state_dict": {}}, "weights must hold tensors by name; got none"),
        (
            {"a": torch.ones(2, 3)},
            r"1 tensors none fits \(theirs begin with 'a' \(2, 3\), the model's with '0.weight'\)",
        ),
        ({"0.weight": torch.ones(2)}, "none fits"),
    ],
)
def test_nothing_to_load_is_an_error(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load_matching(network(), weights)


class Code:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["archive", "bare pickle"])
def test_code_in_a_file_is_not_run(kind: str, tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "weights.pt"
    if kind == "archive":
        torch.save({"0.bias": torch.ones(4), "more": Code(trap)}, path)
    else:
        path.write_bytes(pickle.dumps(Code(trap), protocol=2))
    with pytest.raises(
        RunError, match=r"weights.pt' must hold tensors and plain values alone; got 'posix.mkdir', which"
    ) as error:
        load_matching(network(), path)
    assert "\n" not in str(error.value)
    assert not trap.exists()


def test_a_whole_pickled_module_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "weights.pth")
    with pytest.raises(RunError, match=r"got 'torch.nn.modules.container.Sequential', which was not run.$") as error:
        load_matching(network(), tmp_path / "weights.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated_files_say_so_in_one_line(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    model = network()
    before = model[0].weight.clone()
    (save_file if suffix == ".safetensors" else torch.save)(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RunError, match=r"must be a weights file; got a damaged one \(.+\)\.$") as error:
        load_matching(model, path)
    assert "\n" not in str(error.value)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("content", [b"hello world\n", b"\x80\x04\x95", b"PK\x03\x04rubbish", b"\xff" * 64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_other_files_are_no_weights(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RunError, match=f"weights{suffix}' must") as error:
            load_matching(network(), path)
    assert "\n" not in str(error.value)


def test_paths_are_checked(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"name a run's folder or a file; got '.*nowhere.pt', which is not there"):
        load_matching(network(), tmp_path / "nowhere.pt")
    with pytest.raises(RunError, match=r"name a run's folder or a file; got '.*nowhere', which is not there"):
        load_matching(network(), tmp_path / "nowhere")
    (tmp_path / "weights.npz").touch()
    with pytest.raises(
        ArgumentError, match=r"weights must be a file ending in .safetensors, .pt.*; got '.*weights.npz'"
    ):
        load_matching(network(), tmp_path / "weights.npz")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(ArgumentError, match=r"weights must hold tensors by name; got none in '.*list.pt'"):
        load_matching(network(), tmp_path / "list.pt")

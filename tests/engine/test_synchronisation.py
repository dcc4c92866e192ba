"""Two processes compute what one would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from delineate.engine.recipe import build_recipe
from delineate.engine.synchronisation import SynchronisedBatchNorm2d, mean_over_processes, synchronise_batch_norm
from delineate.engine.training import train

WORKER = """
import sys, torch, torch.distributed as dist
from torch import nn
from delineate.engine.synchronisation import synchronise_batch_norm, mean_over_processes
rank, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
torch.manual_seed(0)
model = synchronise_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)))
model = nn.parallel.DistributedDataParallel(model)
torch.manual_seed(1)
images = torch.randn(4, 3, 8, 8); weights = torch.rand(4, 2, 6, 6)
weights[:2] *= 0.1  # the processes' shares weigh differently
own = slice(2 * rank, 2 * rank + 2)
value = (model(images[own]) ** 2 * weights[own]).sum() / mean_over_processes(weights[own].sum())
value.backward()
if rank == 0:
    state = {f"grad {n}": p.grad for n, p in model.module.named_parameters()} | dict(model.module.named_buffers())
    torch.save(state, out)
dist.destroy_process_group()
"""


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_gradients_and_statistics_equal_one_process(tmp_path):
    port, out = free_port(), tmp_path / "state.pt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), port, str(out)], env=environment)
        for rank in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    torch.manual_seed(1)
    images, weights = torch.randn(4, 3, 8, 8), torch.rand(4, 2, 6, 6)
    weights[:2] *= 0.1
    ((model(images) ** 2 * weights).sum() / weights.sum()).backward()
    expected = {f"grad {n}": p.grad for n, p in model.named_parameters()} | dict(model.named_buffers())
    found = torch.load(out, weights_only=True)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name].double(), value.double(), rtol=1e-4, atol=1e-6), name


def test_alone_it_is_plain_batch_norm():
    plain, ours = nn.BatchNorm2d(3), SynchronisedBatchNorm2d(3)
    images = torch.randn(4, 3, 5, 5)
    assert torch.equal(plain(images), ours(images))
    assert plain.state_dict().keys() == ours.state_dict().keys()
    assert torch.equal(mean_over_processes(images), images)


def test_conversion_keeps_weights_names_and_activations():
    from timm.layers import BatchNormAct2d

    model = nn.Sequential(nn.BatchNorm2d(3), BatchNormAct2d(3))
    images = torch.randn(2, 3, 4, 4)
    model.eval()
    before, names = model(images), list(model.state_dict())
    converted = synchronise_batch_norm(model)
    assert list(converted.state_dict()) == names
    assert torch.allclose(converted(images), before, atol=1e-6)
    assert (converted(images) >= 0).all()


@pytest.mark.slow
def test_two_processes_train_and_validate_like_one(squares, tiny, tmp_path):
    tiny["model"] = {"name": "unet", "encoder": "resnet18", "auxiliary_stride": 16}
    tiny["augmentation"]["crop"] = [96, 96]  # batch norm over a handful of values would blow the last bits up
    tiny["trainer"] |= {"max_epochs": 2, "ema_decay": 0.5}
    tiny["data"] |= {"path": str(squares)}
    tiny["optimizer"] = {"name": "sgd", "lr": 0.005}  # and so would Adam's division
    build_recipe(tiny).write(tmp_path / "recipe.yaml")
    one = train(tmp_path / "recipe.yaml", out=tmp_path / "one", progress=False)
    command = [sys.executable, "-m", "delineate", "train", str(tmp_path / "recipe.yaml"), "--devices", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("DELINEATE_RUN", None)
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "two"), "--no-report"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = curves(one.path), curves(tmp_path / "two")
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert theirs[name] == pytest.approx(values, abs=1e-3), name
    mine, yours = load_file(one.weights), load_file(tmp_path / "two" / "model.safetensors")
    assert mine.keys() == yours.keys()
    worst = max(float((mine[n].double() - yours[n].double()).abs().max()) for n in mine if mine[n].is_floating_point())
    assert worst < 5e-3


def curves(run: Path) -> dict[str, list[float]]:
    header, *rows = (run / "metrics.csv").read_text().splitlines()
    return {name: [float(row.split(",")[i]) for row in rows] for i, name in enumerate(header.split(","))}

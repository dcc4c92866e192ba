"""What every test shares: the slow switch, the real data, one thread a process, and shapes that are checked."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # numba and lightning warn while they import; the code under test may not
    # every annotation of these floors is checked against the real tensors while the tests run
    install_import_hook(
        [
            "delineate.structures",
            "delineate.ops",
            "delineate.models",
            "delineate.losses",
            "delineate.metrics",
            "delineate.postprocess",
            "delineate.explain",
        ],
        "beartype.beartype",
    )
    import torch

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, named by DELINEATE_DATA; skips where a machine has none."""
    folder = Path(os.environ.get("DELINEATE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set DELINEATE_DATA)")
    return folder


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)

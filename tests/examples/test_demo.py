import importlib.util
import json
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.fixture
def demo():
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_earlier_demo_is_kept(demo, tmp_path):
    assert demo.free_folder(tmp_path).name == "demo-1"
    (tmp_path / "demo-1").mkdir()
    assert demo.free_folder(tmp_path).name == "demo-2"


@pytest.mark.slow  # 7,500 + 150 scenes are made and seen once: some minutes
def test_the_demo_runs_to_its_report(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(DEMO.parents[1]))
    small = (
        "model={name: enet}",
        "trainer.max_epochs=1",
        "augmentation.crop=[32,32]",
        "data.batch_size=64",
        "trainer.threads=1",
    )
    boxes = (*small[1:2], "data.batch_size=64", "trainer.threads=1", "model.channels=16")
    page = demo.main(small, out=tmp_path / "run", detector=boxes)
    assert page.read_text().count("<img") == 12
    assert (tmp_path / "run" / "detector" / "report.html").is_file()
    found = json.loads((tmp_path / "run" / "detector" / "metrics.json").read_text())
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert f"mean IoU on the validation scenes: {scores['miou']:.4f}" in (told := capsys.readouterr().out)
    assert f"AP50 of the boxes: {found['ap50']:.4f}" in told
    assert len(list((tmp_path / "run" / "predictions" / "overlays").iterdir())) == 6


def test_every_example_is_short_and_says_what_it_shows():
    for example in DEMO.parent.glob("*.py"):
        lines = example.read_text(encoding="utf-8").splitlines()
        assert len(lines) < 120
        assert lines[0].startswith('"""')

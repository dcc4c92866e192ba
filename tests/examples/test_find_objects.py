import importlib.util
from pathlib import Path

from PIL import Image

from tests.data.object_folder import write_objects

EXAMPLE = Path(__file__).parents[2] / "examples" / "find_objects.py"


def test_it_trains_scores_and_draws(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("find_objects", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = write_objects(tmp_path / "boxes")
    monkeypatch.chdir(tmp_path)
    quick = ("trainer.max_epochs=1", "model.channels=8", "model.layers=0", "trainer.threads=1", "data.workers=0")
    module.main(str(folder), str(folder / "val" / "val0.png"), *quick)
    told = capsys.readouterr().out
    assert "AP50" in told
    assert "red: AP50" in told
    assert "found.png" in told
    with Image.open(tmp_path / "found.png") as picture:
        assert min(picture.size) > 0

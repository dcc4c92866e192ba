import importlib.util
from pathlib import Path

from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "upsampling.py"


def test_the_example_draws_its_pictures_and_measures_all_six(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("upsampling", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    table = example.main(tmp_path, steps=1, size=32)
    assert set(table) == set(example.UPSAMPLINGS)
    assert all(0 <= value <= 1 for row in table.values() for value in row)
    # untrained, zeros between the values show, and repeated or interpolated values do not
    assert table["bed_of_nails"][0] > 0.1 > 5 * max(table["nearest"][0], table["bilinear"][0])
    assert capsys.readouterr().out.count("\n| `") == 6
    for name in ("overlap", "untrained", "trained"):
        with Image.open(tmp_path / f"upsampling-{name}.png") as picture:
            assert picture.width > 300

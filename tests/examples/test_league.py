import importlib.util
from pathlib import Path

import pytest
import yaml

from tests.data.object_folder import write_objects
from tests.engine.conftest import write_squares

LEAGUE = Path(__file__).parents[2] / "examples" / "league.py"
RECIPES = sorted((LEAGUE.parents[1] / "recipes" / "camvid" / "league").glob("*.yaml"))
DETECTORS = sorted((LEAGUE.parents[1] / "recipes" / "bccd" / "league").glob("*.yaml"))


@pytest.fixture
def league():
    spec = importlib.util.spec_from_file_location("league", LEAGUE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_league_of_two_goes_on_where_it_was(league, tmp_path, capsys, monkeypatch):
    data = write_squares(tmp_path / "squares")
    recipes = []
    for name in ("enet", "segnet_basic"):
        recipes.append(tmp_path / f"{name}.yaml")
        options = {"channels": 4} if name == "segnet_basic" else {}
        recipe = {
            "model": {"name": name, **options},
            "augmentation": {"preset": "none", "crop": [32, 32]},
            "data": {"workers": 0},
            "trainer": {"max_epochs": 1, "threads": 1, "precision": "float32"},
        }
        recipes[-1].write_text(yaml.safe_dump(recipe))
    words = [*map(str, recipes), "--data", str(data), "--out", str(tmp_path / "runs"), "--images", "2"]
    league.main(words)
    printed = capsys.readouterr().out
    assert printed.count("| `enet` |") == 2
    assert printed.count("| `segnet_basic` |") == 1
    monkeypatch.setattr(league.dl, "train", lambda *given, **more: pytest.fail("trained again"))
    league.main(words)
    assert capsys.readouterr().out == printed


def test_a_league_of_detectors(league, tmp_path, capsys):
    data = write_objects(tmp_path / "objects")
    recipes = []
    for name, options in (("retinanet", {"encoder": "test_resnet", "channels": 16}), ("yolov2", {"width": 0.05})):
        recipes.append(tmp_path / f"{name}.yaml")
        recipe = {
            "model": {"name": name, **options},
            "augmentation": {"preset": "none", "size": [64, 64]},
            "data": {"workers": 0},
            "trainer": {"max_epochs": 1, "threads": 1, "precision": "float32"},
        }
        recipes[-1].write_text(yaml.safe_dump(recipe))
    words = [*map(str, recipes), "--data", str(data), "--out", str(tmp_path / "runs")]
    league.main(words)
    header, rule, *rows = capsys.readouterr().out.splitlines()[-4:]
    assert header.endswith("| AP50 | AP | AP75 | recall at IoU 0.5 |")
    assert len(rows) == 2
    assert header.count("|") == rule.count("|") == rows[0].count("|") == rows[1].count("|")
    with pytest.raises(SystemExit):
        league.main([words[0], str(RECIPES[0]), *words[2:]])
    assert "all of segmenters or all of detectors" in capsys.readouterr().err


def test_every_recipe_of_the_league_of_detectors_has_the_same_budget():
    assert len(DETECTORS) == 5
    budgets = []
    for path in DETECTORS:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert recipe.pop("model")["name"] == path.stem
        recipe["augmentation"].pop("size")
        budgets.append(recipe)
    assert all(budget == budgets[0] for budget in budgets)


def test_every_recipe_of_the_league_has_the_same_budget():
    assert len(RECIPES) >= 8
    budgets = []
    for path in RECIPES:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipe["optimizer"].pop("lr")
        budgets.append({key: value for key, value in recipe.items() if key != "model"})
    assert all(budget == budgets[0] for budget in budgets)


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_a_recipe_of_the_league_is_whole_and_within_the_budget(league, path):
    from delineate.engine.model_facts import model_facts
    from delineate.engine.recipe import build_recipe, read_recipe

    model = build_recipe(read_recipe(path)).model
    assert model["name"] == path.stem
    options = {key: value for key, value in model.items() if key != "name"}
    facts = model_facts(model["name"], num_classes=11, size=league.CROP, **options)
    assert facts.multiply_adds is not None
    assert facts.multiply_adds <= 6e9

"""Recipes: every default written out, every mistake named."""

from __future__ import annotations

import pytest

from delineate.engine.recipe import Recipe, build_recipe, read_recipe
from delineate.errors import RecipeError


def test_an_empty_recipe_is_complete_and_reads_back_equal(tmp_path):
    recipe = build_recipe({})
    assert isinstance(recipe, Recipe)
    path = tmp_path / "recipe.yaml"
    recipe.write(path)
    assert build_recipe(read_recipe(path)) == recipe
    text = path.read_text()
    for key in ("max_epochs", "ema_decay", "crop", "elastic", "weight_decay", "class"):
        assert key in text or key == "class"


def test_a_preset_is_written_out_and_can_be_changed_by_key():
    recipe = build_recipe({"augmentation": {"preset": "none"}}, ["augmentation.flip_horizontal=0.5"])
    assert recipe.augmentation["preset"] == "none"
    assert recipe.augmentation["flip_horizontal"] == 0.5
    assert recipe.augmentation["rotation"] == 0.0


def test_settings_are_laid_over_and_typed():
    recipe = build_recipe(
        {"model": "unet", "loss": [{"name": "cross_entropy"}]},
        [
            "trainer.max_epochs=3",
            "optimizer.lr=5e-4",
            "trainer.ema_decay=null",
            "loss.0.weight=2",
            "model.encoder=resnet18",
        ],
    )
    assert recipe.trainer.max_epochs == 3
    assert recipe.optimizer.lr == 5e-4
    assert recipe.trainer.ema_decay is None
    assert recipe.loss[0]["weight"] == 2
    assert (recipe.model["name"], recipe.model["encoder"]) == ("unet", "resnet18")
    assert recipe.model["decoder_channels"] == [256, 128, 64, 32, 16]  # a default, written out


def test_a_mixture_is_a_list_of_paths(tmp_path):
    recipe = build_recipe({"data": {"path": ["a/cells", "nuclei/"], "classes": ["cell", "nucleus"]}})
    assert recipe.data.paths == ("a/cells", "nuclei/")
    assert recipe.data.name == "cells+nuclei"
    assert recipe.data.classes == ("cell", "nucleus")
    assert build_recipe({}, ["data.path=[a, b]"]).data.paths == ("a", "b")
    assert build_recipe({"data": {"path": "a"}}).data.paths == ("a",)
    recipe.write(tmp_path / "recipe.yaml")
    assert build_recipe(read_recipe(tmp_path / "recipe.yaml")) == recipe


def test_sampling_and_mixing_are_off_unless_asked_for():
    recipe = build_recipe({})
    assert recipe.data.sampling == "uniform"
    assert [recipe.augmentation[key] for key in ("cutmix", "copy_paste", "copy_paste_classes")] == [0, 0, None]
    asked = build_recipe({}, ["data.sampling=class_balanced", "augmentation.copy_paste_classes=[pole]"])
    assert asked.data.sampling == "class_balanced"
    assert list(asked.augmentation["copy_paste_classes"]) == ["pole"]


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ({"trianer": {}}, [], "got 'trianer'. Did you mean 'trainer'?"),
        ({"trainer": {"max_epoch": 3}}, [], "got 'trainer.max_epoch'. Did you mean 'trainer.max_epochs'?"),
        ({}, ["optimizer.learning=1"], "got 'optimizer.learning'"),
        ({}, ["trainer.max_epochs=0"], "trainer.max_epochs must be"),
        ({}, ["trainer.max_epochs=many"], "trainer.max_epochs must be `?int"),
        ({}, ["trainer.precision=half"], "trainer.precision"),
        ({}, ["data.sampling=balanced"], "data.sampling must be uniform, class_balanced; got balanced."),
        ({}, ["augmentation.cutmix=2"], "augmentation.cutmix must lie between 0 and 1; got 2"),
        ({"data": {"path": 3}}, [], "data.path must be"),
        ({}, ["trainer"], "--set must be key=value; got 'trainer'"),
        ({}, ["trainer.seed.deep=1"], "got 'seed', which is a single value"),
        ({}, ["loss.4.weight=1"], "loss.4.weight must reach an existing entry"),
        ({"model": "unte"}, [], "Did you mean 'unet'?"),
        ({"model": {"encoder": "resnet18"}}, [], "model.name must be the name of a model"),
        (
            {"model": {"name": "enet", "encodr": "resnet18"}},
            [],
            "option of model 'enet' must be a known name; got 'encodr'",
        ),
        (
            {"model": {"name": "enet", "in_channels": 1}},
            [],
            "model.in_channels must be left out, as the data decides it",
        ),
        ({}, ["optimizer.name=adam"], "optimizer.name must be adamw, sgd; got adam"),
        ({"augmentation": {"preset": "mediun"}}, [], "medium"),
        ({"augmentation": {"flip_horisontal": 1}}, [], "flip_horizontal"),
        ({"loss": []}, [], "loss must name at least one loss"),
        ({"loss": [{"weight": 1}]}, [], r"loss\[0\].name must be"),
        ({"trainer": 3}, [], "^trainer must be a section of keys; got 3"),
        ({"adversarial": True}, [], "^adversarial must be a section of keys; got True"),
        ({}, ["adversarial.weight=0"], r"adversarial.weight must be above 0; got 0\.$"),
        ({}, ["optimizer.betas=[0.5,1.5]"], r"optimizer.betas\[1\] must be below 1; got 1.5"),
        ({"stages": 3}, [], "stages must be a list; got `int`"),
        ({"stages": [None]}, [], r"stages\[0\] must be a mapping; got `null`"),
        ({"stages": [None]}, ["stages.0.trainer.seed=2"], "got '0', which is a single value"),
        ({"stages": [{}]}, ["stages.1.trainer.seed=2"], "stages.1.trainer.seed must reach an existing entry"),
    ],
)
def test_mistakes_name_the_key(values, settings, message):
    with pytest.raises(RecipeError, match=message):
        build_recipe(values, settings)


def test_files_that_are_no_recipe_are_named(tmp_path):
    with pytest.raises(RecipeError, match=r"must be a readable file; got '.*absent.yaml'"):
        read_recipe(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [unet\n")
    with pytest.raises(RecipeError, match="does not parse"):
        read_recipe(broken)
    listing = tmp_path / "list.yaml"
    listing.write_text("- unet\n")
    with pytest.raises(RecipeError, match="must be a mapping of sections; got a list"):
        read_recipe(listing)
    unsafe = tmp_path / "unsafe.yaml"
    unsafe.write_text("model: !!python/object/apply:os.system ['echo hacked']\n")
    with pytest.raises(RecipeError, match="does not parse"):
        read_recipe(unsafe)


def test_an_empty_file_is_the_default_recipe(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert build_recipe(read_recipe(path)) == build_recipe({})


def test_a_run_without_a_crop_chooses_one_by_the_images(squares, tiny, tmp_path, monkeypatch):
    from delineate.engine.training import train

    tiny["augmentation"] = {"preset": "none"}
    tiny["trainer"] |= {"max_epochs": 1}
    monkeypatch.chdir(squares.parent)
    run = train(tiny, data=squares.name, out=tmp_path / "run", progress=False)
    kept = build_recipe(read_recipe(run.recipe))
    assert list(kept.augmentation["crop"]) == [32, 32]
    assert kept.data.path == str(squares)

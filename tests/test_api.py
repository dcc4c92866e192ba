"""The public names, written out: whoever adds or drops one changes this file on purpose."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import delineate

NAMES = [
    "DelineateError",
    "Detections",
    "DigitScenes",
    "Predictor",
    "Recipe",
    "Run",
    "SemanticMap",
    "Taxonomy",
    "build_recipe",
    "check_dataset",
    "check_objects",
    "convert_objects",
    "convolutionize",
    "create_model",
    "dataset_statistics",
    "evaluate",
    "export_detector",
    "export_onnx",
    "list_models",
    "load",
    "load_matching",
    "object_statistics",
    "open_dataset",
    "open_run",
    "read_recipe",
    "report_run",
    "score",
    "train",
]
ROOMS = [
    "data",
    "engine",
    "explain",
    "export",
    "losses",
    "metrics",
    "models",
    "ops",
    "postprocess",
    "report",
    "structures",
]


def test_the_inventory():
    assert delineate.__all__ == sorted([*NAMES, *ROOMS])
    assert set(delineate.__all__) <= set(dir(delineate))


def test_every_name_is_star_imported():
    space: dict[str, object] = {}
    exec("from delineate import *", space)
    assert set(delineate.__all__) <= set(space)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_importable_documented_and_annotated(name):
    thing = getattr(delineate, name)
    assert thing.__name__ == name
    assert thing.__module__ == delineate._EXPORTS[name]
    assert thing.__doc__
    assert thing.__doc__.strip().splitlines()[0].rstrip().endswith((".", ";", ","))
    for where, function in _functions(thing):
        signature = inspect.signature(function)
        bare = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
        ]
        assert not bare, f"{where} leaves {bare} without annotation"
        assert signature.return_annotation is not signature.empty, f"{where} does not say what it returns"


def _functions(thing):
    """The function itself, or the public methods a class of ours defines."""
    if inspect.isfunction(thing):
        yield thing.__name__, thing
        return
    for name, member in vars(thing).items():
        member = getattr(member, "__func__", member)
        if inspect.isfunction(member) and not name.startswith("_"):
            yield f"{thing.__name__}.{name}", member


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_is_reached_by_name(name):
    room = getattr(delineate, name)
    assert room is importlib.import_module(f"delineate.{name}")
    assert room.__doc__


@pytest.mark.parametrize("name", ["losses", "metrics", "postprocess"])
def test_every_name_of_a_room_is_there_and_hides_no_module(name):
    room = getattr(delineate, name)
    modules = {path.stem for path in Path(room.__file__).parent.glob("*.py")}
    assert room.__all__ == sorted(room.__all__)
    for export in room.__all__:
        assert getattr(room, export).__doc__
        assert export not in modules


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(delineate.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for statement in guarded.body:
        assert isinstance(statement, ast.ImportFrom)
        (alias,) = statement.names
        assert alias.asname == alias.name  # an explicit export
        seen[alias.name] = statement.module
    assert seen == delineate._EXPORTS


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'delineate' has no attribute 'unet'"):
        delineate.unet  # noqa: B018


def test_importing_is_light():
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import delineate"], capture_output=True, text=True, check=True
    ).stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in listed.splitlines()}
    assert "delineate" in imported
    assert not imported & {"torch", "numpy", "matplotlib", "PIL", "lightning", "typer", "rich"}

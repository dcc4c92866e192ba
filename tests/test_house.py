"""The house keeps its own rules: arrows, sizes, names, docstrings."""

import ast
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from delineate.data.augmentation import PRESETS
from delineate.data.objects.conversion import WRITING_FORMATS
from delineate.data.opening import FORMATS
from delineate.engine.precision import PRECISIONS
from delineate.export.catalogue import EXPORTERS
from delineate.losses.catalogue import LOSSES
from delineate.losses.object_catalogue import OBJECT_LOSSES
from delineate.models.catalogue import MODELS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "delineate"
MODULES = sorted(PACKAGE.rglob("*.py"))
# what a whole run promises, wherever in its floor it is kept
ACROSS_MODULES = {
    "cli/test_scoring_hostile.py",
    "engine/test_decoding.py",
    "engine/test_detectors_learn.py",
    "engine/test_object_extremes.py",
    "engine/test_overfitting.py",
    "engine/test_resume.py",
}
NO_ROOMS = {"util", "utils", "helper", "helpers", "common", "misc", "shared", "base", "core"}


def test_import_arrows_point_downwards():
    linter = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    if linter is None:
        pytest.skip("import-linter is not installed")
    # without its cache, which trusts modification times
    checked = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert checked.returncode == 0, checked.stdout


def test_no_module_outgrows_the_house():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in MODULES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


def test_no_module_is_a_drawer():
    named = {part for path in MODULES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not named & NO_ROOMS


def test_every_module_says_what_it_is():
    silent = []
    for path in MODULES:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if path.name != "__main__.py" and not (docstring and docstring.splitlines()[0].endswith((".", ":"))):
            silent.append(str(path.relative_to(ROOT)))
    assert silent == []


def test_every_module_is_imported_absolutely():
    relative = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_every_test_stands_where_its_module_does():
    """``tests/<floor>/test_<module>.py`` names a module of that floor, or of the package itself."""
    modules = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in MODULES}
    rooms = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_dir()}
    astray = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        place = path.relative_to(ROOT / "tests")
        floor = place.parent.as_posix()
        if floor in rooms and f"{floor}/{place.stem.removeprefix('test_')}" not in modules:
            astray.append(str(place))
    assert set(astray) <= ACROSS_MODULES


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_documented(name):
    entry = MODELS[name]
    assert entry.summary
    assert entry.paper
    assert 1950 < entry.year < 2100
    assert entry.load().__doc__


@pytest.mark.parametrize(
    "registry", [MODELS, LOSSES, OBJECT_LOSSES, FORMATS, WRITING_FORMATS, PRESETS], ids=lambda registry: registry.kind
)
def test_every_registered_name_is_in_the_pages(registry):
    pages = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    assert [name for name in registry if not re.search(rf"\b{re.escape(name)}\b", pages)] == []


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_documented(name):
    assert "Args:" in (LOSSES[name].__doc__ or "")


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_says_what_it_looks_for(name):
    assert FORMATS[name].looked_for
    assert inspect.getdoc(inspect.getmodule(FORMATS[name].read))


def test_the_tables_hold_what_they_promise():
    assert set(EXPORTERS) == {"onnx"}
    assert set(PRECISIONS) == {"auto", "float32", "bfloat16", "float16"}

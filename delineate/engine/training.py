"""From a recipe and a data set to a run folder with trained weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from delineate.checks import require
from delineate.data.opening import BUILT_IN
from delineate.engine.recipe import Recipe, build_recipe, read_recipe
from delineate.engine.recipe_sections import BEFORE, NONE
from delineate.engine.run import Run, new_run, open_run
from delineate.engine.session import Session
from delineate.engine.stages import check_stages, train_stages
from delineate.errors import RecipeError, RunError
from delineate.models.catalogue import MODELS

_START_PATHS = ("weights", "proposals")


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    *,
    data: str | Path | None = None,
    settings: Iterable[str] = (),
    resume: str | Path | None = None,
    out: str | Path | None = None,
    devices: int = 1,
    progress: bool = True,
) -> Run:
    """Train a model and return its run folder; the weights in it are those with the best validation score.

    Args:
        recipe: a YAML file, the name of a model (its default recipe), plain values or a :class:`Recipe`.
        data: a data set's folder, or "digits"; replaces the recipe's ``data.path``.
        settings: ``key.path=value`` texts laid over the recipe, such as ``trainer.max_epochs=10``.
        resume: a run folder to continue, to the very same weights (on a CPU, bit by bit) as if it had never stopped;
            with ``settings`` such as ``trainer.max_epochs=80`` a finished run goes on.
        out: the run's folder; ``runs/<data>-<model>`` with a number when left out.
        devices: processes that train together: GPUs where there are some, else CPU processes.
        progress: show a bar and a line an epoch on standard error.

    Raises:
        RecipeError: when a key or value of the recipe is wrong.
        DataError: when the data set cannot be used.
        RunError: when there is nothing to resume from, or ``out`` already holds a run.
        NonFiniteLossError: when the loss or a weight stops being finite; names the files of the batch.
        TrainingInterrupted: after SIGTERM or Ctrl-C, once the state is saved.
    """
    require(devices >= 1, "devices", "be at least 1", devices)
    if resume is not None:
        advice = "A resumed run keeps its folder and its recipe; change values with --set."
        require(recipe is None, "recipe", "be left out with resume", recipe, advice)
        require(out is None, "out", "be left out with resume", out, advice)
        run = open_run(resume)
        before = read_recipe(run.recipe)
        checked = _on_data(build_recipe(before, settings), data)
        if len(checked.stages) != (count := len(before.get("stages") or [])):
            raise RecipeError(
                f"stages must stay {count} in a run that goes on; got {len(checked.stages)}. Train further "
                f"stages in a run of their own, with --set start.weights={run.path}"
            )
        staged = bool(checked.stages) and (run.path / "stages").is_dir()
        if not run.last_checkpoint.is_file() and not staged:
            raise RunError(
                f"resume must name a run with a checkpoint; got '{resume}', which stopped before its first one."
            )
    else:
        checked = _on_data(build_recipe(_plain(recipe), settings), data)
    session = None if checked.stages else Session(checked, devices=devices, resume=None if resume is None else run)
    if session is None:
        advice = "Train each stage as a recipe of its own, with start.weights=RUN."
        require(devices == 1, "devices", "be 1 for a recipe with stages", devices, advice)
        final = check_stages(checked, None if resume is None else run)
    else:
        final = checked
    if resume is None:
        run = new_run(f"{checked.data.name}-{final.model['name']}", out)
    if session is None:
        return train_stages(checked, run, resume=resume is not None, progress=progress)
    return session.fit(run, progress=progress)


def _plain(recipe: str | Path | Mapping[str, Any] | Recipe | None) -> Mapping[str, Any]:
    """The values behind any way to name a recipe."""
    if isinstance(recipe, Recipe):
        return recipe.to_dict()
    if isinstance(recipe, Mapping):
        return recipe
    if recipe is None:
        return {}
    if isinstance(recipe, Path) or recipe.endswith((".yaml", ".yml")) or os.sep in recipe:
        return read_recipe(recipe)
    if recipe not in MODELS and Path(recipe).is_file():
        return read_recipe(recipe)
    MODELS[recipe]
    return {"model": {"name": recipe}}


def _on_data(recipe: Recipe, data: str | Path | None) -> Recipe:
    """The recipe for that data set, by its whole path, so that the run can be continued from any folder."""
    path = recipe.data.path if data is None else str(data)
    paths = (path,) if isinstance(path, str) else path
    if not (paths and all(paths)):
        raise RecipeError(
            f"data.path must name a data set; got none. Pass --data PATH, or --data {BUILT_IN} to try it."
        )
    path = _whole_paths(path)
    places = {key: _whole_start(getattr(recipe.start, key)) for key in _START_PATHS}
    start = msgspec.structs.replace(recipe.start, **places)
    stages = [_with_whole_paths(changes) for changes in recipe.stages]
    data_recipe = msgspec.structs.replace(recipe.data, path=path, tree=_whole_paths(recipe.data.tree))
    return msgspec.structs.replace(recipe, data=data_recipe, start=start, stages=stages)


def _whole_paths(path: Any) -> Any:
    """A path, or each of several, from the root; "digits", nothing and what is no path as they are."""
    if isinstance(path, list | tuple):
        return type(path)(_whole_paths(one) for one in path)
    if not isinstance(path, str) or path in ("", BUILT_IN):
        return path
    return str(Path(path).expanduser().resolve())


def _with_whole_paths(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's values with its paths as :func:`_whole_paths` gives them."""
    whole = dict(changes)
    for section, keys, made_whole in (("data", ("path", "tree"), _whole_paths), ("start", _START_PATHS, _whole_start)):
        values = whole.get(section)
        if isinstance(values, Mapping):
            whole[section] = {**values, **{key: made_whole(values[key]) for key in keys if key in values}}
    return whole


def _whole_start(path: Any) -> Any:
    """A path of a start, or a word in its place."""
    return path if path in (NONE, BEFORE) else _whole_paths(path)

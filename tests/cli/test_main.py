import os
import subprocess
import sys

import pytest

from delineate.cli.main import error_line, main
from delineate.errors import DataError

COMMANDS = ("train", "evaluate", "predict", "export", "models", "data")


def test_help_names_every_command(typed):
    result = typed("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in result.output
        assert "--help" in typed(command, "--help").output


@pytest.mark.parametrize(
    "words",
    [(), ("trian",), ("train",), ("predict",), ("data",), ("data", "check"), ("train", "unet", "--devices", "x")],
)
def test_wrong_usage_exits_with_2(typed, words):
    assert typed(*words).exit_code == 2


def test_an_error_is_one_line_and_a_traceback_only_with_debug(shell):
    plain = shell("models", "--task", "semantik")
    assert (plain.returncode, plain.stdout) == (1, "")
    assert plain.stderr == "error: task must be a known name; got 'semantik'. Did you mean 'semantic'?\n"
    told = shell("models", "--task", "semantik", "--debug")
    assert told.returncode == 1
    assert "Traceback" in told.stderr
    assert "Did you mean 'semantic'?" in told.stderr


def test_what_was_not_foreseen_is_one_line_too(tmp_path, monkeypatch, capsys):
    (tmp_path / "closed").write_text("a file where a folder is needed")
    out = tmp_path / "closed" / "report.json"
    monkeypatch.setattr(sys, "argv", ["delineate", "data", "check", "digits", "--json", "--out", str(out)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert str(tmp_path / "closed") in captured.err


def test_error_line_of_a_reading_process():
    raised = DataError(
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\ndelineate.errors.DataError: image must be whole; got a.png.\n'
    )
    assert error_line(raised) == "image must be whole; got a.png."


def test_error_line_of_anything_else():
    assert error_line(TypeError("no len()\nmore")) == (
        "TypeError: no len(). This was not foreseen; --debug shows where it happened."
    )
    assert error_line(ZeroDivisionError()).startswith("ZeroDivisionError. This")
    assert error_line(OSError(28, "No space left on device")) == "No space left on device"


def test_version(typed):
    from importlib.metadata import version

    assert typed("--version").output == f"delineate {version('delineate')}\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m delineate --help | true; echo ${{PIPESTATUS[0]}}"
    left = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert left.stderr == ""
    assert left.stdout.strip() in ("0", "1")


def test_help_is_light():
    code = (
        "import sys; from typer.testing import CliRunner; from delineate.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'numpy', 'matplotlib', 'PIL', 'lightning') if name in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"

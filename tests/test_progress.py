import time

from delineate.progress import progress_bar


def test_progress_is_silent_where_nobody_watches(capsys):
    with progress_bar("counting") as move:
        move(1, 2)
        move(2, 2)
    captured = capsys.readouterr()
    assert captured.out.strip() == captured.err.strip() == ""


def test_short_work_shows_no_bar_and_long_work_does(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the captured stream for a terminal
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("quick", after=60) as move:
        move(1, 2)
    assert "quick" not in capsys.readouterr().err
    with progress_bar("slow", after=0.01) as move:
        move(1, 2)
        time.sleep(0.3)
    assert "slow" in capsys.readouterr().err

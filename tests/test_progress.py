from delineate.progress import progress_bar


def test_progress_is_silent_where_nobody_watches(capsys):
    with progress_bar("counting") as move:
        move(1, 2)
        move(2, 2)
    captured = capsys.readouterr()
    assert captured.out.strip() == captured.err.strip() == ""

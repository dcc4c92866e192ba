import pytest

from delineate.cli.tables import print_table

COLUMNS = ["class", "IoU", "pixels", "note"]
ROWS = [["signsymbol", 0.5, 1234567, "a rather long note that says [bold]much"], ["sky", float("nan"), 7, "short"]]


def test_in_a_pipe_each_row_is_one_line(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(COLUMNS, ROWS, title="two classes")
    title, header, rule, first, second = capsys.readouterr().out.splitlines()
    assert title == "two classes"
    assert header.split() == COLUMNS
    assert set(rule) == {"─"}
    assert first.split(maxsplit=3) == ["signsymbol", "0.5000", "1,234,567", "a rather long note that says [bold]much"]
    assert second.split() == ["sky", "n/a", "7", "short"]
    assert first.index("1,234,567") + 9 == second.index("7") + 1


@pytest.mark.parametrize("width", ["20", "45"])
def test_names_and_numbers_stay_whole_where_there_is_little_room(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    print_table(COLUMNS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if line.startswith("signsymbol"))
    assert first.split()[:3] == ["signsymbol", "0.5000", "1,234,567"]
    assert len(lines) > 4  # the note was folded instead
    assert max(map(len, lines)) <= 45


def test_a_total_stands_below(capsys):
    print_table(["class", "IoU"], [["sky", 0.25]], total=["mean", 0.25])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["mean", "0.2500"]


def test_no_number_is_cut_on_a_narrow_screen(capsys, monkeypatch):
    columns = ("class", "AP small", "AP medium", "AR 100", "best F1", "at score", "truths", "detections")
    for width in (30, 40, 55, 60, 80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        print_table(columns, [("platelets", 0.25, 0.4227, float("nan"), 0.7919, 0.341, 83, 351)])
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1].split() == ["platelets", "0.2500", "0.4227", "n/a", "0.7919", "0.3410", "83", "351"]
        heading = " ".join(" ".join(lines[:-2]).split())
        assert all(word in heading for column in columns for word in column.split())

"""``delineate score`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 10, 10]}]
    categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "debris"}]
    images = [{"id": 1, "height": 50, "width": 60, "file_name": "a.png"}]
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    found.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [10, 10, 10, 10], "score": 0.5}]))
    return truth, found


def test_figures_are_printed_and_written(typed, files):
    result = typed("score", "--task", "boxes", *files, "--per-class", "--json", "scores.json", "--html", "report.html")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines() if line.split()]
    assert ["AP", "1.0000"] in [line[:2] for line in lines]
    assert ["AP50", "1.0000"] in [line[:2] for line in lines]
    assert "n/a" in next(line for line in lines if line[0] == "debris")
    scores = json.loads(Path("scores.json").read_text())
    assert scores["per_class"]["debris"]["ap"] is None
    page = Path("report.html").read_text(encoding="utf-8")
    assert "debris" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_options_are_numbers_as_people_write_them(typed, files):
    result = typed(
        "score", "-t", "boxes", *files, "--iou", "0.5:0.6:0.05", "--max-detections", "1,5", "--json", "s.json"
    )
    assert result.exit_code == 0, result.output
    scores = json.loads(Path("s.json").read_text())
    assert scores["iou_thresholds"] == pytest.approx([0.5, 0.55, 0.6])
    assert scores["max_detections"] == [1, 5]
    result = typed("score", "-t", "boxes", *files, "--areas", "all=0:1e10,tiny=0:200", "--errors")
    assert "AP tiny" in result.output
    assert "localisation" in result.output


def test_a_range_of_thresholds_is_cocos_to_the_last_bit(typed, files):
    """linspace gives 0.8999999999999999, not 0.9: an overlap of exactly nine tenths tells them apart."""
    typed("score", "-t", "boxes", *files, "--json", "default.json")
    typed("score", "-t", "boxes", *files, "--iou", "0.5:0.95:0.05", "--json", "typed.json")
    default, typed_in = (json.loads(Path(name).read_text()) for name in ("default.json", "typed.json"))
    assert typed_in["iou_thresholds"] == default["iou_thresholds"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-t", "boxs"), "task must be a known name; got 'boxs'. Did you mean 'boxes'?"),
        (("-t", "boxes", "--iou", "half"), "--iou must be numbers like 0.5,0.75 or 0.5:0.95:0.05; got 'half'."),
        (("-t", "boxes", "--iou", "0.9:0.1:0"), "--iou must be numbers"),
        (("-t", "boxes", "--areas", "0:5"), "--areas must be ranges like all=0:1e10,small=0:1024; got '0:5'."),
        (("-t", "boxes", "--max-detections", "1.5"), "--max-detections must be whole numbers like 1,10,100"),
        (("-t", "boxes", "--areas", "all=0:5,all=0:9"), "--areas must name each range once; got all, all."),
        (("-t", "boxes", "--areas", "all=0:5,iou50=0:9"), "area_ranges must have names other than numbers and iou50"),
        (("-t", "boxes", "--iou", "50"), "iou_thresholds must be at least one number from 0 to 1; got [50.0]."),
        (
            ("-t", "boxes", "--images", "."),
            "--images must come with --html, whose report draws upon them; got .",
        ),
        (("-t", "boxes", "--html", "a.html", "--images", "gone"), "--images must be a folder of pictures; got gone."),
        (("-t", "boxes", "--json", "/"), "--json must be a file; got the folder /. Add a name to it."),
        (("-t", "boxes", "--sigmas", "0.1"), "of the task boxes; got 'sigmas', which only keypoints has."),
        (
            (
                "-t",
                "keypoints",
            ),
            "missing required field `keypoints`",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(shell, files, words, message):
    done = shell("score", *words, *files)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("delineate: compiling")]
    assert message in line
    assert "Traceback" not in done.stderr


def test_where_to_write_is_looked_at_before_the_work(typed, files, tmp_path, monkeypatch):
    """Hours of work are not lost to a name in --json or --html."""
    import delineate.engine.scoring

    def worked(*arguments, **options):
        raise AssertionError("the work began")

    monkeypatch.setattr(delineate.engine.scoring, "measure_files", worked)
    for option in ("--json", "--html"):
        for place, message in ((tmp_path, "must be a file"), (files[1] / "deep/a.out", "found.json is a file")):
            result = typed("score", "-t", "boxes", *files, option, place)
            assert result.exit_code == 1
            assert f"{option} must be" in str(result.exception)
            assert message in str(result.exception)


def test_paths_among_the_options_are_written(typed, tmp_path):
    """And what the report alone needs is no option."""
    (tmp_path / "true").mkdir()
    np.save(tmp_path / "true/a.npy", np.array([[0, 1]]))
    (tmp_path / "names.txt").write_text("sky\nroad\n")
    folder = tmp_path / "true"
    words = ("--classes", tmp_path / "names.txt", "--json", tmp_path / "new/deep/s.json", "--html", tmp_path / "s.html")
    result = typed("score", "-t", "semantic", folder, folder, *words)
    assert result.exit_code == 0, result.output
    options = json.loads((tmp_path / "new/deep/s.json").read_text())["options"]
    assert options == {"classes": str(tmp_path / "names.txt")}


def test_masks_of_a_report_are_no_option(typed, files):
    truth = json.loads(files[0].read_text())
    truth["annotations"][0]["segmentation"] = square = [[10, 10, 20, 10, 20, 20, 10, 20]]
    files[0].write_text(json.dumps(truth))
    files[1].write_text(json.dumps([{"image_id": 1, "category_id": 1, "segmentation": square, "score": 0.5}]))
    result = typed("score", "-t", "masks", *files, "--json", "s.json", "--html", "s.html")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("s.json").read_text())["options"] == {}


def test_figures_without_classes_say_so(typed, tmp_path):
    (tmp_path / "true").mkdir()
    np.save(tmp_path / "true/a.npy", np.array([[0, 1]]))
    result = typed("score", "-t", "saliency", tmp_path / "true", tmp_path / "true", "--per-class")
    assert result.exit_code == 0, result.output
    assert "--per-class: the figures of the task saliency are not told by class." in result.output


def test_nothing_is_left_half_written(shell, files, tmp_path):
    done = shell("score", "-t", "boxes", *files, "--json", tmp_path / "found.json" / "deep.json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "truth.json"]


def test_what_is_read_is_not_written_over(typed, files):
    before = files[0].read_text()
    result = typed("score", "-t", "boxes", *files, "--json", files[0])
    assert "--json must be another file than what is read" in str(result.exception)
    assert files[0].read_text() == before

from __future__ import annotations

import base64
import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.engine.object_scoring import Evidence
from delineate.errors import DataError
from delineate.metrics.detection import average_precision
from delineate.ops.matching import box_overlaps, match_objects
from delineate.report.mistakes import (
    KINDS,
    MOST_LISTED,
    MOST_PICTURES,
    PictureFiles,
    explained,
    from_score,
    mistake_groups,
    pair_overlaps,
    ranked_mistakes,
    taken_classes,
)
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

CAT, DOG = [10.0, 10.0, 40.0, 40.0], [60.0, 10.0, 30.0, 60.0]


def evidence_of(truth: Annotations, found: Objects) -> Evidence:
    return Evidence(truth, found, average_precision(match_objects(truth, found)), box_overlaps)


def one_of_each_kind() -> Evidence:
    """Image 0: a cat found, found again, and taken for a dog. Image 1: a cat badly placed, a dog missed, a fancy."""
    truth = Annotations.of(
        (7, 42),
        ("cat", "dog"),
        Objects.of([0, 1, 1], [0, 0, 1], [CAT, CAT, DOG]),
        image_sizes=[(80, 100), (80, 100)],
        image_files=("a/one.png", "two.png"),
    )
    boxes = [CAT, [10, 10, 40, 38], [10, 10, 40, 39], [10, 10, 12, 40], [2, 60, 10, 10]]
    return evidence_of(truth, Objects.of([0, 0, 0, 1, 1], [0, 0, 1, 0, 1], boxes, scores=[0.9, 0.8, 0.7, 0.6, 0.5]))


def crowd_of_mistakes(images: int, classes: int, each: int) -> Evidence:
    """Nothing is there, and every image has ``each`` detections of falling scores."""
    truth = Annotations.of(range(images), [f"c{k}" for k in range(classes)], Objects.of([], [], []))
    rows = np.arange(images * each)
    boxes = np.tile([0.0, 0.0, 5.0, 5.0], (len(rows), 1))
    scores = 1 - rows / len(rows)
    return evidence_of(truth, Objects.of(rows // each, rows % classes, boxes, scores=scores))


def save(path: Path, height: int = 80, width: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 128, np.uint8)).save(path)


def test_each_kind_is_found_with_its_truth_and_overlap():
    evidence = one_of_each_kind()
    errors = explained(evidence)
    ranked = {kind: list(ranked_mistakes(evidence, errors, kind)) for kind in KINDS}
    assert {kind: [(one.image, one.detection, one.truth) for one in found] for kind, found in ranked.items()} == {
        "background": [(1, 4, -1)],
        "classification": [(0, 2, 0)],
        "localisation": [(1, 3, 1)],
        "duplicate": [(0, 1, 0)],
        "missed": [(1, -1, 2)],
    }
    assert ranked["localisation"][0].overlap == pytest.approx(12 / 40)
    assert ranked["duplicate"][0].overlap == pytest.approx(38 / 40)
    assert np.isnan(ranked["missed"][0].overlap)
    assert taken_classes(evidence, errors) == [("cat", "dog", 1)]


def test_from_a_score_on_the_rest_is_as_before_and_what_faint_ones_found_is_missed():
    evidence = one_of_each_kind()
    surest = from_score(evidence, 0.7)
    errors = explained(surest)
    ranked = {kind: list(ranked_mistakes(surest, errors, kind)) for kind in KINDS}
    assert {kind: [(one.image, one.detection, one.truth) for one in found] for kind, found in ranked.items()} == {
        "background": [],
        "classification": [(0, 2, 0)],
        "localisation": [],
        "duplicate": [(0, 1, 0)],
        "missed": [(1, -1, 2), (1, -1, 1)],  # the dog, larger than the cat that only a fainter one pointed at
    }
    assert surest.truth is evidence.truth
    assert surest.result is evidence.result
    whole = from_score(evidence, 0.0)
    assert np.array_equal(explained(whole).kinds, explained(evidence).kinds)
    nothing = from_score(evidence, 2.0)
    assert len(nothing.predictions) == 0
    assert len(list(ranked_mistakes(nothing, explained(nothing), "missed"))) == 3


def test_pairs_overlap_as_pairs_of_one():
    evidence = one_of_each_kind()
    found = pair_overlaps(evidence, [0, 1, 2, 4], [0, 0, 0, 2])
    np.testing.assert_allclose(found, [1, 38 / 40, 39 / 40, 0])


def test_the_most_confident_come_first_but_of_different_images_and_classes():
    evidence = crowd_of_mistakes(images=8, classes=4, each=3)
    order = [one.detection for one in ranked_mistakes(evidence, explained(evidence), "background")]
    # first of each image by score, classes 0, 3, 2, 1, 0, 3, 2, 1: none more than twice
    assert order == [0, 3, 6, 9, 12, 15, 18, 21, *(row for row in range(24) if row % 3)]


def test_one_class_still_comes_from_different_images_first():
    evidence = crowd_of_mistakes(images=5, classes=1, each=2)
    order = [one.detection for one in ranked_mistakes(evidence, explained(evidence), "background")]
    assert order == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]


def test_only_images_that_can_be_shown_are_ranked():
    evidence = crowd_of_mistakes(images=5, classes=1, each=2)
    among = np.array([False, False, True, False, True])
    order = ranked_mistakes(evidence, explained(evidence), "background", among=among)
    assert [one.image for one in order] == [2, 4, 2, 4]


def test_large_missed_objects_come_first_and_crowds_never():
    boxes = [[0, 0, 5, 5], [0, 0, 50, 50], [0, 0, 20, 20], [0, 0, 90, 90]]
    objects = Objects.of([0, 1, 2, 3], [0] * 4, boxes, crowd=[False, False, False, True])
    evidence = evidence_of(Annotations.of(range(4), ("cat",), objects), Objects.of([], [], [], scores=[]))
    assert [one.truth for one in ranked_mistakes(evidence, explained(evidence), "missed")] == [1, 2, 0]


def test_without_pictures_mistakes_are_listed_up_to_a_limit():
    groups, notes = mistake_groups("boxes", *with_errors(crowd_of_mistakes(40, 2, 1)))
    assert [(group.key, len(group.mistakes)) for group in groups] == [("background", MOST_LISTED)]
    first = groups[0].mistakes[0]
    assert (first.name, first.score, first.size, first.file, first.picture) == ("c0", 1.0, "5 x 5", "0", "")
    assert notes == []


def with_errors(evidence: Evidence) -> tuple[Evidence, object]:
    return evidence, explained(evidence)


def groups_on(task: str, evidence: Evidence, folder: Path):
    return mistake_groups(task, *with_errors(evidence), PictureFiles(folder, evidence.truth))


def test_pictures_are_drawn_and_limited(tmp_path: Path):
    evidence = crowd_of_mistakes(images=30, classes=3, each=1)
    for image in range(30):
        save(tmp_path / f"{image}.png")
    groups, notes = groups_on("boxes", evidence, tmp_path)
    assert len(groups[0].mistakes) == MOST_PICTURES
    for one in groups[0].mistakes:
        kind, data = one.picture.split(",")
        assert kind == "data:image/webp;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (one.width, one.height)
    assert notes == []
    again, _ = groups_on("boxes", evidence, tmp_path)
    assert again == groups


def test_every_kind_can_be_drawn(tmp_path: Path):
    save(tmp_path / "one.png")
    save(tmp_path / "two.png")
    groups, notes = groups_on("boxes", one_of_each_kind(), tmp_path)
    assert [group.key for group in groups] == list(KINDS)
    assert all(one.picture for group in groups for one in group.mistakes)
    wrong = next(group for group in groups if group.key == "classification").mistakes[0]
    assert (wrong.name, wrong.truth, wrong.file) == ("dog", "cat", "a/one.png")
    assert wrong.overlap == pytest.approx(39 / 40)
    assert notes == []


def test_missing_damaged_and_other_sized_pictures_are_counted_and_passed_over(tmp_path: Path):
    truth = Annotations.of(
        range(5),
        ("cat",),
        Objects.of([], [], []),
        image_files=[f"{k}.png" for k in range(5)],
        image_sizes=[(80, 100)] * 5,
    )
    boxes = [[0.0, 0.0, 5.0, 5.0]] * 5
    evidence = evidence_of(truth, Objects.of(range(5), [0] * 5, boxes, scores=[0.9, 0.8, 0.7, 0.6, 0.5]))
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    save(tmp_path / "1.png", 100, 80)
    save(tmp_path / "2.png")
    groups, notes = groups_on("boxes", evidence, tmp_path)
    assert [one.file for one in groups[0].mistakes] == ["2.png"]
    assert notes == [
        f"2 of 5 images were not found below {tmp_path}.",
        f"{tmp_path / '0.png'} could not be read and is left out.",
        f"{tmp_path / '1.png'} has another size than annotated and is left out.",
    ]


def test_where_no_picture_is_found_mistakes_are_listed(tmp_path: Path):
    groups, notes = groups_on("boxes", one_of_each_kind(), tmp_path)
    assert [group.key for group in groups] == list(KINDS)
    assert not any(one.picture for group in groups for one in group.mistakes)
    assert notes == [f"2 of 2 images were not found below {tmp_path}."]


def test_a_folder_that_is_none_is_an_error(tmp_path: Path):
    with pytest.raises(DataError) as error:
        groups_on("boxes", one_of_each_kind(), tmp_path / "nowhere")
    assert str(error.value) == f"images must be a folder of pictures; got {tmp_path / 'nowhere'}. Check the name."


def files(folder: Path, ids: list, names: list[str]) -> PictureFiles:
    return PictureFiles(folder, Annotations.of(ids, ("cat",), Objects.of([], [], []), image_files=names))


def test_pictures_are_found_by_path_then_name_then_id(tmp_path: Path):
    for name in ("val/a.png", "train/a.png", "deep/down/b.jpg", "000000000042.jpg", "x17.png"):
        save(tmp_path / name)
    find = files(tmp_path, [1, 2, 3, 42, 50], ["val/a.png", "other/b.jpg", "a.png", "", "nowhere.png"]).find
    assert find(0) == tmp_path / "val/a.png"
    assert find(1) == tmp_path / "deep/down/b.jpg"
    assert find(2) is None  # two of that name, and nothing says which
    assert find(3) == tmp_path / "000000000042.jpg"
    assert find(4) is None
    assert files(tmp_path, ["x17"], [""]).find(0) == tmp_path / "x17.png"
    assert files(tmp_path, ["x17"], [r"C:\data\x17.png"]).find(0) == tmp_path / "x17.png"


def test_a_name_cannot_leave_the_folder(tmp_path: Path):
    save(tmp_path / "secret.png")
    save(tmp_path / "inside" / "b.png")
    found = partial(files, tmp_path / "inside", [1])
    assert found(["../secret.png"]).find(0) is None
    assert found([str(tmp_path / "secret.png")]).find(0) is None

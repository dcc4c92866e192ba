import numpy as np

from delineate.data.duplicates import FilePrint, duplicate_problems, near_duplicate_problems


def picture(name, pixels=None, look=None):
    return FilePrint(f"/data/{name}", f"bytes of {name}", pixels or name, look)


def test_each_copy_is_named_once_with_the_first():
    prints = {
        "train": [picture("a", "same"), picture("b")],
        "val": [picture("c", "same"), picture("d", "same")],
        "test": [picture("b")],
    }
    problems = duplicate_problems(prints)
    assert [(p.severity, p.kind, p.file, p.split) for p in problems] == [
        ("error", "duplicate-across-splits", "/data/c", "val"),
        ("error", "duplicate-across-splits", "/data/d", "val"),
        ("error", "duplicate-across-splits", "/data/b", "test"),
    ]
    assert (
        problems[0].message
        == "the same pixels as /data/a of split 'train': what is trained on would be scored on 'val'"
    )
    assert problems[2].message.startswith("the same file is listed in split 'train'")


def test_a_split_that_joins_others_repeats_them_by_design():
    prints = {"train": [picture("a")], "trainval": [picture("a"), picture("b")], "val": [picture("b")]}
    assert duplicate_problems(prints) == []
    assert near_duplicate_problems({"train": [picture("a", look=5)], "trainval": [picture("x", look=5)]}) == ([], [])
    (only,) = duplicate_problems({"all": [picture("a", "same"), picture("b", "same")]})
    assert (only.severity, only.kind) == ("warning", "duplicate")


def test_unreadable_pictures_are_no_copies_of_each_other():
    prints = {"train": [FilePrint("/data/a"), FilePrint("/data/b")], "val": [FilePrint("/data/c")]}
    assert duplicate_problems(prints) == []
    assert near_duplicate_problems(prints) == ([], [])


def test_hundreds_of_near_copies_are_one_line():
    generator = np.random.default_rng(0)
    looks = [int(look) for look in generator.integers(0, 2**63, 300, dtype=np.uint64)]
    prints = {
        "train": [picture(f"t{i}", look=look) for i, look in enumerate(looks)],
        "val": [picture(f"v{i}", look=look ^ (i % 7 and 1 << i % 7)) for i, look in enumerate(looks)],
    }
    problems, pairs = near_duplicate_problems(prints)
    (problem,) = problems
    assert problem.message == (
        "300 of 300 images of 'val' look almost like one of 'train' (v0 and t0; v7 and t7; v14 and t14, ...); "
        "scores on 'val' may flatter"
    )
    assert len(pairs) == 300
    assert [distance for *_, distance in pairs] == sorted(distance for *_, distance in pairs)

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.data.objects import shards
from delineate.data.objects.class_names import UnnumberedAnnotations
from delineate.data.objects.shards import read_predictions, write_shard
from delineate.errors import ArgumentError, DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

NOTHING = Objects.of([], [], [])
TRUTH = Annotations.of((7, 9), ("cat", "dog"), NOTHING, image_sizes=[(5, 6), (4, 8)], class_ids=(1, 18))
NAMED = Annotations.of(("a", "bb"), ("cat", "dog"), NOTHING)


def columns(**changes):
    plain = {
        "image_ids": [7, 9, 9],
        "labels": [18, 1, 1],
        "scores": [0.5, 0.25, 1],
        "boxes": np.arange(12.0).reshape(3, 4),
    }
    return {name: value for name, value in {**plain, **changes}.items() if value is not None}


def shard(path, **changes):
    np.savez(path, **columns(**changes))
    return path


def masks():
    found = [np.zeros((4, 8), bool), np.zeros((5, 6), bool), np.ones((4, 8), bool)]
    found[0][1:3, 2:7] = True
    return RLEMasks.from_rles([RLE.encode(mask) for mask in found])


def mask_columns(**changes):
    compressed = masks().select([1, 0, 2])
    parts = {"mask_text": compressed.text, "mask_offsets": compressed.offsets, "mask_sizes": compressed.sizes}
    return {**parts, **changes}


def same(a, b):
    return all(
        (getattr(a, name) == getattr(b, name)).all()
        for name in ("images", "labels", "boxes", "scores", "areas", "crowd", "ignored", "ids")
    )


def test_a_shard_by_hand(tmp_path):
    objects = read_predictions(shard(tmp_path / "a.npz", more=np.array([{}], object)), TRUTH)
    assert objects.images.tolist() == [0, 1, 1]
    assert objects.labels.tolist() == [1, 0, 0]
    assert objects.scores.tolist() == [0.5, 0.25, 1]
    assert objects.boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert objects.areas.tolist() == [6, 42, 110]


@pytest.mark.parametrize("dtype", ["<f2", ">f4", ">i8", "u1", "<i2"])
@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_any_type_of_number_and_order(tmp_path, dtype, pack):
    boxes = np.asfortranarray(np.arange(12).reshape(3, 4).astype(dtype))
    pack(tmp_path / "a.npz", **columns(boxes=boxes, labels=np.array([18, 1, 1], np.uint8)))
    objects = read_predictions(tmp_path, TRUTH)
    assert objects.boxes.tolist() == np.arange(12.0).reshape(3, 4).tolist()


def test_images_may_point_into_a_table_of_ids(tmp_path):
    file = shard(tmp_path / "a.npz", image_ids=["bb", "a"], images=[0, 1, 0], labels=[0, 1, 1])
    assert read_predictions(file, NAMED).images.tolist() == [1, 0, 1]
    plain = shard(tmp_path / "b.npz", image_ids=["bb", "a", "bb"], labels=[0, 1, 1])
    assert read_predictions(plain, NAMED).images.tolist() == [1, 0, 1]


def test_shards_follow_by_name(tmp_path):
    shard(tmp_path / "1.npz", image_ids=[9], labels=[1], scores=[0.5], boxes=np.ones((1, 4)))
    shard(tmp_path / "0.npz")
    shard(
        tmp_path / "2.npz",
        image_ids=[],
        labels=np.zeros(0, int),
        scores=[],
        boxes=np.zeros((0, 4)),
        images=np.zeros(0, int),
    )
    whole = read_predictions(tmp_path, TRUTH)
    assert whole.images.tolist() == [0, 1, 1, 1]
    assert whole.scores.tolist() == [0.5, 0.25, 1, 0.5]
    assert whole.ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("truth", [TRUTH, NAMED])
def test_what_is_written_is_read(tmp_path, truth):
    generator = np.random.default_rng(0)
    objects = Objects.of(
        generator.integers(0, 2, 50),
        generator.integers(0, 2, 50),
        generator.uniform(-5, 50, (50, 4)),
        scores=generator.random(50),
    )
    write_shard(tmp_path / "deep/0.npz", objects, truth)
    assert same(read_predictions(tmp_path / "deep", truth), objects)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["0.npz"]
    for part, rows in enumerate((slice(0, 20), slice(20, 20), slice(20, 50))):
        write_shard(tmp_path / f"parts/{part}.npz", objects.select(np.arange(50)[rows]), truth)
    assert same(read_predictions(tmp_path / "parts", truth), objects)


def test_labels_of_a_truth_without_numbers_count_a_list(tmp_path):
    truth = UnnumberedAnnotations.of(("a",), ("cat", "dog"), NOTHING)
    objects = Objects.of([0, 0], [0, 1], [[0, 0, 4, 5]] * 2, scores=[0.5, 0.25])
    file = tmp_path / "a.npz"
    write_shard(file, objects, truth)
    assert same(read_predictions(file, truth), objects)
    (tmp_path / "classes.txt").write_text("dog\ncat")
    for path in (file, tmp_path):
        assert read_predictions(path, truth).labels.tolist() == [1, 0]


def test_masks_and_keypoints_are_written_and_read(tmp_path):
    compressed = masks()
    objects = Objects.of(
        [1, 0, 1],
        [0, 1, 1],
        compressed.boxes(),
        scores=[0.5, 0.25, 1],
        areas=compressed.areas(),
        masks=compressed,
        keypoints=np.arange(18).reshape(3, 2, 3),
    )
    write_shard(tmp_path / "0.npz", objects, TRUTH)
    found = read_predictions(tmp_path / "0.npz", TRUTH, columns="masks")
    assert same(found, objects)
    assert list(found.masks) == list(compressed)
    assert found.keypoints is None
    posed = read_predictions(tmp_path / "0.npz", TRUTH, columns="keypoints")
    assert (posed.keypoints == objects.keypoints).all()
    assert posed.boxes[1].tolist() == [6, 7, 3, 3]
    assert posed.areas.tolist() == [9, 9, 9]
    assert posed.masks is None


def test_no_detections(tmp_path):
    empty = Objects.of([], [], [], scores=[], masks=RLEMasks.from_rles([]), keypoints=np.zeros((0, 2, 3)))
    write_shard(tmp_path / "0.npz", empty, NAMED)
    for wanted in ("boxes", "masks", "keypoints"):
        found = read_predictions(tmp_path, NAMED, columns=wanted)
        assert len(found) == len(found.scores) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None, "boxes": None}, r"shard must hold image_ids, labels, scores, boxes; got no labels, boxes in"),
        ({"labels": [1.0, 1, 1]}, r"labels must be \(any\) whole numbers; got \(3,\) float64 in"),
        ({"labels": [[1, 1, 1]]}, r"labels must be \(any\) whole numbers; got \(1, 3\) int64 in"),
        ({"labels": [1, 2, 1]}, r"class must be one of the 2 known ones; got '2'.*, labels\[1\]\."),
        ({"scores": [1, 2]}, r"scores must be \(3\) numbers; got \(2,\) int64 in"),
        ({"scores": ["a", "b", "c"]}, r"scores must be \(3\) numbers; got \(3,\) <U1 in"),
        ({"scores": [1, np.nan, 1]}, r"scores must be finite; got NaN or infinity in .*, row 1\."),
        ({"scores": [1, 1, np.inf]}, r"scores must be finite; got NaN or infinity in .*, row 2\."),
        ({"boxes": np.zeros((3, 5))}, r"boxes must be \(3, 4\) numbers; got \(3, 5\) float64 in"),
        ({"boxes": np.full((3, 4), 1e200)}, r"arrays must be detections; got, in .*: areas must be finite"),
        ({"boxes": np.full((3, 4), 1 + 1j)}, r"boxes must hold plain numbers or text; got <c16 in"),
        ({"boxes": np.full((3, 4), None)}, r"boxes must hold plain numbers or text; got \|O in .*objects are not read"),
        ({"boxes": np.zeros(3, "f4,f4")}, r"boxes must hold plain numbers or text; got \[\('f0'"),
        ({"boxes": np.zeros((3, 4), "M8[s]")}, r"boxes must hold plain numbers or text; got <M8\[s\] in"),
        ({"image_ids": [7, 9]}, r"image_ids must be \(3\) whole numbers or text; got \(2,\) int64 in"),
        ({"image_ids": [7.0, 9, 9]}, r"image_ids must be \(3\) whole numbers or text; got \(3,\) float64 in"),
        ({"image_ids": [7, 9, 8]}, r"image must be one of the 2 known ones; got '8'.*, image_ids\[2\]\."),
        ({"images": [0, 1, 3]}, r"images must point into the 3 image_ids; got 3 in .*, row 2\."),
        ({"images": [0, -1, 1]}, r"images must point into the 3 image_ids; got -1 in .*, row 1\."),
    ],
)
def test_errors_name_file_array_and_row(tmp_path, changes, message):
    with pytest.raises(DataError, match=message) as raised:
        read_predictions(shard(tmp_path / "a.npz", **changes), TRUTH)
    assert str(tmp_path / "a.npz") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_text": np.zeros(9)}, r"mask_text must be \(any\) whole numbers; got \(9,\) float64"),
        ({"mask_text": np.zeros(9, int)}, r"mask_text must be uint8; got int64 in"),
        (
            {"mask_text": np.full(len(masks().text), 48, np.uint8)},
            r"mask must be COCO's run lengths; got, in .*a\.npz, row 0",
        ),
        ({"mask_offsets": [0, 1]}, r"mask_offsets must be \(4\) whole numbers; got \(2,\)"),
        (
            {"mask_offsets": [0, 9, 4, len(masks().text)]},
            r"masks must fit their arrays; got, in .*a\.npz: offsets must",
        ),
        (
            {"mask_sizes": [[5, 6], [4, 8], [8, 4]]},
            r"mask must be of its image's size \(4, 8\); got \(8, 4\) in .*, row 2",
        ),
    ],
)
def test_errors_of_masks(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read_predictions(shard(tmp_path / "a.npz", **mask_columns(**changes)), TRUTH, columns="masks")


def test_shards_of_other_keypoints_do_not_mix(tmp_path):
    shard(tmp_path / "a.npz", keypoints=np.zeros((3, 4, 3)))
    empty = {"image_ids": [], "labels": [], "scores": [], "boxes": [], "keypoints": []}
    shard(tmp_path / "b.npz", **empty)
    assert len(read_predictions(tmp_path, TRUTH, columns="keypoints")) == 3
    shard(tmp_path / "c.npz", keypoints=np.zeros((3, 5, 3)))
    with pytest.raises(
        DataError, match=r"keypoints must be as many in every shard; got 5 in .*c\.npz, 4 in .*a\.npz\."
    ):
        read_predictions(tmp_path, TRUTH, columns="keypoints")


def test_masks_of_images_without_a_size(tmp_path):
    truth = Annotations.of((7, 9), ("cat",), NOTHING, class_ids=(1,))
    changes = mask_columns(mask_sizes=[[0, 6], [2**40, 8], [8, 4]], labels=[1, 1, 1])
    with pytest.raises(DataError, match=r"a\.npz.*size \(0, 6\) is not a positive"):
        read_predictions(shard(tmp_path / "a.npz", **changes), truth, columns="masks")


def test_errors_of_keypoints(tmp_path):
    posed = Annotations.of(
        (7, 9), ("cat", "dog"), Objects.of([0], [0], [[0, 0, 1, 1]], keypoints=np.zeros((1, 2, 3))), class_ids=(1, 18)
    )
    file = shard(tmp_path / "a.npz", keypoints=np.zeros((3, 4, 3)))
    with pytest.raises(DataError, match=r"keypoints must be \(3, 2, 3\) numbers; got \(3, 4, 3\) float64 in"):
        read_predictions(file, posed, columns="keypoints")
    assert read_predictions(file, TRUTH, columns="keypoints").keypoints.shape == (3, 4, 3)


def npy(array, **header):
    buffer = io.BytesIO()
    np.save(buffer, array)
    content = buffer.getvalue()
    for old, new in header.items():
        content = content.replace(*(text.encode() for text in (old, new)))
    return content


def archive(path, entries, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def entries(**changes):
    return [
        (f"{name}.npy", value if isinstance(value, bytes) else npy(np.array(value)))
        for name, value in columns(**changes).items()
    ]


SCORES = npy(np.zeros(3))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            SCORES.replace(b"(3,)", b"(9,)"),
            r"scores must be as large as its header says; got 24 bytes for \(9,\) float64",
        ),
        (SCORES.replace(b"(3,), }    ", b"(3**9,), } "), r"scores must have NumPy's header"),
        (
            SCORES.replace(b"(3,), }         ", b"(999999999,), } "),
            r"scores must be as large as its header says; got 24 bytes",
        ),
        (SCORES + b"more", r"scores must be as large as its header says; got 28 bytes"),
        (SCORES.replace(b"<f8", b"|O8"), r"scores must hold plain numbers or text; got \|O8"),
        (SCORES.replace(b"<f8", b"<U0").replace(b"(3,)", b"(9,)"), r"scores must hold plain numbers or text; got <U0"),
        (SCORES.replace(b"shape", b"sheep"), r"scores must have NumPy's header; got another one"),
        (SCORES.replace(b"(3,)", b"-3.0"), r"scores must hold plain|scores must have NumPy's header"),
        (SCORES.replace(b"NUMPY", b"LUMPY"), r"scores must be a NumPy array; got something else"),
        (SCORES.replace(b"\x93NUMPY\x01", b"\x93NUMPY\x09"), r"scores must be a NumPy array"),
        (SCORES[:8] + b"\xff\xff" + SCORES[10:], r"scores must have a short header; got one of 65,535 bytes"),
        (b"", r"scores must be a NumPy array"),
    ],
)
def test_a_header_that_lies_is_not_believed(tmp_path, scores, message):
    file = archive(tmp_path / "a.npz", entries(scores=scores))
    with pytest.raises(DataError, match=message):
        read_predictions(file, TRUTH)


def test_archives_that_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    file = shard(tmp_path / "a.npz")
    monkeypatch.setattr(shards, "MOST_BYTES", 500)
    with pytest.raises(DataError, match=r"shard must unpack to at most 0 GiB; got 0\.0 GiB in .*a\.npz"):
        read_predictions(file, TRUTH)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_archives(tmp_path):
    twice = archive(tmp_path / "twice.npz", [*entries(), *entries()[:1]])
    with pytest.raises(DataError, match=r"arrays must have different names; got 'image_ids' twice in .*twice\.npz"):
        read_predictions(twice, TRUTH)
    whole = shard(tmp_path / "whole.npz").read_bytes()
    for name, content in (
        ("cut", whole[:-30]),
        ("flipped", whole.replace(bytes([0xE0, 0x3F]), bytes([0xE1, 0x3F]))),
        ("none", b""),
    ):
        file = tmp_path / f"{name}.npz"
        file.write_bytes(content)
        with pytest.raises(DataError, match=rf"shard must be a whole \.npz archive; got, in .*{name}\.npz: "):
            read_predictions(file, TRUTH)


def test_errors_about_files(tmp_path):
    with pytest.raises(DataError, match=r"predictions must be a folder; got .*nowhere, where nothing is"):
        read_predictions(tmp_path / "nowhere", TRUTH)
    with pytest.raises(DataError, match=r"predictions must be a folder with \.npz files; got"):
        read_predictions(tmp_path, TRUTH)
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(DataError, match=r"shard must be readable; got Is a directory for .*a\.npz"):
        read_predictions(tmp_path, TRUTH)
    with pytest.raises(ArgumentError, match=r"columns must be one of boxes, masks, keypoints; got 'all'\."):
        read_predictions(tmp_path, TRUTH, columns="all")


def test_writing_refuses_what_could_not_be_read(tmp_path):
    objects = Objects.of([1], [0], [[0, 0, 1, 1]], scores=[1])
    with pytest.raises(ArgumentError, match=r"path must end in \.npz; got a\.npy\."):
        write_shard(tmp_path / "a.npy", objects, TRUTH)
    with pytest.raises(ArgumentError, match=r"objects must have scores; got none\. A shard holds predictions\."):
        write_shard(tmp_path / "a.npz", Objects.of([1], [0], [[0, 0, 1, 1]]), TRUTH)
    for images, labels, message in (
        ([2], [0], r"objects\.images must be below 2; got 2"),
        ([0], [2], r"objects\.labels must"),
    ):
        with pytest.raises(ArgumentError, match=message):
            write_shard(tmp_path / "a.npz", Objects.of(images, labels, [[0, 0, 1, 1]], scores=[1]), TRUTH)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_shard(tmp_path, monkeypatch):
    objects = Objects.of([1], [0], [[0, 0, 1, 1]], scores=[1])
    write_shard(tmp_path / "a.npz", objects, TRUTH)

    def full(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="disk full"):
        write_shard(tmp_path / "a.npz", objects, TRUTH)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert len(read_predictions(tmp_path, TRUTH)) == 1


ARRAYS = st.sampled_from(
    [
        [7, 9, 9],
        [1, 1, 1],
        [],
        3,
        [[1]],
        [0.5, 1, np.nan],
        ["7", "9", "\x00"],
        np.zeros((3, 4)),
        np.zeros((3, 2, 3)),
        [2**63] * 3,
    ]
)
NAMES = st.sampled_from(
    ["image_ids", "images", "labels", "scores", "boxes", "mask_text", "mask_offsets", "mask_sizes", "keypoints"]
)


def read_or_refused(read):
    """What a reader gives, and "" or the text of its refusal."""
    try:
        return read(), ""
    except DataError as error:
        return None, str(error)


@settings(deadline=None, max_examples=150)
@given(
    changes=st.dictionaries(NAMES, ARRAYS, max_size=3),
    place=st.integers(0, 3000),
    patch=st.one_of(st.none(), st.binary(min_size=1, max_size=4)),
    compressed=st.booleans(),
)
def test_any_content_gives_objects_or_a_data_error(changes, place, patch, compressed):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **columns(**{**mask_columns(), **changes}))
    content = buffer.getvalue()
    if patch is not None:
        place %= len(content)
        content = content[:place] + patch + content[place + len(patch) :]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "a.npz")
        file.write_bytes(content)
        for wanted in ("boxes", "masks", "keypoints"):
            objects, refusal = read_or_refused(lambda wanted=wanted: read_predictions(file, TRUTH, columns=wanted))
            assert str(file) in refusal if objects is None else len(objects) in (0, 3)

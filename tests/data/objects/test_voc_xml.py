import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.data.objects.class_names import is_numbered
from delineate.data.objects.voc_xml import read_image_list, read_truth, split_images
from delineate.errors import DataError

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
SIZE = "<size><width>100</width><height>50</height><depth>3</depth></size>"


def box(*corners):
    return BOX.format(*corners)


def thing(name="cat", content=None, extra=""):
    return f"<object><name>{name}</name>{extra}{box(1, 2, 11, 22) if content is None else content}</object>"


def document(*objects, size=SIZE, filename="<filename>a.jpg</filename>"):
    return f"<annotation>{filename}{size}{''.join(objects)}</annotation>"


@pytest.fixture
def folder(tmp_path):
    def written(**files):
        for stem, content in files.items():
            path = tmp_path / f"{stem}.xml"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return written


def test_a_folder_by_hand(folder):
    head = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>99</xmax><ymax>99</ymax></bndbox></part>"
    home = folder(
        b=document(
            thing("dog", box(" 10 ", "20.5", "1e2", 40), "<difficult>1</difficult><truncated>1</truncated>"),
            thing("cat", box(3, 3, 3, 3), head + "<difficult>0</difficult><actions><difficult>x</difficult></actions>"),
        ),
        a=document(size="", filename=""),
        c=document(thing("traffic light &amp; <![CDATA[<pole>]]>"), size=SIZE.replace("100", "")),
    )
    (home / "notes.txt").write_text("no annotation")
    truth = read_truth(home)
    assert truth.image_ids == ("a", "b", "c")
    assert truth.image_sizes.tolist() == [[0, 0], [50, 100], [50, 0]]
    assert truth.image_files == ("", "a.jpg", "a.jpg")
    assert truth.classes == ("cat", "dog", "traffic light & <pole>")
    assert truth.objects.images.tolist() == [1, 1, 2]
    assert truth.objects.labels.tolist() == [1, 0, 2]
    assert truth.objects.boxes.tolist() == [[10, 20.5, 90, 19.5], [3, 3, 0, 0], [1, 2, 10, 20]]
    assert truth.objects.areas.tolist() == [90 * 19.5, 0, 200]
    assert truth.objects.ignored.tolist() == [True, False, False]
    assert truth.objects.scores is None
    assert not truth.objects.crowd.any()


def test_images_and_classes_may_be_given(folder):
    home = folder(a=document(thing()), b=document(thing("dog")), c=document())
    (home / "list.txt").write_text("c  1\na -1\n\n")
    images = read_image_list(home / "list.txt")
    assert images == ("c", "a")
    truth = read_truth(home, classes=["bird", "cat"], images=images)
    assert (truth.image_ids, truth.classes) == (("a", "c"), ("bird", "cat"))
    assert truth.objects.labels.tolist() == [1]
    assert read_truth(home, images=[]).num_images == 0


def test_classes_that_are_not_given_have_no_numbers(folder):
    home = folder(a=document(thing(), thing("dog")))
    assert not is_numbered(read_truth(home))
    assert is_numbered(read_truth(home, classes=["dog", "cat"]))


def test_the_images_of_a_split(tmp_path):
    for name in ("Annotations", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    for name, content in (("val", "b\na\n"), ("train", "c"), ("cat_val", "a 1\nb -1")):
        (tmp_path / f"ImageSets/Main/{name}.txt").write_text(content)
    assert split_images(tmp_path, "val") == split_images(tmp_path / "Annotations", "val") == ("b", "a")
    with pytest.raises(DataError, match=r"split must have a list in .*Main; got 'test'\. It holds train, val\."):
        split_images(tmp_path, "test")
    with pytest.raises(DataError, match=r"got 'val'\. It holds no list\."):
        split_images(tmp_path / "ImageSets", "val")
    with pytest.raises(DataError, match=r"annotations must be a folder; got .*nowhere"):
        split_images(tmp_path / "nowhere", "val")


def test_files_without_objects(folder):
    truth = read_truth(folder(a=document(), b="<annotation/>"), classes=["cat"])
    assert (truth.num_images, truth.num_classes, len(truth.objects)) == (2, 1, 0)


def test_bccd(real_data):
    truth = read_truth(real_data / "bccd")
    assert truth.classes == ("Platelets", "RBC", "WBC")
    assert np.bincount(truth.objects.labels).tolist() == [292, 3350, 301]
    assert truth.num_images == 292
    assert (truth.image_sizes == [480, 640]).all()
    assert int((truth.objects.areas == 0).sum()) == 2
    parts = [
        read_truth(real_data / "bccd", images=read_image_list(real_data / f"bccd/ImageSets/Main/{split}.txt"))
        for split in ("train", "val")
    ]
    assert [part.num_images for part in parts] == [205, 87]
    assert sum(len(part.objects) for part in parts) == len(truth.objects) == 3943


def test_bccd_agrees_with_elementtree(real_data):
    truth = read_truth(real_data / "bccd/Annotations")
    expected = []
    for image, stem in enumerate(truth.image_ids):
        for found in ElementTree.parse(real_data / f"bccd/Annotations/{stem}.xml").getroot().iter("object"):
            x1, y1, x2, y2 = (float(found.find(f"bndbox/{corner}").text) for corner in ("xmin", "ymin", "xmax", "ymax"))
            expected.append((image, truth.classes.index(found.find("name").text), x1, y1, x2 - x1, y2 - y1))
    objects = truth.objects
    columns = np.concatenate([np.stack([objects.images, objects.labels], axis=1), objects.boxes], axis=1)
    assert (columns == np.array(expected)).all()


def test_the_toy(real_data):
    truth = read_truth(real_data / "refvec/pascal_ap_toy/gts_vocpascal_format")
    assert "cat" in truth.classes
    assert truth.image_files[0] == "2007_000549.jpg"
    assert truth.objects.boxes[0].tolist() == [1, 49, 340, 450]


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotation><filename>&c;</filename></annotation>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"must be well-formed XML; got, in .*no element found"),
        ("<annotation>", r"must be well-formed XML"),
        (b"<annotation>\xff</annotation>", r"must be well-formed XML"),
        ("<annotation>&b;</annotation>", r"must be well-formed XML"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', r"must be well-formed XML"),
        (BOMB, r"must be XML without document type or entities"),
        (BOMB.encode("utf-16"), r"must be XML without document type or entities"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', r"must be XML without document type"),
        ("<html/>", r"must begin with <annotation>; got <html> in"),
        (document(thing(extra="<name>dog</name>")), r"name must be given once; got it again in object 1 of"),
        (
            document(thing(), thing(content=box(1, 2, 3, 4) * 2)),
            r"xmin must be given once; got it again in object 2 of",
        ),
        (
            document(filename="<filename>a</filename><filename>b</filename>"),
            r"filename must be given once; got it again in",
        ),
        (document(thing(), thing(name=" ")), r"object must have a name; got none in .*, object 2\."),
        (document(thing(content="")), r"object must have a xmin; got none in .*, object 1\."),
        (document(thing(content=box(1, 2, 3, ""))), r"object must have a ymax; got none"),
        (document(thing(content=box(1, "two", 3, 4))), r"ymin must be a finite number; got 'two' in .*, object 1\."),
        (document(thing(content=box(1, 2, "nan", 4))), r"xmax must be a finite number; got 'nan'"),
        (document(thing(content=box(1, 2, "1e999", 4))), r"xmax must be a finite number; got '1e999'"),
        (
            document(thing(), thing(content=box(5, 2, 3, 4))),
            r"of at least xmin and ymin; got 5 2 3 4 in .*, object 2\.",
        ),
        (
            document(thing(extra="<difficult>maybe</difficult>")),
            r"difficult must be 0 or 1; got 'maybe' in .*, object 1\.",
        ),
        (document(size="<size><width>-1</width></size>"), r"width must be a whole number of pixels; got '-1' in"),
        (document(size="<size><height>2.5</height></size>"), r"height must be a whole number of pixels; got '2\.5' in"),
        (document(size="<size><height>x</height></size>"), r"height must be a whole number of pixels; got 'x' in"),
    ],
)
def test_errors_name_file_and_object(folder, content, message):
    home = folder(good=document(thing()), wrong=content)
    with pytest.raises(DataError, match=message) as raised:
        read_truth(home)
    assert str(home / "wrong.xml") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_errors_about_classes_and_images(folder):
    home = folder(a=document(thing("cat"), thing("cta")))
    with pytest.raises(DataError, match=r"one of the 1 given; got 'cta' in .*a\.xml, object 2\. Did you mean 'cat'\?"):
        read_truth(home, classes=["cat"])
    with pytest.raises(DataError, match=r"got 'cat' in .*a\.xml, object 1\. Leave classes out"):
        read_truth(home, classes=["xylophone"])
    with pytest.raises(DataError, match=r"images must have annotations; got 'b' without b\.xml in"):
        read_truth(home, images=["a", "b"])
    with pytest.raises(DataError, match=r"images must be different; got 'a' twice\."):
        read_truth(home, images=["a", "a"])
    (home / "a.XML").touch()
    with pytest.raises(DataError, match=r"must be one file an image; got a\.XML and .*a\.xml"):
        read_truth(home)


def test_errors_about_folders_and_lists(tmp_path):
    with pytest.raises(DataError, match=r"annotations must be a folder; got .*nowhere"):
        read_truth(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"annotations must be a folder with \.xml files; got"):
        read_truth(tmp_path)
    with (tmp_path / "big.xml").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(DataError, match=r"at most 16 MiB an image; got 17 MiB in .*big\.xml"):
        read_truth(tmp_path)
    with pytest.raises(DataError, match=r"image list must be readable; got .*none\.txt"):
        read_image_list(tmp_path / "none.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"image list must be UTF-8 text; got a foreign byte at 0 in"):
        read_image_list(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\n")
    with pytest.raises(DataError, match=r"image list must name an image a line; got none in"):
        read_image_list(tmp_path / "list.txt")


def test_deep_nesting_takes_no_time(folder):
    depth = 200_000
    home = folder(a=f"<annotation>{'<a>' * depth}{'</a>' * depth}{thing()}</annotation>")
    assert len(read_truth(home).objects) == 1


TAGS = ["annotation", "object", "name", "bndbox", "xmin", "ymin", "xmax", "ymax", "size", "width", "difficult"]
PIECES = (
    [f"<{tag}>" for tag in TAGS] + [f"</{tag}>" for tag in TAGS] + ["1", "2.5", "nan", "&lt;", "<!--", "]]>", "x", BOMB]
)


def read_or_refused(read):
    """What a reader gives, and "" or the text of its refusal."""
    try:
        return read(), ""
    except DataError as error:
        return None, str(error)


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.lists(st.sampled_from(PIECES), max_size=12).map("".join).map(str.encode),
        st.tuples(st.integers(0, 200), st.sampled_from(PIECES)).map(
            lambda cut: (document(thing())[: cut[0]] + cut[1] + document(thing())[cut[0] :]).encode()
        ),
    )
)
def test_any_content_gives_annotations_or_a_data_error(content):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.xml")
        path.write_bytes(content)
        truth, refusal = read_or_refused(lambda: read_truth(name))
        assert str(path) in refusal if truth is None else truth.num_images == 1

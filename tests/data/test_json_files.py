import gc
import os

import msgspec
import pytest

from delineate.data.json_files import decoded_json, json_bytes, many_objects
from delineate.errors import DataError


class Record(msgspec.Struct):
    image_id: int
    score: float


def test_the_place_is_named(tmp_path):
    path = tmp_path / "found.json"
    wanted = "predictions must be records"
    assert decoded_json(b'[{"image_id": 1, "score": 2}]', list[Record], path, wanted) == [Record(1, 2.0)]
    for content, message in (
        (b'[{"image_id": 1, "score": 2}, {"image_id": 1}]', r"records; got, in .*found\.json: .*`\$\[1\]`"),
        (b'[{"image_id": 1, "score": NaN}]', r"records with finite numbers; got NaN in .*found\.json, about record 0"),
        (b'[{"image_id": 1, "score": 1}, {"image_id": 2, "score": -Infinity}]', r"got -Infinity in .*, about record 1"),
        (b"[" * 100_000, r"predictions must be records; got, in .*found\.json"),
        (b"\xff", r"predictions must be records; got, in .*found\.json"),
        (b"", r"predictions must be records; got, in .*found\.json"),
    ):
        with pytest.raises(DataError, match=message):
            decoded_json(content, list[Record], path, wanted)


def test_a_byte_order_mark_is_no_content(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[]")
    assert json_bytes(tmp_path / "a.json") == b"[]"


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"file must be readable; got No such file or directory for .*none\.json"):
        json_bytes(tmp_path / "none.json")
    with pytest.raises(DataError, match="file must be readable; got Is a directory"):
        json_bytes(tmp_path)
    large = tmp_path / "large.json"
    large.touch()
    os.truncate(large, (2 << 30) + 1)  # sparse: no byte is written
    with pytest.raises(
        DataError, match=r"file must be at most 2 GiB; got 2\.0 GiB in .*large\.json\. Split the file\."
    ):
        json_bytes(large)


def test_the_collector_rests_meanwhile():
    with many_objects():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with many_objects():
        pass
    assert not gc.isenabled()  # as the caller had it
    gc.enable()

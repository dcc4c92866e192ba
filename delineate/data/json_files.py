"""JSON files of annotations, decoded into typed records; an error names the file and the place in it."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from delineate.errors import DataError

Decoded = TypeVar("Decoded")
MOST_BYTES = 2 << 30
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors write one


def json_bytes(path: Path, *, advice: str = "Split the file.") -> bytes:
    """The content of a file of at most 2 GiB.

    Raises:
        DataError: naming the file, when it is missing, unreadable or larger.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            limit, got = (f"{number / 2**30:.1f} GiB" for number in (MOST_BYTES, size))
            raise DataError(f"file must be at most {limit.replace('.0', '')}; got {got} in {path}. {advice}")
        return path.read_bytes().removeprefix(_BYTE_ORDER_MARK)
    except OSError as error:
        raise DataError(f"file must be readable; got {error.strerror or error} for {path}.") from None


def decoded_json(content: bytes, kind: type[Decoded], path: Path, wanted: str) -> Decoded:
    """The typed content of a JSON text.

    Args:
        content: the text.
        kind: what msgspec decodes it to.
        path: its file, for an error's text.
        wanted: what it must be ("annotations must be COCO JSON").

    Raises:
        DataError: naming file and place, when it is no JSON, has another shape, or a number that JSON does not have.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        at = re.search(r"byte (\d+)", str(error))
        near = content[int(at[1]) - 1 : int(at[1]) + 9] if at else b""
        if at and (literal := re.search(rb"-?(NaN|Infinity)", near)):
            before = content.count(b'"image_id"', 0, int(at[1]))
            raise DataError(
                f"{wanted} with finite numbers; got {literal[0].decode()} in {path}, about record {max(before - 1, 0)}."
            ) from None
        raise DataError(f"{wanted}; got, in {path}: {error}.") from None


@contextmanager
def many_objects() -> Iterator[None]:
    """Without the collector's passes over hundreds of thousands of young objects that are all in use."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

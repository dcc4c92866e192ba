"""Files are written whole or not at all: to a temporary name beside the target, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that becomes ``path`` when the block ends well, and vanishes when it does not.

    The file and its folder are flushed to disk before the rename counts, so a power cut leaves the old or the new file.

    Args:
        path: the file to write; its folder is made when missing.

    Yields:
        The temporary path, with the same suffix, to write to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replaced_file(folder / "scores.json") as temporary:
        ...     _ = temporary.write_text("{}")
        >>> (folder / "scores.json").read_text()
        '{}'
    """
    path = Path(path)
    if path.is_symlink():  # the file it leads to is replaced, not the link
        path = path.resolve()
    if path.is_char_device():  # /dev/stdout: there is nothing to replace
        yield path
        return
    if path.is_fifo() or path.is_socket():
        raise FileExistsError(errno.EEXIST, "Not a plain file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:80]}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def linked_file(source: str | Path, path: str | Path) -> None:
    """Make ``path`` a second name of ``source``, or a copy of it where the disk cannot link; whole or not at all.

    Later writing ``source`` by :func:`replaced_file` leaves ``path`` as it is.
    """
    source, path = Path(source), Path(path)
    with replaced_file(path) as temporary:
        temporary.unlink()
        try:
            temporary.hardlink_to(source)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``, whole or not at all."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, values: Any) -> None:
    """Write plain values as JSON, whole or not at all; NaN, which JSON lacks, becomes null."""
    write_text(path, json.dumps(_without_nan(values), indent=2, allow_nan=False) + "\n")


def _without_nan(values: Any) -> Any:
    if isinstance(values, dict):
        return {str(key): _without_nan(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nan(value) for value in values]
    if isinstance(values, float) and values != values:
        return None
    return values

"""The data set doctor: what would go wrong in training, found before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from delineate.data.duplicates import FilePrint, duplicate_problems, near_duplicate_problems, read_fingerprint
from delineate.data.formats.layout import Layout, Problem, Record, describe_id
from delineate.data.image_io import image_size, read_image
from delineate.data.opening import BUILT_IN, read_layout
from delineate.errors import DataError
from delineate.kernels.confusion import confusion_counts
from delineate.kernels.threads import available_processors

RARE_SHARE = 0.001
_ROWS_A_KIND = 10
_IDS_NAMED = 5
_MOST_READERS = 8


@dataclass(frozen=True)
class CheckReport:
    """What the doctor found.

    Args:
        path: the data set, as it was given.
        format: the layout that was recognised.
        classes: their names.
        images: the number of images in each split.
        problems: errors first, then warnings; each names a file.
        near_duplicates: (file, file in another split, differing bits of 64) of every pair of pictures that look alike.
    """

    path: str
    format: str
    classes: tuple[str, ...]
    images: dict[str, int]
    problems: tuple[Problem, ...]
    near_duplicates: tuple[tuple[str, str, int], ...] = field(default=())

    columns = ("severity", "kind", "file", "what")

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that would break training."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that a person should look at."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether nothing would break training."""
        return not self.errors

    def table(self) -> list[list[str]]:
        """Rows under :attr:`columns`; of a kind with many problems the first ten, and how many more there are.

        Files are given below the data set's folder where they lie in it.
        """
        rows, shown = [], Counter[tuple[str, str]]()
        times = Counter((problem.severity, problem.kind) for problem in self.problems)
        for problem in self.problems:
            key = (problem.severity, problem.kind)
            shown[key] += 1
            if shown[key] <= _ROWS_A_KIND:
                rows.append([problem.severity, problem.kind, _below(problem.file, self.path), problem.message])
            elif shown[key] == _ROWS_A_KIND + 1:
                rows.append([problem.severity, problem.kind, "...", f"and {times[key] - _ROWS_A_KIND} more"])
        return rows

    def summary(self) -> str:
        """What was looked at and how it went, in one or two lines."""
        if self.format == BUILT_IN:
            return f"{self.path}: scenes are made on the fly, there are no files to check"
        splits = ", ".join(f"{count} in {split}" for split, count in self.images.items())
        found = f"{_counted(len(self.errors), 'error')}, {_counted(len(self.warnings), 'warning')}"
        source = self.images.get("train", self.images.get("all", 0))
        if "val" not in self.images and source > 1:
            splits += " (no validation split: training holds a fifth back)"
        return (
            f"{self.path}: {self.format}, {_counted(len(self.classes), 'class', 'classes')}, images: {splits}\n"
            f"{found}: {'nothing would break training' if self.ok else 'training would break'}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": self.path,
            "format": self.format,
            "ok": self.ok,
            "classes": list(self.classes),
            "images": dict(self.images),
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "problems": [asdict(problem) for problem in self.problems],
            "near_duplicates": [
                {"file": file, "other": other, "distance": distance} for file, other, distance in self.near_duplicates
            ],
        }


@dataclass(frozen=True)
class _Finding:
    """What one record showed: its problems, its fingerprint, and its pixels by class (None without a readable mask)."""

    problems: tuple[Problem, ...]
    fingerprint: FilePrint
    counts: np.ndarray | None


def check_dataset(
    path: str | Path, format: str = "auto", *, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Everything that is wrong with a data set of images and masks, by reading all of it once.

    Errors: an image without a mask or the reverse, a file that cannot be read to its end, a mask of another size than
    its image (as it stands upright), ids outside the taxonomy, the same picture in two splits (the same file, or the
    same pixels in another file). Warnings: masks without any object or label, pictures copied within a split, pictures
    of two splits that look alike, classes that a split lacks or hardly has.

    A defect never hides another one: a mask is checked even if its image is damaged. Where no list names the classes,
    they are numbered by the ids found, so that no id can be unknown (255 is always "no label").

    Args:
        path: the folder, or "digits", which has no files to check.
        format: as for :func:`~delineate.data.opening.open_dataset`.
        progress: called with (images done, images in all).

    Raises:
        DataError: when the folder is in no known layout; the message says what was looked for.

    Example:
        >>> check_dataset("digits").ok
        True
    """
    if path == BUILT_IN:
        return CheckReport(BUILT_IN, BUILT_IN, (), {}, ())
    layout = read_layout(path, format)
    records = layout.records()
    findings: dict[Path, _Finding] = {}
    for record, finding in zip(records, _examined(layout, records), strict=True):
        findings[record.image] = finding
        if progress is not None:
            progress(len(findings), len(records))
    prints = {
        split: [findings[record.image].fingerprint for record in records] for split, records in layout.splits.items()
    }
    alike, pairs = near_duplicate_problems(prints)
    problems = [
        *layout.problems,
        *(problem for finding in findings.values() for problem in finding.problems),
        *duplicate_problems(prints),
        *alike,
        *_balance_problems(layout, findings),
    ]
    once = dict.fromkeys(sorted(problems, key=lambda problem: problem.severity != "error"))
    return CheckReport(
        path=str(path),
        format=layout.format,
        classes=layout.taxonomy.names,
        images={split: len(records) for split, records in layout.splits.items()},
        problems=tuple(once),
        near_duplicates=tuple(pairs),
    )


def _examined(layout: Layout, records: Sequence[Record]) -> Iterator[_Finding]:
    """The findings, in order; files are read and decoded in threads."""
    # of a picture in several splits the first one counts, so "train" rather than "trainval"
    split_of = {record.image: split for split in reversed(layout.splits) for record in layout.splits[split]}
    readers = min(_MOST_READERS, available_processors())
    pool = ThreadPoolExecutor(readers, thread_name_prefix="delineate-reading")
    try:
        yield from pool.map(lambda record: _examine(layout, record, split_of[record.image]), records)
    finally:
        pool.shutdown(cancel_futures=True)


def _examine(layout: Layout, record: Record, split: str) -> _Finding:
    problems = []
    fingerprint = FilePrint(str(record.image))
    size = None
    try:
        size = image_size(record.image)
        image = read_image(record.image)
        size = (image.shape[0], image.shape[1])
        fingerprint = read_fingerprint(record.image, image)
    except DataError as error:
        problems.append(Problem("error", "unreadable", str(record.image), str(error), split))
    counts = None
    if record.mask is not None:
        try:
            # without a readable header the mask cannot be turned with its image, but it can be read
            ids = layout.read_ids(record) if size is not None else layout.reader(record)
            found, counts = _mask_problems(layout, record, ids, size, split)
            problems.extend(found)
        except DataError as error:
            problems.append(Problem("error", "unreadable", str(record.mask), str(error), split))
    return _Finding(tuple(problems), fingerprint, counts)


def _mask_problems(
    layout: Layout, record: Record, ids: np.ndarray, size: tuple[int, int] | None, split: str
) -> tuple[list[Problem], np.ndarray]:
    """What is wrong with a mask that could be read, and its pixels by class."""
    file, taxonomy = str(record.mask), layout.taxonomy
    problems = []
    if size is not None and ids.shape != size:
        sizes = f"mask is {ids.shape[0]} x {ids.shape[1]}, its image {record.image.name} is {size[0]} x {size[1]}"
        problems.append(Problem("error", "size-mismatch", file, f"{sizes} (height x width)", split))
    labels, unknown = layout.labels_of(ids)
    if unknown:
        found = sorted(unknown.items(), key=lambda pair: -pair[1])
        listed = ", ".join(f"{describe_id(value)} ({count} pixels)" for value, count in found[:_IDS_NAMED])
        more = f" and {len(found) - _IDS_NAMED} more" if len(found) > _IDS_NAMED else ""
        message = f"mask has {listed}{more} outside the {taxonomy.num_classes} classes"
        problems.append(Problem("error", "unknown-id", file, message, split))
    counts = confusion_counts(labels, labels, taxonomy.num_classes, taxonomy.ignore_index)[0].diagonal()
    shown = counts.copy()
    if taxonomy.background is not None:
        shown[taxonomy.background] = 0
    if not shown.any() and not unknown:
        what = "no pixel has a label" if not counts.any() else f"every pixel is {taxonomy.names[int(counts.argmax())]}"
        problems.append(Problem("warning", "empty-mask", file, f"{what} ({record.image.name})", split))
    return problems, counts


def _balance_problems(layout: Layout, findings: dict[Path, _Finding]) -> list[Problem]:
    """A warning a split for classes that never occur in it, and one for those that hardly do where it is trained on."""
    problems = []
    for split, records in layout.splits.items():
        counted = [counts for record in records if (counts := findings[record.image].counts) is not None]
        total = np.sum(counted, axis=0) if counted else np.zeros(0, np.int64)
        if split == "test" or not total.any():
            continue
        folder = _folder(records)
        absent = [name for name, count in zip(layout.taxonomy.names, total, strict=True) if not count]
        if absent:
            message = f"{_listed(absent)} never {'occur' if len(absent) > 1 else 'occurs'} in split '{split}'"
            problems.append(Problem("warning", "class-balance", folder, message, split))
        shares = total / total.sum()
        rare = [
            f"{name} ({100 * share:.2g} %)"
            for name, share in zip(layout.taxonomy.names, shares, strict=True)
            if 0 < share < RARE_SHARE
        ]
        if rare and split != "val":
            verb = "cover" if len(rare) > 1 else "covers"
            what = f"{_listed(rare)} {verb} less than {100 * RARE_SHARE:g} % of the labelled pixels of split '{split}'"
            message = f"{what}; class weights may help"
            problems.append(Problem("warning", "class-balance", folder, message, split))
    return problems


def _folder(records: Sequence[Record]) -> str:
    """The folder of a split's masks, or the one file they all come from."""
    masks = [record.mask for record in records if record.mask is not None]
    return str(masks[0] if len(masks) > 1 and masks[0] == masks[1] else masks[0].parent)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _below(file: str, root: str) -> str:
    path = Path(file)
    return path.relative_to(root).as_posix() or "." if path.is_relative_to(root) else file


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"

"""The mistakes of a detector that teach most: chosen, named, and found on disk as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float64, Int64

from delineate.data.formats.pairing import pictures_under
from delineate.data.image_io import read_image
from delineate.engine.object_scoring import Evidence
from delineate.errors import DataError
from delineate.kernels.matching import TRUE
from delineate.metrics.error_analysis import ERRORS, DetectionErrors, classified_errors
from delineate.ops.matching import Groups
from delineate.report.mistake_pictures import mistake_picture
from delineate.report.pictures import Picture, data_uri
from delineate.structures.annotations import Annotations

MOST_PICTURES = 6
"""Pictures of each kind of mistake."""

MOST_LISTED = 12
"""Rows of each kind where there are no pictures."""

KINDS = {
    "background": (
        "On nothing",
        "The most confident detections that lie on no true object. Are labels missing?",
    ),
    "classification": ("Wrong class", "The most confident detections of an object as something else."),
    "localisation": ("Badly placed", "The most confident detections of the right class that miss the place."),
    "duplicate": ("Found twice", "The most confident detections of an object that another one has found already."),
    "missed": ("Missed", "The largest true objects at which no detection points."),
}

_MOST_OF_A_CLASS = 2  # of a kind, as long as there are others
_COCO_DIGITS = 12  # of an image's id in its file name
_MOST_TRIED = 60  # pictures that are opened, of each kind
_MOST_SORTED = 10_000  # mistakes of a kind among which variety is looked for


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Args:
        kind: a key of :data:`KINDS`.
        image: index of the image.
        detection: row of the predictions, -1 for a missed object.
        truth: row of the true objects that is concerned, -1 for none.
        overlap: of the two; NaN without one of them.
    """

    kind: str
    image: int
    detection: int
    truth: int
    overlap: float


@dataclass(frozen=True)
class ShownMistake:
    """A mistake as a page shows it; ``picture`` is a ``data:`` address, "" where there is none."""

    name: str
    score: float | None
    truth: str
    overlap: float | None
    size: str
    file: str
    picture: str = ""
    height: int = 0
    width: int = 0


@dataclass(frozen=True)
class MistakeGroup:
    """The mistakes of one kind."""

    key: str
    title: str
    meaning: str
    mistakes: tuple[ShownMistake, ...]


def from_score(evidence: Evidence, threshold: float | int) -> Evidence:
    """The same with the detections alone that score so much and more, to be told apart by :func:`explained`.

    Detections are matched by falling score, so that the others match as before; what only fainter ones found is missed.

    Args:
        evidence: of a score; its figures stay those of all detections.
        threshold: the score from which detections are kept.
    """
    found = evidence.predictions
    assert found.scores is not None  # predictions have some
    return replace(evidence, predictions=found.select(np.flatnonzero(found.scores >= threshold)))


def explained(evidence: Evidence) -> DetectionErrors:
    """The kind of each error of what a score was computed from, at the usual thresholds 0.5 and 0.1."""
    limit = evidence.result.max_detections[-1]
    return classified_errors(evidence.truth, evidence.predictions, evidence.overlaps, max_detections=limit)


def ranked_mistakes(
    evidence: Evidence, errors: DetectionErrors, kind: str, *, among: Bool[np.ndarray, " I"] | None = None
) -> Iterator[Mistake]:
    """The mistakes of a kind, the most confident or largest first, varied as long as that is possible.

    First come those of different images, at most two a class; then others of new images; then the rest. Equal ones keep
    the order of the file.

    Args:
        evidence: of the score.
        errors: of :func:`explained`.
        kind: a key of :data:`KINDS`.
        among: which images count; all when left out.
    """
    missed = kind == "missed"
    objects = evidence.truth.objects if missed else evidence.predictions
    rows = np.flatnonzero(errors.missed if missed else errors.kinds == ERRORS[kind])
    rows = rows if among is None else rows[among[objects.images[rows]]]
    weights = objects.areas[rows] if missed else objects.scores[rows]  # type: ignore[index]
    rows = rows[np.argsort(-weights, kind="stable")[:_MOST_SORTED]]
    images: set[int] = set()
    classes: dict[int, int] = {}
    turns = np.full(len(rows), 2)
    for place, row in enumerate(rows):
        image, label = int(objects.images[row]), int(objects.labels[row])
        if image not in images:
            turns[place] = 0 if classes.get(label, 0) < _MOST_OF_A_CLASS else 1
            images.add(image)
            classes[label] = classes.get(label, 0) + 1
    for row in rows[np.argsort(turns, kind="stable")]:
        target = int(row) if missed else int(errors.targets[row])
        detection = -1 if missed else int(row)
        both = not missed and target >= 0
        overlap = float(pair_overlaps(evidence, [detection], [target])[0]) if both else float("nan")
        yield Mistake(kind, int(objects.images[row]), detection, target, overlap)


def pair_overlaps(evidence: Evidence, detections: Sequence[int], truths: Sequence[int]) -> Float64[np.ndarray, " N"]:
    """The overlap of each detection with the truth beside it, as the score compared them."""
    rows = [np.asarray(side, np.int64) for side in (detections, truths)]
    singles: Int64[np.ndarray, " N1"] = np.arange(len(rows[0]) + 1, dtype=np.int64)
    groups = Groups(rows[0], np.zeros(len(rows[0]), np.int64), rows[1], singles, singles, singles)
    return evidence.overlaps(evidence.predictions, evidence.truth.objects, groups)


def taken_classes(evidence: Evidence, errors: DetectionErrors, most: int = 8) -> list[tuple[str, str, int]]:
    """(true class, predicted class, detections) of the errors of classification, the most frequent first."""
    rows = np.flatnonzero(errors.kinds == ERRORS["classification"])
    names = evidence.truth.classes
    true, found = evidence.truth.objects.labels[errors.targets[rows]], evidence.predictions.labels[rows]
    pairs, counts = np.unique(true * len(names) + found, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [(names[pairs[i] // len(names)], names[pairs[i] % len(names)], int(counts[i])) for i in order]


class Pictures(Protocol):
    """Where the pictures of annotated images come from."""

    @property
    def present(self) -> Bool[np.ndarray, " I"]:
        """Which images have one."""
        ...

    def read(self, image: int) -> Picture | None:
        """The picture of an image; None where it cannot be shown."""
        ...

    def notes(self) -> list[str]:
        """What could not be shown, in sentences."""
        ...


def mistake_groups(
    task: str,
    evidence: Evidence,
    errors: DetectionErrors,
    pictures: Pictures | None = None,
    *,
    threshold: float | int = 0,
) -> tuple[list[MistakeGroup], list[str]]:
    """The mistakes to show, kind by kind, and sentences on the pictures that are missing.

    Args:
        task: "boxes", "masks" or "keypoints", what is drawn.
        evidence: of the score.
        errors: of :func:`explained`.
        pictures: to draw upon; without them the mistakes are listed.
        threshold: the score from which detections count; what only fainter ones found is missed then.
    """
    if threshold > 0:
        evidence = from_score(evidence, threshold)
        errors = explained(evidence)
    files = pictures
    groups = []
    for key, (title, meaning) in KINDS.items():
        mistakes: list[ShownMistake] = []
        if files is not None:
            ranked = ranked_mistakes(evidence, errors, key, among=files.present)
            for mistake, _ in zip(ranked, range(_MOST_TRIED), strict=False):
                picture = files.read(mistake.image)
                if picture is not None:
                    rows = {"truth": mistake.truth, "detection": mistake.detection}
                    finder = np.flatnonzero((errors.targets == mistake.truth) & (errors.kinds == TRUE))
                    if key == "duplicate" and len(finder):
                        rows["finder"] = int(finder[0])
                    drawn = mistake_picture(task, evidence, picture, **rows)
                    mistakes.append(_shown(mistake, evidence, drawn))
                if len(mistakes) == MOST_PICTURES:
                    break
        if not mistakes:
            ranked = ranked_mistakes(evidence, errors, key)
            mistakes = [_shown(mistake, evidence) for mistake, _ in zip(ranked, range(MOST_LISTED), strict=False)]
        if mistakes:
            groups.append(MistakeGroup(key, title, meaning, tuple(mistakes)))
    return groups, [] if files is None else files.notes()


def _shown(mistake: Mistake, evidence: Evidence, picture: Picture | None = None) -> ShownMistake:
    truth, found = evidence.truth, evidence.predictions
    main, row = (truth.objects, mistake.truth) if mistake.detection < 0 else (found, mistake.detection)
    width, height = main.boxes[row, 2:]
    score = None if mistake.detection < 0 else float(found.scores[row])  # type: ignore[index]
    name = truth.image_files[mistake.image] or str(truth.image_ids[mistake.image])
    shape = (0, 0) if picture is None else picture.shape[:2]
    return ShownMistake(
        name=truth.classes[main.labels[row]],
        score=score,
        truth="" if mistake.truth < 0 else truth.classes[truth.objects.labels[mistake.truth]],
        overlap=None if np.isnan(mistake.overlap) else mistake.overlap,
        size=f"{width:.0f} x {height:.0f}",
        file=name,
        picture="" if picture is None else data_uri(picture),
        height=shape[0],
        width=shape[1],
    )


class PictureFiles:
    """The pictures of annotated images below a folder, found by path, then by name, then by the image's id.

    Args:
        folder: where to look.
        truth: names, ids and sizes of the images.

    Raises:
        DataError: when there is no such folder.
    """

    def __init__(self, folder: Path, truth: Annotations) -> None:
        if not folder.is_dir():
            raise DataError(f"images must be a folder of pictures; got {folder}. Check the name.")
        self.folder, self.truth = folder, truth
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for path in pictures_under(folder):
            self._by_name.setdefault(path.name, []).append(path)
            self._by_stem.setdefault(path.stem, []).append(path)
        found = [self.find(image) is not None for image in range(truth.num_images)]
        self.present = np.array(found, bool)
        self._unreadable: set[Path] = set()
        self._other_size: set[Path] = set()

    def find(self, image: int) -> Path | None:
        """The file of an image; None where there is none, or several of its name in other folders."""
        name = self.truth.image_files[image].replace("\\", "/")
        identity = str(self.truth.image_ids[image])
        stems = dict.fromkeys(filter(None, (PurePosixPath(name).stem, identity, identity.zfill(_COCO_DIGITS))))
        named = self._by_name.get(PurePosixPath(name).name, [])
        for paths in (named, *(self._by_stem.get(stem, []) for stem in stems)):
            if len(paths) > 1:  # of one name: the one whose folders agree as well
                paths = [path for path in paths if path.as_posix().endswith(f"/{name}")]
            if len(paths) == 1:
                return paths[0]
        return None

    def read(self, image: int) -> Picture | None:
        """The picture of an image, None where it is missing, damaged, or of another size than annotated."""
        path = self.find(image)
        if path is None or path in self._unreadable or path in self._other_size:
            return None
        try:
            picture = read_image(path)
        except DataError:
            self._unreadable.add(path)
            return None
        size = tuple(int(side) for side in self.truth.image_sizes[image])
        if all(size) and picture.shape[:2] != size:
            self._other_size.add(path)
            return None
        return picture

    def notes(self) -> list[str]:
        """What could not be shown, in sentences."""
        total = self.truth.num_images
        missing = total - int(self.present.sum())
        notes = []
        if missing:
            notes.append(f"{missing:,} of {total:,} images were not found below {self.folder}.")
        for paths, reason in (
            (self._unreadable, "could not be read"),
            (self._other_size, "has another size than annotated"),
        ):
            if paths:
                first = min(paths)
                more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
                notes.append(f"{first}{more} {reason} and is left out.")
        return notes

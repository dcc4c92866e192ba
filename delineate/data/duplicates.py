"""The same picture twice, or nearly the same: what leaks from one split into another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from delineate.data.fingerprints import file_hash, near_pairs, perceptual_hash, pixel_hash
from delineate.data.formats.layout import Problem

NEAR_BITS = 6  # of 64: recompressed, scaled or brightened copies differ in 0 to 6, pictures of other things in about 32
UNIONS = frozenset(("all", "trainval"))  # splits that repeat others by design
_EXAMPLES = 3


@dataclass(frozen=True)
class FilePrint:
    """What identifies a picture; the hashes are None where it could not be read, the last also where it is flat.

    Args:
        file: its path.
        bytes: hash of the file.
        pixels: hash of the decoded picture.
        look: perceptual hash.
    """

    file: str
    bytes: str | None = None
    pixels: str | None = None
    look: int | None = None


def read_fingerprint(path: Path, image: np.ndarray) -> FilePrint:
    """The fingerprint of a picture that has been read from ``path``."""
    return FilePrint(str(path), file_hash(path), pixel_hash(image), perceptual_hash(image))


def duplicate_problems(prints: Mapping[str, Sequence[FilePrint]]) -> list[Problem]:
    """An error for each picture that an earlier split has as well; a warning for each that its own split repeats."""
    problems = []
    first: dict[str, tuple[str, FilePrint]] = {}
    for split, pictures in prints.items():
        if split in UNIONS and len(prints) > 1:
            continue
        for picture in pictures:
            key = picture.pixels or picture.file
            if key not in first:
                first[key] = (split, picture)
                continue
            other_split, other = first[key]
            if other.file == picture.file:
                same = f"the same file is listed in split '{other_split}'"
            else:
                what = "the same file as" if other.bytes == picture.bytes else "the same pixels as"
                same = f"{what} {other.file}" + ("" if other_split == split else f" of split '{other_split}'")
            if other_split == split:
                message = f"{same}, in the same split"
                problems.append(Problem("warning", "duplicate", picture.file, message, split))
            else:
                message = f"{same}: what is trained on would be scored on '{split}'"
                problems.append(Problem("error", "duplicate-across-splits", picture.file, message, split))
    return problems


def near_duplicate_problems(
    prints: Mapping[str, Sequence[FilePrint]],
) -> tuple[list[Problem], list[tuple[str, str, int]]]:
    """Pictures that look alike: one warning for two splits, and all pairs (file, other file, differing bits)."""
    problems, pairs = [], []
    splits = [split for split in prints if split not in UNIONS]
    for one, other in combinations(splits, 2):
        found = _pairs_alike(prints[one], prints[other])
        if not found:
            continue
        examples = "; ".join(f"{Path(b).name} and {Path(a).name}" for a, b, _ in found[:_EXAMPLES])
        several = len({b for _, b, _ in found})
        message = (
            f"{several} of {len(prints[other])} images of '{other}' look almost like one of '{one}' "
            f"({examples}{', ...' if len(found) > _EXAMPLES else ''}); scores on '{other}' may flatter"
        )
        problems.append(Problem("warning", "near-duplicate", found[0][1], message, other))
        pairs.extend(found)
    return problems, pairs


def _pairs_alike(ones: Sequence[FilePrint], others: Sequence[FilePrint]) -> list[tuple[str, str, int]]:
    """Files that look alike but are not the same picture, the most alike first."""
    first = [picture for picture in ones if picture.look is not None]
    second = [picture for picture in others if picture.look is not None]
    hashes = [np.array([picture.look for picture in side], np.uint64) for side in (first, second)]
    buckets: defaultdict[int, list[tuple[str, str, int]]] = defaultdict(list)
    for i, j, distance in near_pairs(hashes[0], hashes[1], NEAR_BITS):
        if first[i].pixels != second[j].pixels:
            buckets[distance].append((first[i].file, second[j].file, distance))
    return [pair for distance in sorted(buckets) for pair in buckets[distance]]

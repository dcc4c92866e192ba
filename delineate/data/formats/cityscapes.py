"""Cityscapes: ``leftImg8bit/<split>/<city>/`` with ``gtFine/<split>/<city>/*_labelIds.png``, read as the 19 classes."""

from __future__ import annotations

from pathlib import Path

from delineate.data.class_lists import IGNORE_ID, NOT_A_VALUE
from delineate.data.formats.layout import Layout, Problem, Record, missing_mask_problems
from delineate.data.formats.mask_folders import MaskFiles
from delineate.data.formats.pairing import pictures_under
from delineate.structures.taxonomy import Taxonomy

LOOKED_FOR = "leftImg8bit/ with gtFine/ (or gtCoarse/) holding *_labelIds or *_labelTrainIds files"
IMAGE_ENDING = "_leftImg8bit"

# Source: cityscapesScripts, helpers/labels.py: (name, id, RGB) of the labels with a trainId, in order of the trainId
CLASSES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
LABEL_IDS = range(34)  # those without a trainId are ignored; -1, the licence plate, is 255 in an 8-bit file


def read(root: Path) -> Layout | str:
    """The layout of a Cityscapes folder; a text that says what was found instead when it is not one.

    ``*_labelIds`` files are read through the official table; ``*_labelTrainIds`` files, where there are only those, as
    they are. Every other id is ignored. A stem is ``<city>_<sequence>_<frame>``.
    """
    images = root / "leftImg8bit"
    annotations = next((root / name for name in ("gtFine", "gtCoarse") if (root / name).is_dir()), None)
    if not images.is_dir() or annotations is None:
        return "no such pair of folders"
    files = pictures_under(annotations)
    kind = next((kind for kind in ("labelIds", "labelTrainIds") if any(_is_kind(path, kind) for path in files)), None)
    if kind is None:
        return f"{annotations.name}/ without *_labelIds or *_labelTrainIds files"
    masks = {_stem(path, f"_{annotations.name}_{kind}"): path for path in files if _is_kind(path, kind)}
    splits: dict[str, tuple[Record, ...]] = {}
    problems: list[Problem] = []
    for folder in sorted(path for path in images.iterdir() if path.is_dir()):
        paths = pictures_under(folder)
        pairs = [(path, _stem(path, IMAGE_ENDING)) for path in paths if path.stem.endswith(IMAGE_ENDING)]
        if pairs:
            splits[folder.name] = tuple(Record(stem, path, masks.pop(stem, None)) for path, stem in pairs)
    if not splits:
        return f"leftImg8bit/ without <split>/<city>/*{IMAGE_ENDING} files"
    for path in masks.values():
        split = path.relative_to(annotations).parts[0]
        problems.append(Problem("error", "missing-image", str(path), f"mask {path.name} has no image", split))
    table = dict.fromkeys((*LABEL_IDS, IGNORE_ID, NOT_A_VALUE), IGNORE_ID)
    table.update((value, label) for label, (_, value, _) in enumerate(CLASSES))
    trained = {label: label for label in range(len(CLASSES))} | {IGNORE_ID: IGNORE_ID, NOT_A_VALUE: IGNORE_ID}
    return Layout(
        root=root,
        format="cityscapes",
        taxonomy=Taxonomy(tuple(name for name, _, _ in CLASSES), tuple(colour for _, _, colour in CLASSES)),
        splits=splits,
        problems=(*problems, *missing_mask_problems(splits)),
        reader=MaskFiles(),
        label_of_id=table if kind == "labelIds" else trained,
    )


def _is_kind(path: Path, kind: str) -> bool:
    return path.stem.endswith(f"_{kind}")


def _stem(path: Path, ending: str) -> str:
    return path.stem.removesuffix(ending)

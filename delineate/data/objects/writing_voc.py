"""Objects as VOC's XML: ``Annotations/``, ``JPEGImages/`` and lists in ``ImageSets/Main/``."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from delineate.data.objects.class_names import read_class_names
from delineate.data.objects.content import Content, plain, write_lists
from delineate.errors import DataError

IMAGES = "JPEGImages"


def write(content: Content, folder: Path) -> int:
    """Write an XML file a picture.

    Corners are the source's, neither moved by VOC's pixel nor rounded: what is read again is what was written.
    ``classes.txt``, which VOC itself does not have, keeps the order of the classes and those without objects.

    Args:
        content: what to write.
        folder: an empty one.

    Returns:
        How many objects were written.
    """
    annotations = content.annotations
    objects = annotations.objects
    content.lose("masks, of which the boxes remain", len(objects) if objects.masks is not None else 0)
    posed = objects.keypoints is not None and (objects.keypoints[:, :, 2] > 0).any(axis=1)
    content.lose("objects whose keypoints are left out", int(np.sum(posed)))
    content.lose("crowds that become difficult objects", int(objects.crowd.sum()))
    corners = np.concatenate([objects.boxes[:, :2], objects.boxes[:, :2] + objects.boxes[:, 2:]], axis=1)
    difficult = objects.crowd | objects.ignored
    (folder / "Annotations").mkdir(parents=True)
    for image, name in enumerate(content.names):
        height, width = annotations.image_sizes[image].tolist()
        things = "".join(
            _object(annotations.classes[objects.labels[row]], corners[row], bool(difficult[row]))
            for row in content.rows(image)
        )
        text = (
            f"<annotation>\n  <folder>{IMAGES}</folder>\n  <filename>{escape(name)}</filename>\n"
            f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
            f"  <segmented>0</segmented>\n{things}</annotation>\n"
        )
        (folder / "Annotations" / f"{content.stem(image)}.xml").write_text(text, encoding="utf-8")
    stems = {split: [content.stem(image) for image in images] for split, images in content.splits.items()}
    write_lists(folder / "ImageSets" / "Main", stems)
    _write_classes(content, folder / "classes.txt")
    return len(objects)


def _object(name: str, corners: np.ndarray, difficult: bool) -> str:
    fields = zip(("xmin", "ymin", "xmax", "ymax"), map(plain, corners.tolist()), strict=True)
    box = "".join(f"<{field}>{value}</{field}>" for field, value in fields)
    return (
        f"  <object>\n    <name>{escape(name)}</name>\n    <difficult>{int(difficult)}</difficult>\n"
        f"    <bndbox>{box}</bndbox>\n  </object>\n"
    )


def _write_classes(content: Content, path: Path) -> None:
    """The list of classes, unless it would be read as others: a line such as "sky 1 2 3" is a class with a colour."""
    classes = content.annotations.classes
    path.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    try:
        understood = read_class_names(path) == classes
    except DataError:
        understood = False
    if not understood:
        path.unlink()
        unused = len(classes) - len(np.unique(content.annotations.objects.labels))
        content.lose("classes without an object, and the order of classes", unused)

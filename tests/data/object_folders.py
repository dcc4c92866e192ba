"""Small folders of objects: pictures, COCO files, VOC files and texts."""

from __future__ import annotations

import json

from PIL import Image


def picture(path, size=(20, 30), orientation=1):
    """A picture of this stored (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size[::-1], (90, 30, 10)).save(path, exif=exif)
    return path


def coco(path, images, annotations, categories=((1, "cat"), (2, "dog")), **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": i, "file_name": name, "height": h, "width": w} for i, name, h, w in images],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, **more} for i, name in categories],
    }
    path.write_text(json.dumps(content))


def annotation(number, image, category=1, bbox=(2, 3, 10, 8), **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox), **more}


def kinds(folder, severity="error"):
    return sorted(problem.kind for problem in folder.problems if problem.severity == severity)


def xml(path, *objects, size=(20, 30), head="", filename="x.jpg"):
    """A VOC file: objects are a name, more XML, and corners."""
    things = "".join(
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for name, extra, (a, b, c, d) in objects
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    size_text = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    path.write_text(f"{head}<annotation><filename>{filename}</filename>{size_text}{things}</annotation>")


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)

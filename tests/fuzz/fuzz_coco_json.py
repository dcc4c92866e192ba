"""Coverage-guided search for COCO files that the readers take wrongly; by hand, not part of the tests.

    python tests/fuzz/fuzz_coco_json.py -max_total_time=120

Arbitrary bytes, and a good file with values exchanged, must become tables or a DataError of one line that names the
file. What becomes tables must have figures between 0 and 1, or undefined ones.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import warnings
from pathlib import Path

SQUARE = [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]]
POINTS = [2.0, 3.0, 2] * 17
ENTRY = {"image_id": 4, "category_id": 3, "bbox": [1, 1, 4, 3], "segmentation": SQUARE, "keypoints": POINTS}
RUNS = {"size": [6, 7], "counts": [0, 4, 38]}
TRUTH = {
    "images": [{"id": 9, "height": 10, "width": 8}, {"id": 4, "height": 6, "width": 7, "file_name": "four.jpg"}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat", "keypoints": ["point"] * 17}],
    "annotations": [
        {**ENTRY, "id": 70, "area": 11.5, "iscrowd": 0, "num_keypoints": 17},
        {**ENTRY, "id": 7, "iscrowd": 1, "segmentation": RUNS},
    ],
}
RESULTS = [{**ENTRY, "score": 0.25}, {**ENTRY, "score": 1, "segmentation": {"size": [6, 7], "counts": "0Z1"}}]
VALUES = [None, True, 0, -1, 3, 4, 18, 2**31, 2**63 - 1, 2**63, -(2**64), 10**30, 0.5, -0.0, 1e-320, 1e15, 1e16, 1e308]
VALUES += [float("nan"), float("inf"), "", "0Z1", "\ud800", "a\nb", "\x00.png", "/dev/zero", [], [1, 2], [[]], {}, RUNS]
VALUES += [SQUARE, POINTS, [1e308] * 4, [-1e308, 0, 1e308, 1e308], [0, 0, 0, 0], [[1e9, 1e9] * 4], [SQUARE], ENTRY]


def main() -> None:
    import atheris

    import delineate.metrics.detection  # kernels are compiled before anything is instrumented

    with atheris.instrument_imports(include=["delineate.data.objects", "delineate.structures"]):
        from delineate.data.objects.coco_json import read_predictions, read_truth
        from delineate.errors import DataError

    warnings.simplefilter("error")
    metrics = delineate.metrics.detection
    scores = {"boxes": metrics.box_scores, "masks": metrics.mask_scores, "keypoints": metrics.keypoint_scores}
    folder = Path(tempfile.mkdtemp())
    paths = folder / "truth.json", folder / "results.json"

    def mutated(chance, content):
        content = json.loads(json.dumps(content))
        for _ in range(chance.randint(0, 4)):
            place = content
            while place:
                key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
                if isinstance(place[key], (dict, list)) and chance.random() < 0.75:
                    place = place[key]
                    continue
                action = chance.randint(0, 3)
                if action == 0:
                    del place[key]
                elif action == 1 and isinstance(place, list):
                    place.append(place[key])
                else:
                    place[key] = json.loads(json.dumps(chance.choice(VALUES)))
                break
        text = json.dumps(content).encode()
        if chance.random() < 0.1:
            start = chance.randint(0, len(text))
            text = text[:start] + chance.randbytes(chance.randint(0, 4)) + text[start + chance.randint(0, 4) :]
        return text

    def read(function, path):
        try:
            return function()
        except DataError as error:
            refusal = str(error)
        assert str(path) in refusal, refusal
        assert "\n" not in refusal, refusal
        return None

    def one_input(data: bytes) -> None:
        chance = random.Random(data)
        columns = chance.choice(list(scores))
        if chance.random() < 0.05:
            texts = [data, data]
        else:  # how deep a change lies matters more than what coverage says: the decoder is not instrumented
            texts = [mutated(chance, content) for content in (TRUTH, RESULTS)]
        for path, text in zip(paths, texts, strict=True):
            path.write_bytes(text)
        truth = read(lambda: read_truth(paths[0], columns=columns), paths[0])
        if truth is None:
            paths[0].write_text(json.dumps(TRUTH))
            truth = read_truth(paths[0], columns=columns)
        predictions = read(lambda: read_predictions(paths[1], truth, columns=columns), paths[1])
        points = truth.objects.keypoints is None or truth.objects.keypoints.shape[1] == 17
        if predictions is None or not points:
            return
        if columns == "keypoints" and len(predictions) and predictions.keypoints.shape[1] != 17:
            return
        for name, value in scores[columns](truth, predictions).items():
            if name.startswith(("ap", "ar")):
                assert not value < 0, (name, value)
                assert not value > 1, (name, value)

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

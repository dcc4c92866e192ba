"""Train a detector on a folder of boxes (COCO, VOC, YOLO, LabelMe or instance maps), score it, draw what it finds.

python examples/find_objects.py FOLDER photo.jpg
"""

import sys

import delineate as dl


def main(folder: str, picture: str, *settings: str) -> None:
    """The ten lines."""
    run = dl.train("retinanet", data=folder, settings=["model.encoder=resnet18", "trainer.max_epochs=40", *settings])
    predictor = dl.load(run.path)
    scores = dl.evaluate(predictor, folder, split="val")
    print(f"AP {scores['ap']:.3f}, AP50 {scores['ap50']:.3f}")
    for name, own in scores["per_class"].items():
        print(f"  {name}: AP50 {own['ap50']:.3f} of {own['truths']} objects")
    found = predictor.predict(picture, score_threshold=0.5)
    found.plot().save("found.png")
    print(f"{found.counts()} in {picture}: found.png")


if __name__ == "__main__":
    main(*sys.argv[1:])

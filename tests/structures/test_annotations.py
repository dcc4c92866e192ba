import jaxtyping
import numpy as np
import pytest

from delineate.errors import ArgumentError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def objects(images=(), labels=()):
    return Objects.of(list(images), list(labels), np.ones((len(images), 4)))


def test_what_is_left_out():
    truth = Annotations.of((3, 7), ("cell", "nucleus"), objects([1, 1], [0, 1]))
    assert truth.image_files == ("", "")
    assert truth.image_sizes.tolist() == [[0, 0], [0, 0]]
    assert truth.class_ids == (0, 1)
    assert truth.keypoint_names == ()
    assert (truth.num_images, truth.num_classes) == (2, 2)


def test_images_by_what_the_file_calls_them():
    assert [Annotations.of((-3, 7, 70), ("cell",), objects()).image_index(i) for i in (-3, 7, 70)] == [0, 1, 2]
    assert Annotations.of(("a", "b"), ("cell",), objects()).image_index("b") == 1
    with pytest.raises(ArgumentError, match=r"image_id must be that of an annotated image; got 2\."):
        Annotations.of((1,), ("cell",), objects()).image_index(2)


def test_all_classes_as_one():
    truth = Annotations.of(
        (1, 2), ("cell", "nucleus"), objects([0, 1], [1, 0]), class_ids=(4, 9), image_files=("a", "b")
    )
    one = truth.class_agnostic()
    assert (one.classes, one.class_ids, one.objects.labels.tolist()) == (("object",), (0,), [0, 0])
    assert (one.objects.images.tolist(), one.objects.ids.tolist()) == ([1, 0], [1, 0])  # the first class first
    assert (one.image_ids, one.image_files) == (truth.image_ids, truth.image_files)
    assert truth.objects.labels.tolist() == [1, 0]


def test_nothing_at_all():
    truth = Annotations.of((), (), objects())
    assert (truth.num_images, truth.num_classes, truth.image_sizes.shape) == (0, 0, (0, 2))


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    for message, arguments, columns in (
        (r"image_ids must ascend without repeating; got 1 after 2\.", ((2, 1), ("a",), objects()), {}),
        (r"image_ids must ascend without repeating; got 'b' after 'b'\.", (("a", "b", "b"), ("a",), objects()), {}),
        (
            r"image_sizes must hold 2 sizes, one an image; got 1\.",
            ((1, 2), ("a",), objects()),
            {"image_sizes": [(4, 5)]},
        ),
        (r"image_files must hold 1 names, one an image; got 2\.", ((1,), ("a",), objects()), {"image_files": "ab"}),
        (r"class_ids must hold 1 ids, one a class; got 2\.", ((1,), ("a",), objects()), {"class_ids": (1, 2)}),
        (r"classes must not repeat a name; got \('a', 'a'\)\.", ((1,), ("a", "a"), objects()), {}),
        (r"class_ids must not repeat an id; got \(3, 3\)\.", ((1,), ("a", "b"), objects()), {"class_ids": (3, 3)}),
        (r"objects\.images must be below 1; got 1\.", ((1,), ("a",), objects([1], [0])), {}),
        (r"objects\.labels must be below 1; got 2\.", ((1,), ("a",), objects([0], [2])), {}),
        (r"objects\.images must be below 0; got 0\.", ((), ("a",), objects([0], [0])), {}),
    ):
        with pytest.raises(ArgumentError, match=message):
            Annotations.of(*arguments, **columns)

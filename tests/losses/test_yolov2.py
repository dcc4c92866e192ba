"""The loss of YOLOv2 and YOLO9000, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from delineate.errors import ArgumentError
from delineate.losses.hierarchical import hierarchical_cross_entropy
from delineate.losses.yolov2 import YOLOv2Loss
from delineate.structures.outputs import GridOutputs
from delineate.structures.word_tree import WordTree

EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def grid(values: Tensor, objectness: Tensor, logits: Tensor, priors: Tensor | None = None) -> GridOutputs:
    """A 2 x 2 grid over 64 x 64 pixels."""
    return GridOutputs(logits, objectness, values, (2, 2), (64, 64), priors)


def target(*boxes: list[float], labels: list[int]) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)}


class TestYOLOv2:
    priors = torch.tensor([[0.25, 0.25], [0.5, 1.0]])  # 8 x 8 and 16 x 32 pixels

    def given(self, seed: int = 0) -> GridOutputs:
        generator = torch.Generator().manual_seed(seed)
        values = torch.randn(1, 4, 2, 4, generator=generator).requires_grad_()
        objectness = torch.randn(1, 4, 2, generator=generator).requires_grad_()
        logits = torch.randn(1, 4, 2, 3, generator=generator).requires_grad_()
        return grid(values, objectness, logits, self.priors)

    def test_every_term_by_hand(self) -> None:
        values, objectness = torch.zeros(1, 4, 2, 4), torch.full((1, 4, 2), -30.0)
        objectness[0, 0, 1] = 0.0  # answers: 0.5
        objectness[0, 2, 0] = 0.0  # finds nothing: 0.5
        logits = torch.zeros(1, 4, 2, 3)
        # the second prior fits: 16 x 32 pixels around (16, 16), where its box lies already; the object is 2 higher
        loss = YOLOv2Loss(settling=0)
        found = loss(grid(values, objectness, logits, self.priors), [target([8.0, 0, 24, 36], labels=[2])])
        overlap = 16 * 32 / (16 * 36)
        assert float(found["objects"]) == pytest.approx((0.5 - overlap) ** 2 / 2)
        assert float(found["no_objects"]) == pytest.approx(0.5**2 / 2)
        assert float(found["classes"]) == pytest.approx(math.log(3))
        smallness = 2 - 16 * 36 / 64**2
        squares = (0.5 - 18 / 32) ** 2 + math.log(36 / 32) ** 2
        assert float(found["boxes"]) == pytest.approx(smallness * squares / 2)
        parts = 5 * (0.5 - overlap) ** 2 / 2 + 0.125 + math.log(3) + smallness * squares / 2
        assert float(found["loss"]) == pytest.approx(parts)

    def test_a_box_on_an_object_that_does_not_answer_is_left_alone(self) -> None:
        priors = torch.tensor([[0.5, 1.0], [0.5, 1.1]])
        values, objectness = torch.zeros(1, 4, 2, 4), torch.full((1, 4, 2), -30.0)
        objectness[0, 0] = torch.tensor([0.0, 0.0])
        given = grid(values, objectness, torch.zeros(1, 4, 2, 3), priors)
        truth = [target([8.0, 0, 24, 32], labels=[2])]  # the first prior's box; the second's overlaps by 0.94
        assert float(YOLOv2Loss(settling=0)(given, truth)["no_objects"]) == pytest.approx(0, abs=1e-9)
        assert float(YOLOv2Loss(settling=0, ignore=0.95)(given, truth)["no_objects"]) == pytest.approx(0.125)

    def test_boxes_in_a_crowd_are_left_alone(self) -> None:
        given = grid(torch.zeros(1, 4, 2, 4), torch.zeros(1, 4, 2), torch.zeros(1, 4, 2, 3), self.priors)
        crowd = {**target([0.0, 0, 32, 32], labels=[0]), "iscrowd": torch.tensor([True])}
        # the two boxes of the first cell lie in the crowd, the other six do not
        assert float(YOLOv2Loss(settling=0)(given, [crowd])["no_objects"]) == pytest.approx(6 * 0.125)

    def test_the_first_images_are_drawn_to_the_priors(self) -> None:
        loss = YOLOv2Loss(settling=2).train()
        found = loss(self.given(), [EMPTY])
        values = self.given().values.detach()
        squares = (values[..., :2].sigmoid() - 0.5).square().sum() + values[..., 2:].square().sum()
        assert float(found["priors"].detach()) == pytest.approx(float(squares) / 2)
        assert int(loss.seen) == 1
        loss(self.given(), [EMPTY])
        assert "priors" not in loss(self.given(), [EMPTY])
        assert "priors" not in YOLOv2Loss().eval()(self.given(), [EMPTY])

    def test_the_box_that_answers_is_not_drawn_to_its_prior(self) -> None:
        truth = [target([8.0, 0, 24, 36], labels=[2])]
        alone, all_of_them = YOLOv2Loss()(self.given(), truth)["priors"], YOLOv2Loss()(self.given(), [EMPTY])["priors"]
        own = self.given().values.detach()[0, 0, 1]
        squares = (own[:2].sigmoid() - 0.5).square().sum() + own[2:].square().sum()
        assert float((all_of_them - alone).detach()) == pytest.approx(float(squares) / 2, rel=1e-4)

    def test_gradients_are_those_of_the_numbers(self) -> None:
        given = self.given()
        double = [part.detach().double().requires_grad_() for part in (given.values, given.objectness, given.logits)]

        def loss(values: Tensor, objectness: Tensor, logits: Tensor) -> Tensor:
            # the overlap that a confidence learns is no path for gradients: the box's own errors move it
            named = YOLOv2Loss(settling=0, objects=0)(grid(values, objectness, logits, self.priors.double()), [EMPTY])
            return named["loss"]

        assert torch.autograd.gradcheck(loss, double)

    def test_without_priors_it_refuses(self) -> None:
        given = grid(torch.zeros(1, 4, 1, 4), torch.zeros(1, 4, 1), torch.zeros(1, 4, 1, 2))
        with pytest.raises(ArgumentError, match="Take YOLOLoss"):
            YOLOv2Loss()(given, [EMPTY])


class TestWords:
    tree = WordTree(("thing", "plant", "dog", "cat"), (-1, -1, 0, 0))
    priors = torch.tensor([[0.25, 0.25], [0.5, 1.0]])

    def given(self, objectness: Tensor, logits: Tensor, values: Tensor | None = None) -> GridOutputs:
        values = torch.zeros(len(logits), 4, 2, 4) if values is None else values
        return GridOutputs(logits, objectness, values, (2, 2), (64, 64), self.priors.to(logits.dtype), self.tree)

    def named(self, word: str) -> dict[str, Tensor]:
        return {**EMPTY, "image_label": torch.tensor(self.tree.index(word))}

    @pytest.mark.parametrize(("word", "terms"), [("thing", 1), ("dog", 2)])
    def test_a_box_teaches_its_word_and_those_above(self, word: str, terms: int) -> None:
        logits = torch.zeros(1, 4, 2, 4, requires_grad=True)
        truth = target([8.0, 0, 24, 36], labels=[self.tree.index(word)])
        found = YOLOv2Loss(settling=0)(self.given(torch.zeros(1, 4, 2), logits), [truth])
        assert float(found["classes"].detach()) == pytest.approx(terms * math.log(2))
        found["loss"].backward()
        assert logits.grad is not None
        assert bool(logits.grad[0, 0, 1, :2].all())
        assert bool(logits.grad[..., 2:].any()) == (terms == 2)  # nothing below the word

    def picture(self) -> tuple[Tensor, Tensor]:
        """Of two boxes that claim something, the first is surer and is a dog with 0.5 x 0.9."""
        objectness = torch.full((1, 4, 2), -30.0)
        objectness[0, 1, 0], objectness[0, 2, 1] = torch.logit(torch.tensor([0.1, 0.09])).tolist()
        logits = torch.zeros(1, 4, 2, 4)
        logits[0, 1, 0, 2] = math.log(9)
        return objectness, logits

    def test_a_named_image_teaches_its_surest_box(self) -> None:
        objectness, logits = self.picture()
        found = YOLOv2Loss(settling=0)(self.given(objectness, logits), [self.named("dog")])
        classes, objects = -math.log(0.5) - math.log(0.9), (0.1 - 0.3) ** 2 / 2
        assert float(found["classes"]) == pytest.approx(classes, rel=1e-5)
        assert float(found["objects"]) == pytest.approx(objects, rel=1e-5)
        assert float(found["boxes"]) == float(found["no_objects"]) == 0
        assert float(found["loss"]) == pytest.approx(classes + 5 * objects, rel=1e-5)
        words = hierarchical_cross_entropy(logits[0, 1, 0], torch.tensor(2), self.tree)
        assert float(found["classes"]) == pytest.approx(float(words))

    def test_objectness_decides_between_boxes_as_well(self) -> None:
        objectness, logits = self.picture()
        objectness[0, 2, 1] = 0.0  # 0.5 x 0.25 against 0.1 x 0.45
        found = YOLOv2Loss(settling=0)(self.given(objectness, logits), [self.named("dog")])
        assert float(found["classes"]) == pytest.approx(2 * math.log(2))
        assert float(found["objects"]) == 0  # it claims more than 0.3 already

    def test_no_other_box_of_a_named_image_learns(self) -> None:
        objectness, logits = (part.requires_grad_() for part in self.picture())
        values = torch.randn(1, 4, 2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        loss = YOLOv2Loss(settling=100).train()
        found = loss(self.given(objectness, logits, values), [self.named("dog")])
        assert float(found["priors"].detach()) == 0
        found["loss"].backward()
        assert int(loss.seen) == 1
        for part in (objectness, logits, values):
            assert part.grad is not None
        learns = torch.zeros(1, 4, 2, dtype=torch.bool)
        learns[0, 1, 0] = True
        assert torch.equal(objectness.grad != 0, learns)
        assert torch.equal((logits.grad != 0).any(-1), learns)
        assert not values.grad.any()

    def test_images_of_a_batch_do_not_meet(self) -> None:
        generator = torch.Generator().manual_seed(1)
        objectness, logits = torch.randn(3, 4, 2, generator=generator), torch.randn(3, 4, 2, 4, generator=generator)
        truths = [target([8.0, 0, 24, 36], labels=[3]), self.named("plant"), EMPTY]
        loss = YOLOv2Loss(settling=1000).train()
        whole = loss(self.given(objectness, logits), truths)
        alone = []
        for image, truth in enumerate(truths):
            alone.append(loss(self.given(objectness[[image]], logits[[image]]), [truth])["loss"])
        assert float(whole["loss"]) == pytest.approx(float(torch.stack(alone).mean()), rel=1e-5)

    def test_gradients_of_a_named_image_are_those_of_the_numbers(self) -> None:
        objectness, logits = (part.double().requires_grad_() for part in self.picture())
        values = torch.zeros(1, 4, 2, 4, dtype=torch.float64)

        def loss(objectness: Tensor, logits: Tensor) -> Tensor:
            return YOLOv2Loss(settling=0)(self.given(objectness, logits, values), [self.named("dog")])["loss"]

        assert torch.autograd.gradcheck(loss, (objectness, logits))

    def test_what_cannot_be_named_is_refused(self) -> None:
        objectness, logits = self.picture()
        flat = grid(torch.zeros(1, 4, 2, 4), objectness, logits, self.priors)
        with pytest.raises(ArgumentError, match="outputs must have a tree of words for an image_label"):
            YOLOv2Loss()(flat, [self.named("dog")])
        both = {**target([8.0, 0, 24, 36], labels=[2]), "image_label": torch.tensor(2)}
        with pytest.raises(ArgumentError, match="targets must have either boxes or an image_label; got 1 boxes"):
            YOLOv2Loss()(self.given(objectness, logits), [both])


def test_options_must_fit() -> None:
    with pytest.raises(ArgumentError, match="ignore must be 0 or more"):
        YOLOv2Loss(ignore=-1)
    with pytest.raises(ArgumentError, match=r"assumed must lie in 0\.\.1; got 2"):
        YOLOv2Loss(assumed=2)

"""The localiser: its parameters by hand, slots that always answer or may be empty, and what becomes of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.localisation import LocalisationLoss
from delineate.models.localizer import localizer
from delineate.postprocess.detection import class_scores, decoded_boxes, detected_boxes
from delineate.structures.outputs import SlotOutputs
from delineate.structures.scored_boxes import DetectionOptions
from tests.models.detector import DetectorTests

RESNET18 = 11_176_512  # without its last layer
SMALL = {"encoder": "test_resnet", "bins": 2, "hidden": (16,)}


class SlotTests(DetectorTests):
    """What holds for models with slots, of which there are few."""

    slots: int

    @torch.no_grad()
    def test_boxes_lie_in_the_image_whatever_the_weights_say(self) -> None:
        model, (images, _) = self.build().eval(), self.batch()
        model.boxes.weight.normal_()
        size = (self.size[0] - 3, self.size[1] - 5)
        every = DetectionOptions(score_threshold=-1, iou_threshold=1)
        for one in detected_boxes(model(images), [size] * 3, every):
            assert len(one) == self.slots * self.num_classes
            assert (one.boxes >= 0).all()
            assert (one.boxes <= torch.tensor([size[1], size[0]] * 2)).all()
            assert (one.boxes[:, 2:] >= one.boxes[:, :2]).all()
            assert (one.scores.diff() <= 0).all()

    @pytest.mark.parametrize("size", [(1, 1), (33, 97), (160, 64)])
    @torch.no_grad()
    def test_takes_images_of_any_size(self, size: tuple[int, int]) -> None:
        outputs = self.build().eval()(torch.zeros(1, 3, *size))
        assert outputs.size == (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
        assert outputs.logits.isfinite().all()


class TestLocalizerOfOne(SlotTests):
    factory = staticmethod(localizer)
    loss = LocalisationLoss()
    options = SMALL
    slots = 1
    published = [
        # 16 bins of 512 channels to 512, and from there to the classes and a box
        ({"num_classes": 10}, RESNET18 + (512 * 16 + 1) * 512 + 513 * (10 + 4)),
        ({"num_classes": 10, "background": True}, RESNET18 + (512 * 16 + 1) * 512 + 513 * (11 + 4)),
        ({"num_classes": 10, "boxes": "per_class"}, RESNET18 + (512 * 16 + 1) * 512 + 513 * (10 + 40)),
        ({"num_classes": 10, "bins": 1, "hidden": ()}, RESNET18 + 513 * (10 + 4)),
    ]

    @torch.no_grad()
    def test_it_answers_once_for_every_image(self) -> None:
        model, (images, _) = self.build().eval(), self.batch()
        for one in detected_boxes(model(images), [self.size] * 3, model.decoding):
            assert len(one) == 1
            assert one.scores > 1 / 3 - 1e-6


class TestLocalizerOfThree(SlotTests):
    factory = staticmethod(localizer)
    loss = LocalisationLoss(box_loss="giou")
    options = {**SMALL, "objects": 3}
    slots = 3
    published = [({"num_classes": 10, "objects": 4}, RESNET18 + (512 * 16 + 1) * 512 + 513 * 4 * (11 + 4))]

    @torch.no_grad()
    def test_slots_may_be_empty(self) -> None:
        outputs = self.build().eval()(self.batch()[0])
        assert outputs.background
        assert outputs.logits.shape == (3, 3, 4)
        assert outputs.boxes.shape == (3, 3, 1, 4)
        assert outputs.num_classes == 3


class TestLocalizerWithABoxForEachClass(SlotTests):
    factory = staticmethod(localizer)
    loss = LocalisationLoss(box_loss="l2")
    options = {**SMALL, "objects": 2, "boxes": "per_class", "background": False}
    slots = 2

    @torch.no_grad()
    def test_exactly_n_answers(self) -> None:
        model, (images, _) = self.build().eval(), self.batch()
        outputs = model(images)
        assert outputs.logits.shape == (3, 2, 3)
        assert outputs.boxes.shape == (3, 2, 3, 4)
        assert [len(one) for one in detected_boxes(outputs, [self.size] * 3, model.decoding)] == [2, 2, 2]


@torch.no_grad()
def test_every_box_starts_in_the_middle() -> None:
    torch.manual_seed(0)
    model = localizer(2, objects=2, **SMALL).eval()
    boxes = model(torch.zeros(1, 3, 64, 64)).boxes  # of zeros the features are zeros but for biases
    assert boxes.flatten(0, 2).tolist() == [pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.05)] * 2


def slots(logits: Tensor, boxes: Tensor, **options: object) -> SlotOutputs:
    return SlotOutputs(logits[None], boxes[None], (40, 80), **options)


class TestDecoding:
    """A slot's object, by hand."""

    def test_a_slot_holds_its_likeliest_class(self) -> None:
        logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]]).log()
        given = slots(torch.nan_to_num(logits, neginf=-1e4), torch.zeros(2, 1, 4), background=True)
        scores = class_scores(given)[0].tolist()
        assert scores == [pytest.approx([2 / 3, 0]), pytest.approx([0, 1 / 4])]
        given = slots(torch.nan_to_num(logits, neginf=-1e4), torch.zeros(2, 1, 4))
        assert class_scores(given)[0].tolist() == [pytest.approx([2 / 3, 0, 0]), pytest.approx([0, 0, 3 / 4])]

    def test_objectness_is_a_factor(self) -> None:
        given = slots(torch.tensor([[0.0, 0.0]]), torch.zeros(1, 1, 4), objectness=torch.zeros(1, 1))
        assert class_scores(given)[0].tolist() == [[0.25, 0]]  # of equal classes the first

    def test_boxes_are_pixels_with_corners_in_order(self) -> None:
        boxes = torch.tensor([[[0.25, 0.5, 0.5, 1.0]], [[0.5, 1.0, 0.25, -0.5]]])
        given = slots(torch.zeros(2, 1), boxes)
        found = decoded_boxes(given, 0, torch.tensor([1, 0]))
        assert found.tolist() == [[20, -20, 40, 40], [20, 20, 40, 40]]

    def test_the_box_is_that_of_the_class(self) -> None:
        boxes = torch.stack([torch.full((4,), 0.25), torch.full((4,), 0.5)])[None].expand(2, -1, -1)
        given = slots(torch.tensor([[1.0, 0, 5], [0.0, 1, 5]]), boxes, background=True)
        assert given.likeliest.tolist() == [[0, 1]]
        assert decoded_boxes(given, 0, torch.tensor([0, 1])).tolist() == [[20, 10, 20, 10], [40, 20, 40, 20]]

    def test_slots_on_one_place_are_two_objects(self) -> None:
        boxes = torch.tensor([0.0, 0, 1, 1]).expand(2, 1, 4)
        model = localizer(2, objects=2, **SMALL)
        found = detected_boxes(slots(torch.zeros(2, 3), boxes, background=True), [(30, 80)], model.decoding)[0]
        assert found.boxes.tolist() == [[0, 0, 80, 30]] * 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="objects must be at least 1; got 0"):
        localizer(3, objects=0)
    with pytest.raises(UnknownNameError, match="per_class"):
        localizer(3, boxes="perclass")
    with pytest.raises(ArgumentError, match="bins must be at least 1"):
        localizer(3, bins=0)

"""Weights with which every class comes as often."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delineate.data.balanced_order import class_balanced_weights, image_class_pixels
from delineate.data.digits import DigitScenes
from delineate.data.order import BatchOrder
from delineate.data.statistics import dataset_statistics
from delineate.errors import ArgumentError


def test_by_hand():
    pixels = np.array([[90, 0, 0], [60, 30, 0], [0, 10, 0], [0, 0, 0]])
    # class 0: 0.6, 0.4; class 1: 0, 0.75, 0.25; class 2 occurs nowhere
    assert class_balanced_weights(pixels) == pytest.approx([0.3, 0.575, 0.125, 0])


def test_two_draws_give_these_chances():
    """First a class, then an image by its pixels of it."""
    pixels = np.random.default_rng(0).integers(0, 50, (6, 4)) * (np.random.default_rng(1).random((6, 4)) < 0.5)
    generator = np.random.default_rng(2)
    drawn = [
        generator.choice(6, p=pixels[:, k] / pixels[:, k].sum())
        for k in generator.choice(np.flatnonzero(pixels.sum(axis=0)), 20_000)
    ]
    assert np.bincount(drawn, minlength=6) / 20_000 == pytest.approx(class_balanced_weights(pixels), abs=0.015)


def test_a_rare_class_comes_as_often_as_a_frequent_one():
    pixels = np.zeros((50, 2), np.int64)
    pixels[:49, 0] = 100
    pixels[49, 1] = 5
    order = BatchOrder(50, batch_size=5, seed=0, weights=class_balanced_weights(pixels))
    assert torch.bincount(torch.tensor(order.samples(0)))[49] == 25


def test_pixels_are_those_of_the_statistics():
    scenes = DigitScenes("val", length=5, size=(64, 64))
    pixels = image_class_pixels(scenes)
    assert pixels.shape == (5, scenes.taxonomy.num_classes)
    assert tuple(pixels.sum(axis=0)) == dataset_statistics(scenes).pixels
    labels = scenes.read(3)[1]
    assert pixels[3].tolist() == np.bincount(labels[labels != 255], minlength=pixels.shape[1]).tolist()


def test_nothing_labelled_is_refused():
    with pytest.raises(ArgumentError, match=r"pixels must hold a class that occurs; got \[0, 0\]\."):
        class_balanced_weights(np.zeros((3, 2), np.int64))

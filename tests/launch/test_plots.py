"""Plots of loaded models: what is drawn, what is named, and in which axes."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor, nn

from distill.colours import class_colour
from distill.errors import UserError
from distill.instance_masks import InstanceMasks
from distill.launch.predictors import (
    ClassMap,
    InstancePredictor,
    Instances,
    Predictor,
    SemanticPredictor,
    StudentPredictor,
)
from distill.patch import Patch

NAMES = ["ship", "costs $1 to $2", "vehicle"]
IMAGE = torch.full((3, 60, 80), 100, dtype=torch.uint8)


class Known(Predictor):
    """A model whose result is known."""

    def __init__(self, found: Any) -> None:
        Predictor.__init__(self, nn.Identity(), torch.device("cpu"), NAMES)
        self.found = found

    def _predict(self, pixels: list[Tensor], first: int) -> list[Any]:
        return [self.found]


class KnownInstances(Known, InstancePredictor):
    pass


class KnownClasses(Known, SemanticPredictor):
    pass


class KnownFeatures(Known, StudentPredictor):
    pass


def instances(scores: list[float]) -> Instances:
    count = len(scores)
    boxes = torch.zeros(count, 4)
    patches = [Patch(10, 15 * n, np.ones((10, 10), np.uint8)) for n in range(count - 1)]
    for n in range(count - 1):
        boxes[n] = torch.tensor([15 * n, 10, 15 * n + 10, 20])
    masks = InstanceMasks.from_patches([*patches, Patch(0, 0, np.zeros((0, 0), np.uint8))], (60, 80))
    return Instances(0, boxes, torch.tensor(scores), torch.arange(count) % 3, masks, NAMES)


def drawn(axes: Any) -> np.ndarray:
    """Pixels (60, 80, 3) of the image in the axes, one for each pixel of the file."""
    (image,) = axes.get_images()
    assert image.get_extent() == [0, 80, 60, 0]
    pixels = np.asarray(image.get_array())
    step = pixels.shape[0] // 60
    return pixels[step // 2 :: step, step // 2 :: step]


def test_instances_have_masks_names_and_scores() -> None:
    given = Figure().subplots()
    axes = KnownInstances(instances([0.9, 0.8, 0.5, 0.2, 0.1])).plot(IMAGE, axes=given, score=0.4)
    assert axes is given
    shown = drawn(axes)
    for label in range(3):
        tint = 0.7 * 100 + 0.3 * 255 * np.array(to_rgb(class_colour(label)))
        np.testing.assert_allclose(shown[15, 15 * label + 5], tint, atol=1)
    assert (shown[:, 45:] == 100).all()  # those below the score
    assert [text.get_text() for text in axes.texts] == ["ship 0.90", "costs $1 to $2 0.80", "vehicle 0.50"]
    assert axes.get_title() == "3 instances, 2 below 0.4 not drawn"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == NAMES
    axes.figure.savefig("/dev/null", format="png")


def test_nothing_found_is_a_plain_image() -> None:
    axes = KnownInstances(instances([0.2])).plot(IMAGE, axes=Figure().subplots())
    assert (drawn(axes) == 100).all()
    assert axes.get_legend() is None
    assert axes.get_title() == "0 instances, 1 below 0.3 not drawn"


def test_classes_cover_the_image_and_only_those_shown_are_named() -> None:
    labels = torch.zeros(60, 80, dtype=torch.int64)
    labels[:, 40:] = 2
    axes = KnownClasses(ClassMap(labels, NAMES)).plot(IMAGE, axes=Figure().subplots())
    tint = 0.55 * 100 + 0.45 * 255 * np.array(to_rgb(class_colour(2)))
    np.testing.assert_allclose(drawn(axes)[30, 60], tint, atol=1)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ship", "vehicle"]


def test_a_student_shows_its_last_map() -> None:
    last = torch.zeros(8, 3, 4)
    last[:, 1] = torch.arange(4).float()
    axes = KnownFeatures([torch.rand(2, 6, 8), last]).plot(IMAGE.permute(1, 2, 0).numpy(), axes=Figure().subplots())
    (image,) = axes.get_images()
    assert np.asarray(image.get_array()).shape == (3, 4, 3)
    assert image.get_extent() == [0, 80, 60, 0]
    assert axes.get_title() == "principal components of 8 channels, 3 x 4 cells"


def test_what_is_no_image_is_refused_before_anything_is_drawn() -> None:
    axes = Figure().subplots()
    with pytest.raises(UserError, match="must be"):
        KnownInstances(instances([0.9])).plot(np.zeros((5, 5), np.uint8), axes=axes)
    assert not axes.get_images()

"""Pictures of labels beside predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from distill.colours import class_rgb
from distill.contracts import Prediction
from distill.data import CocoInstances
from distill.data.class_table import IGNORE
from distill.evaluation.coco import CocoEvaluator
from distill.report.predictions import choose, coloured, instances_figure


def data(scenes: Path, image_size: int) -> CocoInstances:
    test = (str(scenes / "test" / "images"), str(scenes / "test" / "annotations.json"))
    return CocoInstances(*test, *test, image_size=image_size, num_workers=0)


@pytest.mark.parametrize("image_size", [64, 96])
def test_perfect_predictions_look_like_the_ground_truth(scenes: Path, image_size: int) -> None:
    """Which is given as the view shows it, while predictions are those of the file: 64 px."""
    whole, view = (data(scenes, size).dataset("test") for size in (64, image_size))
    evaluator = CocoEvaluator(data(scenes, 64).ground_truth("test"), data(scenes, 64).class_names)
    for _, target in (whole[index] for index in range(len(whole))):
        scores = torch.linspace(1, 0.9, len(target.labels))
        evaluator.update([Prediction(target.image_id, target.boxes, scores, target.labels, target.masks[:])])
    axes = instances_figure(view, evaluator).axes
    assert len(axes) == 2 * 4
    for left, right in zip(axes[::2], axes[1::2], strict=True):
        true, predicted = (np.asarray(side.images[0].get_array()) for side in (left, right))
        assert true.shape == (image_size, image_size, 3)
        assert (np.abs(true - predicted).max(axis=-1) > 0.01).mean() < (0.0001 if image_size == 64 else 0.03)
        boxes = [[patch.get_bbox().bounds for patch in side.patches] for side in (left, right)]
        np.testing.assert_allclose(*boxes, atol=1e-3)
        objects = int(left.get_title().split("ground truth: ")[1].split()[0])
        assert right.get_title().startswith(f"prediction: best {objects} of {objects} instance")
    legend = {text.get_text() for text in axes[0].figure.legends[0].get_texts()}
    assert legend == {whole.annotations.class_names[c] for index in range(len(whole)) for c in whole.classes(index)}


def test_nothing_found_is_drawn_too(scenes: Path) -> None:
    dataset = data(scenes, 64).dataset("test")
    evaluator = CocoEvaluator(data(scenes, 64).ground_truth("test"), data(scenes, 64).class_names)
    evaluator.records = [(image["id"], []) for image in dataset.images[:2]]
    axes = instances_figure(dataset, evaluator).axes
    assert [side.get_title() for side in axes[1::2]] == ["prediction: best 0 of 0 instances"] * 2  # two were scored


def test_images_that_show_new_classes_come_first() -> None:
    assert choose({0: set(), 1: {2}, 2: {2}, 3: {0, 2}, 4: {1}, 5: {1}}) == [1, 3, 4, 2]
    assert choose({7: set(), 8: {0}}) == [8, 7]


def test_colours_of_labels() -> None:
    shown = coloured(np.array([[0, 1], [IGNORE, 1]], np.uint8), 2)
    assert np.allclose(shown[0], class_rgb(2))
    assert np.allclose(shown[1, 0], to_rgb("#404040"))

"""Pictures of the classes of pixels."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distill.colours import class_rgb
from distill.data import SemanticFolder
from distill.data.class_table import IGNORE
from distill.report.pictures.labels import label_drawings

CLASSES: dict[str, int | list[int]] = {f"class {label}": label for label in range(30)}


class Model:
    """Predicts class 1 everywhere."""

    class_names: ClassVar = list(CLASSES)

    def predict_labels(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        assert images.shape == (1, 3, 24, 40)
        return torch.ones(1, *size, dtype=torch.int64)


def split(root: Path, count: int = 3) -> SemanticFolder:
    """Images of 12 x 20 pixels, of classes 1, 29 and, in half of the rows, none; two folders with equal names."""
    for part in ("a", "b"):
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        for number in range(count):
            labels = np.full((12, 20), IGNORE, np.uint8)
            labels[:6, :5], labels[:6, 5:] = 1, 29
            pixels = np.full((12, 20, 3), [10 * number, 0, 0], np.uint8)
            Image.fromarray(pixels).save(root / part / f"images/{number}.png")
            Image.fromarray(labels).save(root / part / f"masks/{number}.png")
    return SemanticFolder(str(root), CLASSES, [IGNORE], "a", ["a", "b"], zoom=2.0, num_workers=0)


def test_labels_and_predictions_in_their_colours(tmp_path: Path) -> None:
    drawings = label_drawings(split(tmp_path).dataset("val"), Model(), lambda image: image[None])
    assert [drawing.name for drawing in drawings] == [
        "a/images/0.png",
        "a/images/2.png",
        "b/images/0.png",
        "b/images/2.png",
    ]
    colours = (class_rgb(30) * 255).round()
    expected = np.full((12, 20, 3), 0x40)
    expected[:6, :5], expected[:6, 5:] = colours[1], colours[29]
    for drawing, red in zip(drawings, (0, 20, 0, 20), strict=True):
        np.testing.assert_array_equal(drawing.parts["input"], np.full((12, 20, 3), [red, 0, 0]))
        np.testing.assert_array_equal(drawing.parts["truth"], expected)
        np.testing.assert_array_equal(drawing.parts["prediction"], np.broadcast_to(colours[1], (12, 20, 3)))
        assert drawing.captions == {"prediction": "25.0 % of the pixels right"}
        assert list(drawing.legend) == ["class 1", "class 29", "not labelled"]
        assert set(drawing.exact) == {"truth", "prediction"}


def test_an_image_without_labels(tmp_path: Path) -> None:
    data = split(tmp_path, 1)
    Image.fromarray(np.full((12, 20), IGNORE, np.uint8)).save(tmp_path / "a/masks/0.png")
    first, second = label_drawings(data.dataset("val"), Model(), lambda image: image[None])
    assert first.captions == {"prediction": "no pixel is labelled"}
    assert second.captions == {"prediction": "25.0 % of the pixels right"}

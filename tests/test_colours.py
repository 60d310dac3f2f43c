import cv2
import numpy as np

from distill.colours import CLASS_COLOURS, class_colour, class_rgb


def test_every_class_has_a_colour_of_its_own() -> None:
    """By CIE76, with the conversion of OpenCV; 2.3 is what can just be seen."""
    lab = cv2.cvtColor(class_rgb(len(CLASS_COLOURS))[None], cv2.COLOR_RGB2LAB)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(len(lab))
    assert distances.min() > 30
    assert len({class_colour(label) for label in range(100)}) == 100

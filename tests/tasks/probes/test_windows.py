import numpy as np
import pytest
import torch

from distill.data.fitting import PADDING
from distill.patch import Patch
from distill.tasks.probes.windows import Square, paint


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([40, 30, 10, 6], Square(25, 37, 16)),  # around the middle, never smaller than asked for
        ([0, 0, 10, 6], Square(0, 0, 16)),  # moved into the image
        ([90, 50, 10, 10], Square(44, 84, 16)),
        ([20, 20, 40, 20], Square(0, 10, 60)),  # context times the longer side
        ([0, 0, 100, 60], Square(0, 0, 150)),  # larger than the image
    ],
)
def test_where_a_window_lies(box: list[float], expected: Square) -> None:
    assert Square.around(box, (60, 100), context=1.5, smallest=16) == expected


def test_a_window_shows_the_pixels_of_the_file_and_pads_beyond() -> None:
    pixels = torch.randint(256, (3, 20, 30), dtype=torch.uint8)
    assert torch.equal(Square(2, 5, 16).show(pixels, 16), pixels[:, 2:18, 5:21])
    padded = Square(0, 0, 32).show(pixels, 32)
    assert torch.equal(padded[:, :20, :30], pixels)
    assert padded[:, -1, -1].tolist() == [round(255 * level) for level in PADDING]


def test_masks_and_boxes_follow_the_window() -> None:
    square, patch = Square(10, 20, 32), Patch(14, 24, np.ones((8, 4), np.uint8))
    seen = square.zoom(16)(patch)
    assert seen is not None
    region = torch.zeros(16, 16, dtype=torch.bool)
    paint(region, seen, 1)
    assert torch.equal(region, square.box([24, 14, 4, 8], 16))
    assert region[2:6, 2:4].all()
    assert region.sum() == 8
    assert square.box([51.6, 41.6, 0.2, 0.2], 16).sum() == 1  # also what is smaller than a pixel

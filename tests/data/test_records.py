"""Rules for records, and compressed run lengths, read without pycocotools, which follows a damaged one anywhere."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from distill.data.masks import decode_counts
from distill.data.records import LARGEST_IMAGE, image_problem, is_number


@pytest.mark.parametrize("side", [1, 7, 40, 700])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.4, 1.0])
def test_runs_equal_those_of_pycocotools(side: int, density: float) -> None:
    rng = np.random.default_rng(side)
    for width in (side, side + 3):
        mask = rng.random((side, width)) < density
        if side == 700:
            mask[:] = False
            mask[int(density * 600) :, 350:] = True  # long runs take several groups of five bits
        text = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        runs = decode_counts(text)
        assert (runs >= 0).all()
        assert np.array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), mask.flatten(order="F"))


@pytest.mark.parametrize("text", ["", "8o", "~", "\u00ff", "o" * 40, " "])
def test_damaged_texts(text: str) -> None:
    with pytest.raises(ValueError, match="no run-length encoding"):
        decode_counts(text)


def test_numbers() -> None:
    assert [is_number(value) for value in (1, 1.5, -2)] == [True] * 3
    assert [is_number(value) for value in (True, None, "1", float("nan"), float("inf"), 10**400, [1])] == [False] * 7


def test_the_largest_image() -> None:
    side = int(LARGEST_IMAGE**0.5)
    record = {"id": 1, "file_name": "a.tif", "height": side, "width": side}
    assert image_problem(record) is None
    assert "too large" in str(image_problem(record | {"width": side + 2}))

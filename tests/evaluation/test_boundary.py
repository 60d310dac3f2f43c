"""Boundary bands and boundary AP against cases computed by hand."""

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from distill.contracts import Prediction
from distill.evaluation.boundary import band_width, boundary_band
from distill.evaluation.coco import CocoEvaluator


def square(left: int, top: int, side: int, size: int = 100) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def slow_band(mask: np.ndarray, width: int) -> np.ndarray:
    """One pixel at a time: a pixel survives if it and its eight neighbours are set, nothing is set outside."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1)
        shifts = [padded[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)]
        inner = np.minimum.reduce(shifts)
    return mask - inner


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("shape", [(1, 1), (7, 30), (40, 23)])
def test_bands_equal_repeated_erosion(shape: tuple[int, int], width: int) -> None:
    rng = np.random.default_rng(width)
    for fill in (0.0, 0.5, 0.97, 1.0):
        mask = (rng.random(shape) < fill).astype(np.uint8)
        assert np.array_equal(boundary_band(mask, width), slow_band(mask, width))


def test_band_width_is_two_percent_of_the_diagonal() -> None:
    assert band_width(300, 400) == 10
    assert band_width(100, 100) == 3
    assert band_width(5, 5) == 1


def evaluate(truth: list[tuple[np.ndarray, int]], found: list[np.ndarray]) -> dict[str, float]:
    """Scores masks of falling score in one image of 100 x 100 pixels; objects are (mask, crowd)."""
    annotations = []
    for number, (mask, crowd) in enumerate(truth):
        encoded = rle.encode(np.asfortranarray(mask))
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": 1,
                "bbox": rle.toBbox(encoded).tolist(),
                "area": float(mask.sum()),
                "segmentation": {"size": [100, 100], "counts": encoded["counts"].decode()},
                "iscrowd": crowd,
            }
        )
    content = {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "building"}],
    }
    evaluator = CocoEvaluator(content, ["building"])
    boxes = [rle.toBbox(rle.encode(np.asfortranarray(mask))) for mask in found]
    evaluator.update(
        [
            Prediction(
                image_id=1,
                boxes=torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes], dtype=torch.float32),
                scores=torch.linspace(0.9, 0.5, len(found)),
                labels=torch.zeros(len(found), dtype=torch.int64),
                masks=torch.from_numpy(np.stack(found).astype(bool)),
            )
        ]
    )
    return evaluator.compute()


def test_a_shifted_square_by_hand() -> None:
    """40 px squares, shifted by 2 px; the band of a 100 px image is 3 px wide.

    Masks share 38 x 40 of 1600 + 1600 - 1520 pixels: 0.905, enough for nine of ten thresholds. The bands have
    1600 - 34 x 34 = 444 pixels. Of the 1520 shared pixels, those inside either square's 34 px core are in no common
    band: 1156 + 1156 - 32 x 34 = 1224. So bands share 296 of 444 + 444 - 296 = 592: exactly 0.5, one threshold of ten.
    """
    scores = evaluate([(square(10, 10, 40), 0)], [square(12, 10, 40)])
    assert scores["mask/AP"] == pytest.approx(0.9)
    assert scores["boundary/AP"] == pytest.approx(0.1)
    assert scores["boundary/AP50"] == pytest.approx(1)
    assert scores["boundary/AP75"] == 0


def test_thin_objects_score_as_their_masks() -> None:
    """A 4 px wide object is all band, so nothing is left to differ."""
    strip = square(10, 10, 40) * (np.arange(100) < 14).astype(np.uint8)[:, None]
    scores = evaluate([(strip, 0)], [np.roll(strip, 4, axis=1)])
    assert scores["boundary/AP"] == scores["mask/AP"] == pytest.approx(0.7)  # 36 / 44 = 0.818


def test_the_outline_of_a_crowd_is_no_outline() -> None:
    """A detection deep inside a region to ignore shares no outline with it, and still is no mistake."""
    truth = [(square(2, 2, 10), 0), (square(20, 20, 70), 1)]
    scores = evaluate(truth, [square(40, 40, 20), square(2, 2, 10)])
    assert scores["boundary/AP"] == scores["mask/AP"] == pytest.approx(1)


def test_detections_beyond_the_limit_keep_their_order() -> None:
    """More detections than are scored: overlaps must still belong to the best ones."""
    truth = [(square(5, 5, 30), 0), (square(60, 60, 30), 0)]
    found = [square(60, 60, 30), square(5, 5, 30), *[square(5, 60, 10)] * 120]
    assert evaluate(truth, found)["boundary/AP"] == pytest.approx(1)

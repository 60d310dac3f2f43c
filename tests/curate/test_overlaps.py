"""Crops that overlap: found with the share of ground they have in common, others not."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from distill.curate.overlaps import features_of, overlapping, points_in_common


def ground(seed: int) -> np.ndarray:
    """A landscape (600, 600, 3) of blobs that differ from place to place."""
    rng = np.random.default_rng(seed)
    canvas = np.full((600, 600, 3), 90, np.uint8)
    for _ in range(500):
        centre, radius = rng.integers(0, 600, 2).tolist(), int(rng.integers(3, 18))
        cv2.circle(canvas, centre, radius, rng.integers(0, 255, 3).tolist(), -1)
    return canvas


def tensor(crop: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)


def test_crops_of_one_place() -> None:
    place = ground(0)
    first = features_of(tensor(place[:400, :400]))
    shifted = features_of(tensor(place[150:550, 150:550]))
    turned = features_of(tensor(np.rot90(place[150:550, 150:550])))
    zoomed = features_of(tensor(cv2.resize(place[100:500, 100:500], (600, 600))))
    elsewhere = features_of(tensor(ground(1)[:400, :400]))
    counts = [points_in_common(first, other) for other in (first, shifted, turned, zoomed, elsewhere)]
    assert counts[0] > counts[1] > 12
    assert counts[2] > 12
    assert counts[3] > 12
    assert counts[4] == 0
    assert [(i, j) for i, j, _ in overlapping([first, elsewhere], [elsewhere, shifted])] == [(1, 0), (0, 1)]


def test_images_without_points() -> None:
    blank = features_of(torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert points_in_common(blank, blank) == 0
    tiny = features_of(torch.zeros(3, 1, 1, dtype=torch.uint8))
    assert points_in_common(tiny, blank) == 0


def test_a_repeated_pattern_is_no_place() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::20] = 255
    other = np.zeros((400, 400, 3), np.uint8)
    other[::20] = 255
    assert points_in_common(features_of(tensor(stripes)), features_of(tensor(other))) == 0


def test_the_count_repeats() -> None:
    place = ground(2)
    one, two = features_of(tensor(place[:400, :400])), features_of(tensor(place[100:500, 50:450]))
    assert len({points_in_common(one, two) for _ in range(3)}) == 1
    assert points_in_common(one, two) == pytest.approx(points_in_common(two, one), rel=0.3)

"""Differences that the comparison of instances must find, and those it must forgive."""

import tracemalloc

import numpy as np
import pytest

from distill.exporters.verify.instances import BOX, SCORE, compare_instances
from distill.instance_masks import Patch
from distill.scene.detections import TileInstances

THRESHOLD = 0.05


def instances(
    boxes: list[list[float]], scores: list[float], labels: list[int] | None = None, grown: int = 0
) -> TileInstances:
    """Instances whose masks fill their boxes; of the first, `grown` pixels of a row more."""
    masks = [
        Patch(int(top), int(left), np.ones((int(bottom) - int(top), int(right) - int(left)), np.uint8))
        for left, top, right, bottom in boxes
    ]
    if grown:
        first = masks[0]
        pixels = np.zeros((first.pixels.shape[0] + 1, first.pixels.shape[1]), np.uint8)
        pixels[:-1] = 1
        pixels[-1, :grown] = 1
        masks[0] = Patch(first.top, first.left, pixels)
    return TileInstances(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels or [0] * len(scores), np.int64),
        masks,
    )


TWO = [[10, 10, 30, 30], [50, 20, 80, 60]]


def test_equal_in_any_order() -> None:
    first, second = instances(TWO, [0.9, 0.5]), instances(TWO[::-1], [0.5, 0.9])
    found = compare_instances(first, second, THRESHOLD, None)
    assert found.matched == 2
    assert found.failed is None
    assert (found.box, found.score, found.mask) == (0, 0, 0)


def test_none_in_both() -> None:
    assert compare_instances(instances([], []), instances([], []), THRESHOLD, 10).failed is None


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (instances([[10, 10, 30, 30 + 2 * BOX], TWO[1]], [0.9, 0.5]), "boxes"),
        (instances(TWO, [0.9, 0.5 + 2 * SCORE]), "scores"),
        (instances(TWO, [0.9, 0.5], grown=5), "masks"),
        (instances(TWO[:1], [0.9]), "1 instances"),
        (instances(TWO, [0.9, 0.5], [0, 1]), "2 instances"),
        (instances([*TWO, [100, 100, 120, 120]], [0.9, 0.5, 0.3]), "1 instances"),
        (instances([], []), "2 instances"),
    ],
)
def test_a_difference_is_named(other: TileInstances, word: str) -> None:
    failed = compare_instances(instances(TWO, [0.9, 0.5]), other, THRESHOLD, None).failed
    assert failed is not None
    assert failed.startswith(word)


def test_scores_that_are_no_numbers_differ() -> None:
    failed = compare_instances(instances(TWO, [0.9, 0.5]), instances(TWO, [0.9, float("nan")]), THRESHOLD, None).failed
    assert failed is not None


def test_one_pixel_is_rounding() -> None:
    assert compare_instances(instances(TWO, [0.9, 0.5]), instances(TWO, [0.9, 0.5], grown=1), 0.05, None).failed is None


def test_an_instance_at_the_threshold_may_be_missing() -> None:
    weak = instances(TWO, [0.9, THRESHOLD + SCORE / 2])
    found = compare_instances(weak, instances(TWO[:1], [0.9]), THRESHOLD, None)
    assert found.borderline == 1
    assert found.failed is None


def test_the_last_that_a_full_image_keeps_may_be_another() -> None:
    third = [100, 100, 120, 120]
    mine, other = instances(TWO, [0.9, 0.5]), instances([TWO[0], third], [0.9, 0.5 + SCORE / 2])
    assert compare_instances(mine, other, THRESHOLD, 2).failed is None
    assert compare_instances(mine, other, THRESHOLD, None).failed is not None


def test_doubles_are_told_apart_by_score() -> None:
    mine = instances([TWO[0], TWO[0]], [0.9, 0.2])
    other = instances([TWO[0], TWO[0]], [0.2, 0.9])
    assert compare_instances(mine, other, THRESHOLD, None).score == 0


def test_instances_of_single_pixels_are_matched_in_little_memory() -> None:
    """Thousands, as masks of an untrained network have; overlaps of all with all would take 72 MB an array."""
    places = [[left, top, left + 1, top + 1] for top in range(0, 60) for left in range(0, 100, 2)]
    scores = np.linspace(0.9, 0.1, len(places)).tolist()
    first, second = instances(places, scores), instances(places[::-1], scores[::-1])
    tracemalloc.start()
    found = compare_instances(first, second, THRESHOLD, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.matched, found.box, found.score) == (3000, 0, 0)
    assert found.failed is None
    assert peak < 64e6

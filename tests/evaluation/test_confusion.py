"""The confusion matrix of one image laid out by hand."""

from typing import Any

import numpy as np
from pycocotools import mask as rle

from distill.evaluation.confusion import count_confusions

LABELS = {7: 0, 3: 1}  # category ids in label order


def instance(category: int, left: int, side: int = 10, score: float = 0.9, crowd: int = 0) -> dict[str, Any]:
    mask = np.zeros((40, 100), np.uint8, order="F")
    mask[:side, left : left + side] = 1
    return {"category_id": category, "segmentation": rle.encode(mask), "score": score, "iscrowd": crowd}


def test_hit_mix_up_miss_and_false_positive() -> None:
    objects = [instance(7, 0), instance(7, 20), instance(3, 40)]
    found = [instance(7, 1), instance(3, 20), instance(3, 80)]
    assert count_confusions(objects, found, LABELS).tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_an_object_is_found_once_by_the_best_score() -> None:
    found = [instance(3, 1, score=0.6), instance(7, 2, score=0.8)]
    assert count_confusions([instance(7, 0)], found, LABELS).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_unsure_and_barely_overlapping_instances_take_nothing() -> None:
    objects = [instance(7, 0), instance(7, 20)]
    found = [instance(7, 0, score=0.29), instance(7, 24)]  # 6 / 14 overlap
    assert count_confusions(objects, found, LABELS).tolist() == [[0, 0, 2], [0, 0, 0], [1, 0, 0]]


def test_inside_a_crowd_nothing_is_wrong() -> None:
    objects = [instance(7, 0, side=40, crowd=1)]
    found = [instance(3, 5), instance(7, 60)]
    assert count_confusions(objects, found, LABELS).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_an_object_beside_a_crowd_is_found_first() -> None:
    objects = [instance(7, 0, side=40, crowd=1), instance(7, 5)]
    assert count_confusions(objects, [instance(7, 5)], LABELS).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_empty_sides() -> None:
    assert not count_confusions([], [], LABELS).any()
    assert count_confusions([], [instance(3, 0)], LABELS)[2].tolist() == [0, 1, 0]
    assert count_confusions([instance(3, 0)], [], LABELS)[1].tolist() == [0, 0, 1]

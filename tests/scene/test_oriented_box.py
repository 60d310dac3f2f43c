"""Oriented boxes are the smallest that hold all corners of an object's pixels."""

import cv2
import numpy as np
import pytest
import shapely

from distill.patch import Patch
from distill.scene.oriented_box import oriented_boxes
from distill.scene.outlines import outlines
from tests.scene.objects import random_masks


def smallest_area(points: np.ndarray) -> float:
    """The reference: a smallest rectangle lies along an edge of the convex hull."""
    hull = shapely.get_coordinates(shapely.convex_hull(shapely.multipoints(points)))
    edges = np.diff(hull, axis=0)
    along = edges / np.linalg.norm(edges, axis=1, keepdims=True)
    extent = [np.ptp(points @ direction.T, axis=0) for direction in (along, along[:, ::-1] * [-1, 1])]
    return float(np.prod(extent, axis=0).min())


def test_boxes_are_the_smallest_and_hold_the_object() -> None:
    exact = outlines(random_masks(5, 80))
    for polygon, box in zip(exact, oriented_boxes(exact).reshape(-1, 4, 2), strict=True):
        points = shapely.get_coordinates(polygon)
        area = shapely.Polygon(box).area
        assert area == pytest.approx(smallest_area(points), rel=1e-9)
        _, sides, _ = cv2.minAreaRect(points.astype(np.float32))
        assert area <= np.prod(sides) * (1 + 1e-4)
        assert shapely.Polygon(box).buffer(1e-6).covers(polygon)


def test_upright_objects_have_exact_boxes_from_the_top_left_on() -> None:
    exact = outlines([Patch(7, 3, np.ones((5, 11), np.uint8)), Patch(0, 0, np.ones((1, 1), np.uint8))])
    boxes = oriented_boxes(exact)
    assert boxes.tolist() == [[3, 7, 14, 7, 14, 12, 3, 12], [0, 0, 1, 0, 1, 1, 0, 1]]


def best_order(corners: np.ndarray) -> float:
    """How far corners in the best order, as DOTA's tools try them, lie from those of the upright box."""
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    upright = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return min(np.linalg.norm(np.roll(corners, turn, axis=0) - upright, axis=1).sum() for turn in range(4))


def test_corners_run_clockwise_on_a_screen_in_the_order_of_dota() -> None:
    for box in oriented_boxes(outlines(random_masks(6, 80))).reshape(-1, 4, 2):
        assert shapely.LinearRing(box).is_ccw  # by coordinates; y grows downwards
        upright = shapely.bounds(shapely.multipoints(box))[[[0, 1], [2, 1], [2, 3], [0, 3]]]
        assert np.linalg.norm(box - upright, axis=1).sum() <= best_order(box) + 1e-5


def test_no_objects_have_no_boxes() -> None:
    assert oriented_boxes(outlines([])).shape == (0, 8)

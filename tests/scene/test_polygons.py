"""Polygons with fewer vertices stay close to their masks and valid, with all their holes and parts."""

import numpy as np
import pytest
import shapely
from scipy import ndimage

from distill.patch import Patch
from distill.scene.outlines import Polygons, outlines
from distill.scene.polygons import LEAST_IOU, moved_area, only_polygons, simplify, valid_polygons
from tests.scene.objects import random_masks


def iou(first: Polygons, second: Polygons) -> np.ndarray:
    common = shapely.area(shapely.intersection(first, second))
    return common / (shapely.area(first) + shapely.area(second) - common)


def rings(polygons: Polygons) -> list[list[int]]:
    return [shapely.get_num_interior_rings(shapely.get_parts(polygon)).tolist() for polygon in polygons]


@pytest.mark.parametrize("tolerance", [0.3, 0.75, 2.0, 10.0])
def test_simple_polygons_stay_close_and_whole(tolerance: float) -> None:
    exact = outlines(random_masks(1, 50))
    simple = simplify(exact, tolerance)
    assert shapely.is_valid(simple).all()
    assert iou(exact, simple).min() >= LEAST_IOU - 1e-9
    assert rings(simple) == rings(exact)
    assert all(part.exterior.is_ccw for part in shapely.get_parts(simple))
    before, after = (shapely.get_num_coordinates(polygons).sum() for polygons in (exact, simple))
    assert after == before if tolerance < 0.35 else after < before


def test_a_disc_needs_half_of_its_vertices() -> None:
    rows, columns = np.mgrid[:80, :80]
    disc = ((rows - 40) ** 2 + (columns - 40) ** 2 < 38**2).astype(np.uint8)
    disc[30:50, 30:50] = 0
    exact = outlines([Patch(3, 4, disc)])
    (simple,) = simplify(exact, 0.75)
    assert len(simple.interiors) == 1
    assert shapely.get_num_coordinates(simple) < 0.6 * shapely.get_num_coordinates(exact)[0]
    assert simple.hausdorff_distance(exact[0]) <= 0.75


def test_each_polygon_has_its_own_tolerance() -> None:
    rows, columns = np.mgrid[:60, :60]
    exact = np.repeat(outlines([Patch(0, 0, (rows > columns).astype(np.uint8))]), 3)
    counts = shapely.get_num_coordinates(simplify(exact, np.array([0.0, 0.75, 0.2])))
    assert counts[0] == counts[2] == shapely.get_num_coordinates(exact)[0]
    assert counts[1] < 10


@pytest.mark.parametrize("tolerance", [0.75, 3.0])
def test_the_moved_area_is_that_of_an_overlay_or_more(tolerance: float) -> None:
    exact = outlines(random_masks(2, 50))
    simple = shapely.simplify(exact, tolerance, preserve_topology=True)
    moved, overlay = moved_area(exact, simple), shapely.area(shapely.symmetric_difference(exact, simple))
    assert (moved >= overlay - 1e-9).all()
    assert moved.sum() <= 1.2 * overlay.sum()


def test_other_polygons_are_not_compared() -> None:
    square = shapely.box(0, 0, 10, 10)
    holed = square - shapely.box(2, 2, 4, 4)
    others = [shapely.box(0, 0, 10, 9), holed, shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]), square]
    moved = moved_area(np.array([square] * 4, object), np.array(others, object))
    assert moved.tolist() == [np.inf, np.inf, np.inf, 0]
    assert len(moved_area(np.zeros(0, object), np.zeros(0, object))) == 0


def test_broken_polygons_are_repaired() -> None:
    bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    line = shapely.Polygon([(0, 0), (2, 2), (0, 0)])
    repaired = valid_polygons(np.array([bow_tie, line, shapely.box(0, 0, 1, 1)], object))
    assert shapely.area(repaired).tolist() == [2, 0, 1]
    assert shapely.is_valid(repaired).all()


def test_lines_and_points_are_dropped() -> None:
    square = shapely.box(0, 0, 1, 1)
    mixed = shapely.GeometryCollection([shapely.Point(3, 3), shapely.MultiPolygon([square, shapely.box(2, 0, 3, 1)])])
    assert only_polygons(mixed).area == 2
    assert only_polygons(shapely.GeometryCollection([square, shapely.LineString([(0, 0), (5, 5)])])) == square
    assert only_polygons(shapely.Point(0, 0)).is_empty


def test_contours_through_pixel_centres_are_too_small() -> None:
    """What this is better than: OpenCV's contour of 10 x 10 pixels has 81 % of their area."""
    cv2 = pytest.importorskip("cv2")
    pixels = np.ones((10, 10), np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    assert cv2.contourArea(contours[0]) == 81
    assert simplify(outlines([Patch(0, 0, pixels)]), 0.75)[0].area == 100


def test_noise_keeps_its_components() -> None:
    rng = np.random.default_rng(3)
    pixels = (rng.random((60, 60)) < 0.5).astype(np.uint8)
    exact = outlines([Patch(0, 0, pixels)])
    assert shapely.get_num_geometries(simplify(exact, 0.75)[0]) == ndimage.label(pixels)[1]

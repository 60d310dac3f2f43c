"""Polygons that cross the antimeridian are cut, and all others stay as they are."""

import numpy as np
import pytest
import shapely
from pyproj import CRS

from distill.scene.antimeridian import in_degrees, split_at_antimeridian
from distill.scene.georeference import Georeference


def split(*polygons: shapely.Geometry) -> list[shapely.Geometry]:
    return split_at_antimeridian(np.array(polygons, object)).tolist()


def wrapped(polygon: shapely.Geometry) -> shapely.Geometry:
    """As a projection gives it, with longitudes in [-180, 180)."""
    return shapely.transform(polygon, lambda points: np.column_stack([(points[:, 0] + 180) % 360 - 180, points[:, 1]]))


def test_others_stay() -> None:
    polygons = [shapely.box(-170, 0, -10, 5), shapely.box(-1, -1, 1, 1), shapely.box(170, 0, 180, 1), shapely.Polygon()]
    assert split(*polygons) == polygons
    assert split() == []


def test_parts_on_both_sides_are_found() -> None:
    ring = shapely.Point(180, 40).buffer(4) - shapely.Point(181, 40).buffer(2)
    other = shapely.box(178, 50, 182, 51)
    (both,) = split(wrapped(shapely.MultiPolygon([ring, other])))
    assert both.is_valid
    assert both.area == pytest.approx(ring.area + other.area)
    assert both.bounds == pytest.approx((-180, 36, 180, 51))
    east = shapely.box(-180, -90, -90, 90)
    assert (both & east).area == pytest.approx(((ring | other) & shapely.box(180, -90, 270, 90)).area)


def test_an_edge_on_the_antimeridian_is_no_crossing() -> None:
    square = shapely.Polygon([(179, 0), (-180, 0), (-180, 1), (179, 1)])
    assert shapely.equals(split(square)[0], shapely.box(179, 0, 180, 1))


def test_longitudes_beyond_180_are_turned_back() -> None:
    assert shapely.equals(split(shapely.box(190, 0, 200, 1))[0], shapely.box(-170, 0, -160, 1))
    (both,) = split(shapely.box(170, 0, 190, 1))
    assert shapely.equals(both, shapely.MultiPolygon([shapely.box(170, 0, 180, 1), shapely.box(-180, 0, -170, 1)]))


@pytest.mark.parametrize("latitude", [80, -80])
def test_a_polygon_around_a_pole_reaches_the_pole(latitude: int) -> None:
    longitudes = np.arange(0, 360, 30)
    around = wrapped(shapely.Polygon([(longitude, latitude) for longitude in longitudes]))
    (cap,) = split(around)
    assert cap.is_valid
    assert cap.area == pytest.approx(360 * 10)
    assert cap.bounds == (-180, min(latitude, np.sign(latitude) * 90), 180, max(latitude, np.sign(latitude) * 90))


@pytest.mark.parametrize("west", [-180, 0])
@pytest.mark.parametrize("box", [(0, 0, 180, 90), (0, 10, 100, 40), (80, 10, 180, 40), (10, 10, 170, 60)])
def test_an_edge_over_more_than_half_of_the_globe_is_no_crossing(west: int, box: tuple[int, int, int, int]) -> None:
    """On a map of the world with pixels of 2 degrees, from either meridian."""
    world = Georeference((2, 0, west, 0, -2, 90), CRS.from_epsg(4326).to_wkt())
    (found,) = in_degrees(np.array([shapely.box(*box)], object), world)
    left, top, right, bottom = box
    assert found.is_valid
    assert found.area == pytest.approx(4 * (right - left) * (bottom - top))
    beyond = (2 * left + west, 2 * right + west)
    assert (found.bounds[0], found.bounds[2]) == (beyond if beyond[1] <= 180 else (-180, 180))

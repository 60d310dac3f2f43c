"""Detections become features in their order, with areas in pixels and on the ground."""

import numpy as np
import pytest
import shapely
from pyproj import CRS

from distill.errors import UserError
from distill.patch import Patch
from distill.scene.features import PolygonSettings, make_features
from distill.scene.georeference import Georeference
from tests.scene.objects import CLASS_NAMES, DEGREES, TURNED, UTM, detection, features_of, random_masks

# At 84 degrees north, where lengths on the map are ten times those on the ground, and grow by 1 % in 7 km.
MERCATOR = Georeference((100.0, 0.0, 1_000_000.0, 0.0, -100.0, 18_800_000.0), CRS.from_epsg(3857).to_wkt())


def disc(radius: int, left: int = 0) -> Patch:
    rows, columns = np.mgrid[: 2 * radius, : 2 * radius] + 0.5
    return Patch(0, left, (np.hypot(rows - radius, columns - radius) < radius).astype(np.uint8))


def test_what_was_detected_stays() -> None:
    mask = disc(5, left=30)
    (feature,) = make_features([detection(mask, 1, 0.5)], 17, CLASS_NAMES, None, PolygonSettings())
    assert (feature.id, feature.label, feature.class_name, feature.score) == (17, 1, CLASS_NAMES[1], 0.5)
    assert (feature.box, feature.tile, feature.parts) == ((30, 0, 40, 10), (1, 2), 1)
    assert feature.area_px == mask.pixels.sum()
    assert feature.area_m2 is None
    assert feature.mask is mask
    assert feature.oriented == (30, 0, 40, 0, 40, 10, 30, 10)


def test_without_simplification_areas_are_counts_of_pixels() -> None:
    features = features_of(random_masks(7, 60), settings=PolygonSettings(simplify=0))
    assert [feature.polygon.area for feature in features] == [feature.area_px for feature in features]
    assert [feature.id for feature in features] == list(range(1, 61))


@pytest.mark.parametrize("georeference", [UTM, TURNED, DEGREES, MERCATOR])
def test_areas_are_geodesic(georeference: Georeference) -> None:
    """The reference adds up the areas of single pixels."""
    columns, rows = np.mgrid[:12, :10]
    mask = Patch(300, 200, (columns > rows).astype(np.uint8))
    (feature,) = features_of([mask], georeference, PolygonSettings(simplify=0))
    corners = [(200 + column, 300 + row) for row, column in np.argwhere(mask.pixels)]
    alone = sum(georeference.area(shapely.box(x, y, x + 1, y + 1)) for x, y in corners)
    assert feature.area_m2 == pytest.approx(alone, rel=1e-5)


def test_an_object_at_a_pole_is_measured_like_others() -> None:
    """On a map of the world, whose rows beyond the pole are no place."""
    world = Georeference((0.25, 0.0, -180.0, 0.0, -0.25, 90.0), CRS.from_epsg(4326).to_wkt())
    features = features_of([Patch(0, 100, np.ones((2, 10), np.uint8)), Patch(719, 5, np.ones((1, 1), np.uint8))], world)
    assert [feature.area_m2 for feature in features] == pytest.approx(
        [world.area(shapely.box(100, 0, 110, 2)), world.area(shapely.box(5, 719, 6, 720))]
    )
    width, height = world.pixel_sides(100, 1)
    assert (width, height) == pytest.approx((121.9, 27_923), rel=1e-2)


def test_large_objects_are_measured_along_their_outline() -> None:
    coarse = Georeference((100.0, 0.0, 300_000.0, 0.0, -100.0, 5_400_000.0), UTM.wkt)
    (feature,) = features_of([disc(40)], coarse, PolygonSettings(simplify=0))
    assert feature.area_m2 == pytest.approx(coarse.area(feature.polygon), rel=1e-12)
    counted = feature.area_px * coarse.pixel_size(40, 40) ** 2
    assert counted == pytest.approx(feature.area_m2, rel=1e-5)


def test_the_tolerance_is_in_metres_where_there_is_a_crs() -> None:
    def vertices(georeference: Georeference | None, simplify: float | None) -> int:
        (feature,) = features_of([disc(60)], georeference, PolygonSettings(simplify=simplify))
        return int(shapely.get_num_coordinates(feature.polygon))

    assert vertices(None, None) == vertices(UTM, None) == vertices(None, 0.75)
    assert vertices(UTM, 1.0) == vertices(None, 2.0) < vertices(None, 1.0)
    no_crs = Georeference(UTM.transform, None)
    assert vertices(no_crs, 1.0) == vertices(None, 1.0)


def test_small_objects_are_left_out() -> None:
    masks = [disc(3), disc(10), disc(4)]
    kept = features_of(masks, settings=PolygonSettings(min_area=40))
    assert [(feature.id, feature.area_px) for feature in kept] == [(1, 316), (2, 52)]
    on_the_ground = features_of(masks, UTM, PolygonSettings(min_area=40))
    assert [feature.area_px for feature in on_the_ground] == [316]
    assert features_of(masks, settings=PolygonSettings(min_area=1e9)) == []


def test_masks_without_pixels_are_left_out() -> None:
    features = features_of([Patch(0, 0, np.zeros((3, 3), np.uint8)), disc(3)])
    assert [(feature.id, feature.label) for feature in features] == [(1, 1)]
    assert features_of([]) == []


@pytest.mark.parametrize("wrong", [{"simplify": -1.0}, {"min_area": -1.0}, {"simplify": float("nan")}])
def test_numbers_out_of_range_are_one_line(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))} is .*must be 0"):
        PolygonSettings(**wrong)

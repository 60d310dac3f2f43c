"""Polygons on the ground become the right pixels, whatever the raster's place, and areas stay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.crs import CRS as RasterCrs
from rasterio.features import rasterize
from rasterio.transform import Affine

from distill.data.images import BrokenImage
from distill.data.masks import decode_mask
from distill.data.vectors import place_of, read_geojson, segmentation
from distill.errors import UserError
from tests.data.vectors import CRS, NORTH_UP, collection, feature, on_ground, raster

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of writing them

PLACES = {
    "north up": NORTH_UP,
    "south up": Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000),
    "turned": Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_000_000),
    "sheared, not square": Affine(0.5, 0.2, 500_000, 0.0, -0.25, 5_000_000),
}
OUTER = [[4, 6], [40, 6], [40, 36], [4, 36], [4, 6]]
HOLE = [[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]
ISLAND = [[50, 30], [60, 30], [60, 44], [50, 44], [50, 30]]


def mask_of(path: Path, image: Path) -> np.ndarray[Any, Any]:
    """The pixels of the only feature."""
    place = place_of(image)
    ((_, polygons),) = read_geojson(path).within(place)
    return decode_mask(segmentation(polygons, place), place.height, place.width)


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("crs", [None, "EPSG:4326", "EPSG:3857"])
def test_pixels_are_those_on_the_ground(tmp_path: Path, kind: str, crs: str | None) -> None:
    place = PLACES[kind]
    image = raster(tmp_path / "a.tif", place)
    path = collection(
        [feature(on_ground(OUTER, place, crs))], tmp_path / "a.geojson", crs if crs != "EPSG:4326" else None
    )
    ((_, ((ring,),)),) = read_geojson(path).within(place_of(image))
    np.testing.assert_allclose(ring, OUTER, atol=1e-4)
    expected = np.zeros((48, 64), np.uint8)
    expected[6:36, 4:40] = 1
    np.testing.assert_array_equal(mask_of(path, image), expected)


def test_holes_and_several_polygons(tmp_path: Path) -> None:
    image = raster(tmp_path / "a.tif")
    shape = {
        "type": "MultiPolygon",
        "coordinates": [[on_ground(OUTER), on_ground(HOLE)], [[*on_ground(ISLAND)]]],
    }
    path = collection([{"type": "Feature", "properties": None, "geometry": shape}], tmp_path / "a.geojson")
    expected = np.zeros((48, 64), np.uint8)
    expected[6:36, 4:40] = expected[30:44, 50:60] = 1
    expected[10:20, 10:20] = 0
    np.testing.assert_array_equal(mask_of(path, image), expected)


@pytest.mark.parametrize("seed", range(4))
def test_areas_of_arbitrary_polygons(tmp_path: Path, seed: int) -> None:
    """Against GDAL, which takes a pixel by its centre; pycocotools may differ along the outline."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radii = rng.uniform(60, 130, 9)
    pixels = np.stack([110 + radii * np.cos(angles), 90 + radii * np.sin(angles)], axis=1)  # sticks out
    hole = np.array([[100.0, 80], [120, 80], [120, 100], [100, 100]])
    image = raster(tmp_path / "a.tif", size=(160, 200))
    path = collection([feature(on_ground(pixels.tolist()), on_ground(hole.tolist()))], tmp_path / "a.geojson")
    shape = {"type": "Polygon", "coordinates": [[*pixels.tolist(), pixels[0].tolist()], [*hole.tolist(), [100, 80]]]}
    expected = rasterize([shape], (160, 200), dtype="uint8", transform=Affine.identity())
    found = mask_of(path, image)
    assert int((found != expected).sum()) < 0.02 * int(expected.sum())
    assert int(found.sum()) == pytest.approx(int(expected.sum()), rel=0.01)


def test_a_polygon_around_the_whole_raster(tmp_path: Path) -> None:
    image = raster(tmp_path / "a.tif")
    path = collection(
        [feature(on_ground([[-1e5, -1e5], [1e5, -1e5], [1e5, 1e5], [-1e5, 1e5]]))], tmp_path / "a.geojson"
    )
    assert mask_of(path, image).all()


def test_what_lies_beside_a_raster_is_not_in_it(tmp_path: Path) -> None:
    place = place_of(raster(tmp_path / "a.tif"))
    far = [[x + 500, y] for x, y in OUTER]
    corner = [[-10, 20], [20, -10], [-10, -10], [-10, 20]]  # its box meets the raster, but it passes the corner by
    past = [[-10, 5], [5, -10], [-10, -10], [-10, 5]]
    path = collection([feature(on_ground(ring)) for ring in (far, corner, past)], tmp_path / "a.geojson")
    found = read_geojson(path).within(place)
    assert [one.number for one, _ in found] == [1, 2]
    assert segmentation(found[0][1], place) is not None
    assert segmentation(found[1][1], place) is None


def test_pixels_of_an_image_without_a_place(tmp_path: Path) -> None:
    image = raster(tmp_path / "a.tif", None, None)
    expected = np.zeros((48, 64), np.uint8)
    expected[6:36, 4:40] = 1
    np.testing.assert_array_equal(mask_of(collection([feature(OUTER)], tmp_path / "a.geojson"), image), expected)
    path = collection([feature(OUTER)], tmp_path / "b.geojson", "urn:ogc:def:crs:OGC:1.3:CRS84")
    with pytest.raises(BrokenImage, match=r"has coordinates in .*, but '.*a\.tif' has no CRS; assign one"):
        read_geojson(path).within(place_of(image))


def test_named_crs_and_missing_ones(tmp_path: Path) -> None:
    path = collection([feature(OUTER)], tmp_path / "a.geojson", "urn:ogc:def:crs:EPSG::32632")
    assert read_geojson(path).crs == RasterCrs.from_user_input(CRS)
    collection([feature(OUTER)], path, "EPSG:999999")
    with pytest.raises(UserError, match=r"a\.geojson' has the CRS .*, which is unknown; save it in WGS84"):
        read_geojson(path)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (None, "has no geometry"),
        ({"type": "Point", "coordinates": [1, 2]}, "is a Point, which encloses nothing"),
        ({"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}, "has a ring of fewer than three points"),
        ({"type": "Polygon", "coordinates": []}, "has no coordinates"),
        ({"type": "MultiPolygon", "coordinates": [[]]}, "has no coordinates"),
        ({"type": "Polygon", "coordinates": [[["a", 2], [3, 4], [5, 6]]]}, "has coordinates that are not two numbers"),
        ({"type": "Polygon", "coordinates": 7}, "has coordinates that are not two numbers"),
        ({"type": "Polygon"}, "has coordinates that are not two numbers"),
    ],
)
def test_features_that_enclose_nothing_are_counted(tmp_path: Path, geometry: Any, message: str) -> None:
    path = collection(
        [{"type": "Feature", "properties": {}, "geometry": geometry}, feature(OUTER)], tmp_path / "a.geojson"
    )
    vectors = read_geojson(path)
    (problem,) = vectors.problems
    assert str(problem).startswith(f"feature 0 of {str(path)!r} {message}")
    assert [one.number for one in vectors.features] == [1]


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "Topology"}', '{"type": "FeatureCollection", "features": 3}'])
def test_files_that_are_no_geojson(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(UserError, match=r"^'.*a\.geojson' (cannot be read as|is no) GeoJSON"):
        read_geojson(tmp_path / "a.geojson")

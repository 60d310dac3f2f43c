"""Coordinates and areas in every kind of georeference, against formulas of map projections and GDAL's own affine."""

from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

from distill.errors import UserError
from distill.scene.georeference import Georeference, ground_size
from distill.scene.source import Scene, SourceOptions, open_scene
from tests.scene.rasters import UTM, write

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of writing them

# A cone of an own ellipsoid, which no code names.
CUSTOM = "+proj=lcc +lat_1=47 +lat_2=52 +lat_0=49 +lon_0=14 +x_0=250000 +a=6378388 +rf=297 +units=m +type=crs"
TURNED = (
    rasterio.Affine.translation(600_000, 5_300_000) @ rasterio.Affine.rotation(33) @ rasterio.Affine.scale(0.5, -0.4)
)
SHEARED = rasterio.Affine(0.5, 0.1, 600_000, -0.05, -0.4, 5_300_000)

PLACES: dict[str, tuple[str | None, rasterio.Affine]] = {
    "rotated": ("EPSG:32633", TURNED),
    "sheared": ("EPSG:32633", SHEARED),
    "south-up": ("EPSG:32633", rasterio.Affine(0.5, 0, 600_000, 0, 0.5, 5_300_000)),
    "feet": ("EPSG:2263", rasterio.Affine(1.5, 0, 990_000, 0, -1.5, 200_000)),
    "degrees": ("EPSG:4326", rasterio.Affine(5e-6, 0, 13.4, 0, -5e-6, 60.1)),
    "Mercator": ("EPSG:3857", rasterio.Affine(0.6, 0, 1_490_000, 0, -0.6, 8_400_000)),
    "no CRS": (None, rasterio.Affine(0.5, 0, 600_000, 0, -0.5, 5_300_000)),
    "custom": (CUSTOM, rasterio.Affine(0.5, 0, 300_000, 0, -0.5, 100_000)),
    "point": ("EPSG:32633", UTM),
    "compound": ("EPSG:7415", rasterio.Affine(0.5, 0, 150_000, 0, -0.5, 460_000)),
    "grads of Paris": ("EPSG:4807", rasterio.Affine(5e-6, 0, 2.1, 0, -5e-6, 54.2)),
}
SHIFTED = ("compound", "grads of Paris")  # to another datum than WGS 84, which PROJ undoes to a millimetre
HEIGHT, WIDTH = 60, 90


def placed(folder: Path, place: str) -> Path:
    """A raster at one of `PLACES`."""
    crs, transform = PLACES[place]
    path = write(folder / "a.tif", np.ones((1, HEIGHT, WIDTH), np.uint8), crs=crs, transform=transform)
    if place == "point":
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(AREA_OR_POINT="Point")
            dataset.transform = transform
    return path


def scene_of(path: Path, **options: Any) -> Scene:
    with open_scene(path, SourceOptions(**options)) as scene:
        return scene


def points() -> np.ndarray:
    corners = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]])
    return np.concatenate([corners, np.random.default_rng(0).uniform(0, HEIGHT, (50, 2))])


def areal_scale(crs: pyproj.CRS, x: float, y: float) -> float:
    """Square metres on the ground of one square unit of the map at a point, by the formulas of the projection."""
    flat = crs.to_2d()
    geod = flat.get_geod()
    assert geod is not None
    unit = flat.axis_info[0].unit_conversion_factor  # of a degree or grad in radians, or of a foot in metres
    mercator = flat.to_epsg() == 3857  # spherical formulas on an ellipsoid, which the factors below do not know
    if flat.is_geographic or mercator:
        latitude = np.arcsin(np.tanh(y / geod.a)) if mercator else y * unit
        meridian = geod.a * (1 - geod.es) / (1 - geod.es * np.sin(latitude) ** 2) ** 1.5
        parallel = geod.a / np.sqrt(1 - geod.es * np.sin(latitude) ** 2) * np.cos(latitude)
        return float(meridian * parallel * (np.cos(latitude) / geod.a**2 if mercator else unit**2))
    projection = pyproj.Proj(flat, preserve_units=True)
    return float(unit**2 / projection.get_factors(*projection(x, y, inverse=True)).areal_scale)


def to_pixel(georeference: Georeference, on_map: np.ndarray) -> np.ndarray:
    """The inverse of `to_map`, by affine."""
    inverse = ~Affine(*georeference.transform)
    return np.array([inverse @ tuple(point) for point in on_map])


@pytest.mark.parametrize("place", PLACES)
def test_coordinates_there_and_back(tmp_path: Path, place: str) -> None:
    path = placed(tmp_path, place)
    scene = scene_of(path)
    given = points()
    assert scene.georeference is not None
    on_map = scene.georeference.to_map(given)
    assert np.allclose(on_map, [PLACES[place][1] @ tuple(point) for point in given], rtol=1e-15, atol=0)
    assert np.abs(to_pixel(scene.georeference, on_map) - given).max() <= 1e-6
    if PLACES[place][0] is None:
        assert scene.georeference.wkt is None
        assert scene.notes[-1] == "has a transform without a CRS; --crs assigns one"
        with pytest.raises(UserError, match=r"has no CRS; --crs assigns one"):
            scene.georeference.to_lonlat(given)
        return
    degrees = scene.georeference.to_lonlat(given)
    back = pyproj.Transformer.from_crs("EPSG:4326", PLACES[place][0], always_xy=True).transform(*degrees.T)
    exact = 1e-2 if place in SHIFTED else 1e-6
    assert np.abs(to_pixel(scene.georeference, np.stack(back, axis=1)) - given).max() <= exact
    assert scene.georeference.wkt is not None
    stored = pyproj.CRS.from_wkt(scene.georeference.wkt)
    assert stored.equals(pyproj.CRS(PLACES[place][0]).to_2d(), ignore_axis_order=True) or place == "custom"
    assert len(stored.axis_info) == 2


@pytest.mark.parametrize("place", [place for place, (crs, _) in PLACES.items() if crs])
def test_areas_are_geodesic(tmp_path: Path, place: str) -> None:
    path = placed(tmp_path, place)
    scene = scene_of(path)
    crs, transform = pyproj.CRS(PLACES[place][0]), PLACES[place][1]
    polygon = shapely.Polygon(
        [(10, 10), (50, 10), (50, 40), (30, 55), (10, 40)], [[(20, 20), (20, 30), (40, 30), (40, 20)]]
    )
    x, y = transform @ tuple(polygon.centroid.coords[0])
    pixel = abs(transform.determinant) * areal_scale(crs, x, y)
    assert scene.georeference is not None
    assert scene.georeference.area(polygon) == pytest.approx(polygon.area * pixel, rel=1e-3)
    both = shapely.MultiPolygon([polygon, shapely.box(60, 10, 80, 20)])
    assert scene.georeference.area(both) == pytest.approx(both.area * pixel, rel=1e-3)
    assert scene.georeference.pixel_size(WIDTH / 2, HEIGHT / 2) == pytest.approx(pixel**0.5, rel=1e-4)
    assert ground_size(path) == pytest.approx(pixel**0.5, rel=1e-4)
    a, b, _, d, e, _ = scene.georeference.transform
    across, down = scene.georeference.pixel_sides(WIDTH / 2, HEIGHT / 2)
    angle = 1 if not (b or d) else abs(a * e - b * d) / np.hypot(a, d) / np.hypot(b, e)
    assert across * down * angle == pytest.approx(pixel, rel=1e-3)


@pytest.mark.parametrize(("crs", "side"), [("EPSG:4326", 5e-4), ("EPSG:32633", 50.0), ("EPSG:3857", 80.0)])
def test_large_polygons_follow_the_map(crs: str, side: float) -> None:
    """Edges of 100 km, which are no geodesics, against the sum of small cells; the box spans a degree of latitude."""
    x, y = (
        (13.0, 60.0) if crs == "EPSG:4326" else pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(13, 60)
    )
    place = Georeference((side, 0, x, 0, -side, y), pyproj.CRS(crs).to_wkt())
    cells = [place.area(shapely.box(i, j, i + 100, j + 100)) for i in range(0, 2000, 100) for j in range(0, 2000, 100)]
    assert place.area(shapely.box(0, 0, 2000, 2000)) == pytest.approx(sum(cells), rel=1e-5)


def test_pixels_of_a_drone_have_a_size() -> None:
    for side in (0.004, 0.02, 0.1):
        place = Georeference((side, 0, 600_000.123, 0, -side, 5_300_000.456), pyproj.CRS(32633).to_wkt())
        assert place.pixel_size(10, 10) == pytest.approx(side / 0.9996, rel=1e-3)
        assert place.area(shapely.box(0, 0, 40, 50)) == pytest.approx(2000 * (side / 0.9996) ** 2, rel=1e-3)


def test_a_polygon_across_the_antimeridian_has_its_area() -> None:
    degrees = pyproj.CRS(4326).to_wkt()
    across = Georeference((1e-3, 0, 179.95, 0, -1e-3, 10), degrees).area(shapely.box(0, 0, 100, 100))
    inland = Georeference((1e-3, 0, 20, 0, -1e-3, 10), degrees).area(shapely.box(0, 0, 100, 100))
    assert across == pytest.approx(inland, rel=1e-9)


def test_the_pixel_is_point_of_a_file_is_not_shifted_twice(tmp_path: Path) -> None:
    path = placed(tmp_path, "point")
    with Image.open(path) as image:
        stored = image.tag_v2[33922]  # ModelTiepoint: the centre of the first pixel
    assert stored[3:5] == (600_000.25, 5_299_999.75)
    georeference = scene_of(path).georeference
    assert georeference is not None
    assert georeference.to_map(np.array([[0.5, 0.5]])).tolist() == [[600_000.25, 5_299_999.75]]


def test_a_grid_of_other_pixels_covers_the_same_ground() -> None:
    place = Georeference(tuple(SHEARED)[:6], None)
    coarse = place.scaled(2.5, 4)
    given = points()
    assert np.allclose(coarse.to_map(given / [2.5, 4]), place.to_map(given), rtol=1e-12)


def test_a_crs_is_assigned_but_not_replaced(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.tif", np.ones((1, 8, 8), np.uint8), crs=None)
    georeference = scene_of(bare, crs="EPSG:32633").georeference
    assert georeference is not None
    assert georeference.wkt is not None
    assert pyproj.CRS(georeference.wkt) == pyproj.CRS(32633)
    named = write(tmp_path / "named.tif", np.ones((1, 8, 8), np.uint8))
    assert scene_of(named, crs="EPSG:32633").georeference == scene_of(named).georeference
    with pytest.raises(
        UserError, match=r"--crs 'EPSG:3857' only assigns a CRS, but '.*' has 'WGS 84 / UTM zone 33N'; leave"
    ):
        scene_of(named, crs="EPSG:3857")
    with pytest.raises(UserError, match=r"^--crs 'nonsense' is no CRS that PROJ knows; name one as EPSG:32633"):
        scene_of(named, crs="nonsense")
    photo = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(photo)
    with pytest.raises(
        UserError, match=r"--crs assigns a CRS to the transform of a raster, but '.*photo\.png' has none"
    ):
        scene_of(photo, crs="EPSG:32633")
    assert ground_size(photo) is None
    assert ground_size(bare) is None
    assert ground_size(tmp_path / "absent.tif") is None


def test_a_world_file_places_a_photo(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (200, 40, 90)).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text("0.5\n0\n0\n-0.5\n600000.25\n5299999.75\n")
    scene = scene_of(tmp_path / "a.png", crs="EPSG:32633")
    assert scene.georeference is not None
    assert scene.georeference.transform == tuple(UTM)[:6]


def test_what_is_placed_by_points_must_be_warped_first(tmp_path: Path) -> None:
    corners = [GroundControlPoint(row, column, 600_000 + column, 5e6 - row) for row in (0, 8) for column in (0, 8)]
    by_points = write(tmp_path / "p.tif", np.ones((1, 8, 8), np.uint8), transform=None, crs=None)
    with rasterio.open(by_points, "r+") as dataset:
        dataset.gcps = corners, rasterio.CRS.from_epsg(32633)
    with pytest.raises(UserError, match=r"p\.tif' is placed by ground control points, not by a transform; .* gdalwarp"):
        scene_of(by_points)
    by_rational = write(tmp_path / "r.tif", np.ones((1, 8, 8), np.uint8), transform=None, crs=None)
    with rasterio.open(by_rational, "r+") as dataset:
        dataset.rpcs = RPC(0, 1, 50, 1, [1.0] * 20, [1.0] * 20, 4, 4, 13, 1, [1.0] * 20, [1.0] * 20, 4, 4)
    with pytest.raises(UserError, match=r"r\.tif' is placed by rational polynomials"):
        scene_of(by_rational)


def test_a_crs_without_a_place_on_earth_is_left_out(tmp_path: Path) -> None:
    local = write(tmp_path / "a.tif", np.ones((1, 8, 8), np.uint8), crs='LOCAL_CS["site",UNIT["metre",1]]')
    scene = scene_of(local)
    assert scene.georeference is not None
    assert scene.georeference.wkt is None
    assert "gives no place on the ground" in scene.notes[0]
    far = write(tmp_path / "b.tif", np.ones((1, 8, 8), np.uint8), transform=rasterio.Affine(1, 0, 1e12, 0, -1, 1e12))
    assert "does not reach the scene" in scene_of(far).notes[0]
    flat = write(tmp_path / "c.tif", np.ones((1, 8, 8), np.uint8), transform=rasterio.Affine(1, 1, 0, 1, 1, 5))
    assert scene_of(flat).georeference is None
    assert "squeezes" in scene_of(flat).notes[0]

"""Polygons of land cover: exact before they are simplified, with shared borders, the same for strips of any height."""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio import features
from scipy import ndimage

from distill.errors import UserError
from distill.scene.class_patches import find_patches
from distill.scene.class_polygon_files import LAYER, ClassPolygonWriter
from distill.scene.class_polygons import write_class_polygons

NO_DATA = 255


class Kept:
    """Takes the place of a writer."""

    def __init__(self) -> None:
        self.georeference = None
        self.labels: list[int] = []
        self.polygons: list[shapely.Polygon] = []

    def add(self, labels: NDArray[np.uint8], polygons: NDArray[np.object_]) -> None:
        self.labels += labels.tolist()
        self.polygons += polygons.tolist()


def noise() -> NDArray[np.uint8]:
    labels = np.random.default_rng(0).integers(0, 3, (34, 36)).astype(np.uint8)
    labels[5:20, 7:15] = NO_DATA
    labels[26:29] = 1
    return labels


def smooth() -> NDArray[np.uint8]:
    field = np.random.default_rng(1).normal(size=(4, 9, 11)).astype(np.float32)
    labels = np.stack([cv2.resize(layer, (140, 130), interpolation=cv2.INTER_CUBIC) for layer in field]).argmax(0)
    labels[:30, 100:] = NO_DATA
    return labels.astype(np.uint8)


MAPS = {"noise": noise(), "smooth": smooth()}


def save(labels: NDArray[np.uint8], path: Path) -> Path:
    place = rasterio.Affine(2, 0, 0, 0, -2, 0)
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": NO_DATA, "transform": place}
    with rasterio.open(path, "w", height=labels.shape[0], width=labels.shape[1], **profile) as file:
        file.write(labels, 1)
    return path


def polygons_of(
    labels: NDArray[np.uint8], folder: Path, simplify: float | None, min_area: float = 0, strip: int | None = 16
) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    kept = Kept()
    path = save(labels, folder / "labels.tif")
    count = write_class_polygons(path, kept, simplify, min_area, strip)  # type: ignore[arg-type]
    assert count == len(kept.polygons)
    return np.array(kept.labels), np.array(kept.polygons, object)


def burnt(labels: NDArray[np.int64], polygons: NDArray[np.object_], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Polygons as a class map."""
    shapes = zip(polygons, labels.tolist(), strict=True)
    return features.rasterize(shapes, shape, fill=NO_DATA, dtype="uint8")


def patches_in_memory(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Numbers of the patches of a whole map."""
    numbers = np.zeros(labels.shape, np.int64)
    for label in np.unique(labels):
        found, _ = ndimage.label(labels == label)
        numbers[labels == label] = found[labels == label] + numbers.max()
    return numbers


@cache
def without_small_patches(name: str, least: int) -> NDArray[np.uint8]:
    """One patch at a time, by looking at every pixel again; the slow twin of the patches' merging."""
    labels = MAPS[name].copy()
    while True:
        numbers = patches_in_memory(labels)
        values, first, areas = np.unique(numbers, return_index=True, return_counts=True)
        for _, _, value in sorted(zip(areas.tolist(), first.tolist(), values.tolist(), strict=True)):
            inside = numbers == value
            if inside.sum() >= least or labels[inside][0] == NO_DATA:
                continue
            border = np.zeros(256, int)
            for axis in (0, 1):
                for step in (1, -1):
                    neighbour = np.roll(np.pad(labels, 1, constant_values=NO_DATA), step, axis)[1:-1, 1:-1]
                    border += np.bincount(neighbour[inside & (neighbour != labels[inside][0])], minlength=256)
            border[NO_DATA] = 0
            if border.any():
                labels[inside] = border.argmax()
                break
        else:
            return labels


@pytest.mark.parametrize("strip", [7, 16, 1000])
@pytest.mark.parametrize("labels", MAPS.values(), ids=MAPS)
def test_polygons_are_exact_before_they_are_simplified(labels: NDArray[np.uint8], strip: int, tmp_path: Path) -> None:
    classes, polygons = polygons_of(labels, tmp_path, 0, strip=strip)
    np.testing.assert_array_equal(burnt(classes, polygons, labels.shape), labels)
    assert len(polygons) == len(np.unique(patches_in_memory(labels)[labels != NO_DATA]))
    assert shapely.area(polygons).sum() == (labels != NO_DATA).sum()
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)


@pytest.mark.parametrize("tolerance", [None, 2.0])
@pytest.mark.parametrize("strip", [16, 1000])
@pytest.mark.parametrize("labels", MAPS.values(), ids=MAPS)
def test_simplified_polygons_share_their_borders(
    labels: NDArray[np.uint8], strip: int, tolerance: float | None, tmp_path: Path
) -> None:
    classes, exact = polygons_of(labels, tmp_path, 0, strip=strip)
    same, polygons = polygons_of(labels, tmp_path, tolerance, strip=strip)
    np.testing.assert_array_equal(classes, same)
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    union = shapely.union_all(polygons)
    assert union.area == pytest.approx(shapely.area(polygons).sum())  # no overlaps
    assert shapely.symmetric_difference(union, shapely.union_all(exact)).area <= 0.02 * union.area  # and no gaps
    assert shapely.get_num_coordinates(polygons).sum() < 0.95 * shapely.get_num_coordinates(exact).sum()


def test_most_vertices_of_smooth_borders_are_dropped(tmp_path: Path) -> None:
    labels = MAPS["smooth"]
    exact, simple = (polygons_of(labels, tmp_path, tolerance)[1] for tolerance in (0, 2.0))
    assert shapely.get_num_coordinates(simple).sum() < 0.4 * shapely.get_num_coordinates(exact).sum()
    common = shapely.area(shapely.intersection(exact, simple))
    large = shapely.area(exact) > 100
    assert (common / (shapely.area(exact) + shapely.area(simple) - common))[large].min() > 0.85


@pytest.mark.parametrize("strip", [7, 1000])
@pytest.mark.parametrize(("name", "least"), [("noise", 6), ("noise", 40), ("smooth", 60)])
def test_small_patches_take_the_class_around_them(name: str, least: int, strip: int, tmp_path: Path) -> None:
    labels = MAPS[name]
    expected = without_small_patches(name, least)
    assert (expected != labels).any()
    classes, polygons = polygons_of(labels, tmp_path, 0, least, strip)
    np.testing.assert_array_equal(burnt(classes, polygons, labels.shape), expected)
    assert len(polygons) == len(np.unique(patches_in_memory(expected)[labels != NO_DATA]))


def test_a_speck_between_two_patches_of_a_class_makes_them_one() -> None:
    labels = np.zeros((5, 9), np.uint8)
    labels[:, 4] = 1
    labels[2, 4] = 2
    labels[0, :] = labels[-1, :] = NO_DATA
    found = find_patches([labels[:2], labels[2:]], [3, 3])
    assert found.labels.tolist() == [NO_DATA, 0, NO_DATA]


def test_a_small_patch_without_neighbours_stays(tmp_path: Path) -> None:
    labels = np.full((6, 6), NO_DATA, np.uint8)
    labels[3, 3] = 1
    classes, polygons = polygons_of(labels, tmp_path, None, 10)
    assert classes.tolist() == [1]
    assert polygons[0].equals(shapely.box(3, 3, 4, 4)) or polygons[0].area >= 0.5


def test_a_map_without_data_has_no_polygons(tmp_path: Path) -> None:
    path = save(np.full((20, 6), NO_DATA, np.uint8), tmp_path / "labels.tif")
    with ClassPolygonWriter(tmp_path / "map.gpkg", None, ["a"]) as writer:
        assert write_class_polygons(path, writer, strip=8) == 0
    assert pyogrio.read_info(tmp_path / "map.gpkg")["features"] == 0


def utm() -> SimpleNamespace:
    """Pixels of 0.5 m; the stand-in knows areas of the plane only."""
    crs = pyproj.CRS.from_epsg(32632)
    degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)

    def to_map(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return points * (0.5, -0.5) + (400000, 5e6)

    return SimpleNamespace(
        wkt=crs.to_wkt(),
        to_map=to_map,
        to_lonlat=lambda points: np.stack(degrees.transform(*to_map(points).T), 1),
        area=lambda polygon: polygon.area / 4,
        pixel_size=lambda x, y: 0.5,
    )


def write_files(folder: Path, name: str, georeference: SimpleNamespace | None, **options: float) -> Path:
    raster = save(MAPS["smooth"], folder / "labels.tif")
    with ClassPolygonWriter(folder / name, georeference, ["field", "wood", "Straße", "water"]) as writer:  # type: ignore[arg-type]
        write_class_polygons(raster, writer, **options)
    return folder / name


def test_a_geopackage_has_map_coordinates_and_names(tmp_path: Path) -> None:
    path = write_files(tmp_path, "map.gpkg", utm(), simplify=0.0, min_area=15.0)
    meta, _, geometries, values = pyogrio.raw.read(path, layer=LAYER)
    fields = dict(zip(meta["fields"], values, strict=True))
    polygons = shapely.from_wkb(geometries)
    assert pyproj.CRS(meta["crs"]) == pyproj.CRS.from_epsg(32632)
    classes, expected = polygons_of(MAPS["smooth"], tmp_path, 0, 60, None)
    assert fields["id"].tolist() == list(range(len(expected)))
    np.testing.assert_array_equal(fields["label"], classes)
    assert fields["class"].tolist() == [["field", "wood", "Straße", "water"][label] for label in classes]
    np.testing.assert_allclose(fields["area_m2"], shapely.area(expected) / 4)
    moved = shapely.transform(expected, utm().to_map)
    assert shapely.equals(polygons, moved).all()
    assert shapely.coverage_is_valid(shapely.get_parts(polygons))


def test_a_geopackage_without_georeference_has_pixels(tmp_path: Path) -> None:
    path = write_files(tmp_path, "map.gpkg", None, simplify=0.0)
    meta, _, geometries, values = pyogrio.raw.read(path)
    polygons = shapely.from_wkb(geometries)
    assert "area_px" in meta["fields"]
    labels = values[list(meta["fields"]).index("label")]
    np.testing.assert_array_equal(burnt(labels, polygons, MAPS["smooth"].shape), MAPS["smooth"])


def test_geojson_follows_the_rfc(tmp_path: Path) -> None:
    content = json.loads(write_files(tmp_path, "map.geojson", utm()).read_text(encoding="utf-8"))
    assert content.keys() == {"type", "features"}
    assert content["type"] == "FeatureCollection"
    _, expected = polygons_of(MAPS["smooth"], tmp_path, None, strip=None)
    assert len(content["features"]) == len(expected)
    back = pyproj.Transformer.from_crs(4326, 32632, always_xy=True)
    for feature, polygon in zip(content["features"], expected, strict=True):
        assert feature["type"] == "Feature"
        assert feature["properties"]["area_m2"] == pytest.approx(polygon.area / 4)
        rings = feature["geometry"]["coordinates"]
        assert shapely.is_ccw(shapely.linearrings(rings[0]))
        assert not any(shapely.is_ccw(shapely.linearrings(ring)) for ring in rings[1:])
        lonlat = np.array(rings[0])
        assert (lonlat == np.round(lonlat, 7)).all()
        on_map = shapely.Polygon(np.stack(back.transform(*lonlat.T), 1))
        outside = shapely.transform(shapely.Polygon(polygon.exterior), utm().to_map)
        assert shapely.hausdorff_distance(on_map, outside) < 0.02


@pytest.mark.parametrize("name", ["map.gpkg", "map.geojson"])
def test_the_same_map_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    content = write_files(tmp_path, name, utm()).read_bytes()
    assert write_files(tmp_path, name, utm()).read_bytes() == content


def test_wrong_settings_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.gpkg or \.geojson"):
        ClassPolygonWriter(tmp_path / "map.shp", None, ["a"])
    with pytest.raises(UserError, match="no CRS"):
        ClassPolygonWriter(tmp_path / "map.geojson", None, ["a"])
    with pytest.raises(UserError, match="simplify is -1"), ClassPolygonWriter(tmp_path / "a.gpkg", None, []) as writer:
        write_class_polygons(tmp_path / "labels.tif", writer, simplify=-1)
    with pytest.raises(UserError, match="cannot be read"), ClassPolygonWriter(tmp_path / "a.gpkg", None, []) as writer:
        write_class_polygons(tmp_path / "labels.tif", writer)
    with pytest.raises(UserError, match="cannot be written"):
        ClassPolygonWriter(tmp_path / "none" / "map.gpkg", None, ["a"]).close()
    assert not list(tmp_path.iterdir())

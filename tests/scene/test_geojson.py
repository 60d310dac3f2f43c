"""GeoJSON follows RFC 7946 and holds what the GeoPackage holds."""

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import CRS

from distill.errors import UserError
from distill.patch import Patch
from distill.scene.features import Feature, PolygonSettings
from distill.scene.geojson import GeoJsonWriter
from distill.scene.georeference import Georeference
from tests.scene.objects import DEGREES, TURNED, UTM, Stopped, features_of, full_disk, random_masks, stop_after
from tests.scene.rfc7946 import check

EXACT = PolygonSettings(simplify=0)


def write(path: Path, georeference: Georeference | None, features: list[Feature]) -> Path:
    with GeoJsonWriter(path, georeference) as writer:
        for start in range(0, len(features), 7):
            writer.add(features[start : start + 7])
    return path


@pytest.mark.parametrize("georeference", [UTM, TURNED, DEGREES])
def test_features_follow_the_standard_and_come_back(georeference: Georeference, tmp_path: Path) -> None:
    features = features_of(random_masks(1, 40), georeference)
    path = write(tmp_path / "ö 'a'.geojson", georeference, features)
    for feature, written in zip(features, check(path), strict=True):
        expected = shapely.transform(feature.polygon, georeference.to_lonlat)
        difference = shapely.geometry.shape(written["geometry"]) ^ expected
        assert difference.area < 1e-7 * expected.length
        assert written["id"] == written["properties"]["id"] == feature.id
        assert written["properties"]["class"] == feature.class_name
        assert written["properties"]["score"] == feature.score
        assert written["properties"]["area_m2"] == feature.area_m2
        assert written["properties"]["tile"] == [1, 2]
        corners = georeference.to_lonlat(np.reshape(feature.oriented, (4, 2)))
        np.testing.assert_allclose(written["properties"]["oriented_box"], corners, rtol=0, atol=6e-8)
    meta, _, geometry, _ = pyogrio.raw.read(path)
    assert CRS(meta["crs"]) == CRS(4326)
    assert shapely.is_valid(shapely.from_wkb(geometry)).all()


def test_there_is_no_shift_by_half_a_pixel(tmp_path: Path) -> None:
    georeference = Georeference((1e-3, 0.0, 10.0, 0.0, -1e-3, 50.0), DEGREES.wkt)
    features = features_of([Patch(4, 6, np.ones((2, 8), np.uint8))], georeference, EXACT)
    (feature,) = check(write(tmp_path / "a.geojson", georeference, features))
    assert shapely.geometry.shape(feature["geometry"]).bounds == (10.006, 49.994, 10.014, 49.996)


@pytest.mark.parametrize("west", [179.99, -180.01])
def test_objects_are_cut_at_the_antimeridian(west: float, tmp_path: Path) -> None:
    georeference = Georeference((1e-3, 0.0, west, 0.0, -1e-3, 60.0), DEGREES.wkt)
    pixels = np.ones((6, 20), np.uint8)
    pixels[2:4, 8:12] = 0
    features = features_of([Patch(0, 0, pixels)], georeference, EXACT)
    (feature,) = check(write(tmp_path / "a.geojson", georeference, features))
    whole = shapely.geometry.shape(feature["geometry"])
    assert len(whole.geoms) == 2
    assert whole.area == pytest.approx(pixels.sum() * 1e-6, rel=1e-6)
    corners = np.array(feature["properties"]["oriented_box"])
    assert np.abs(corners[:, 0]).max() <= 180
    assert np.abs(corners[:, 0]).tolist() == pytest.approx([179.99, 179.99, 179.99, 179.99])
    assert len(set(np.sign(corners[:, 0]))) == 2


def test_centimetre_pixels_survive_the_seventh_decimal(tmp_path: Path) -> None:
    tiny = Georeference((0.01, 0.0, 500_000.0, 0.0, -0.01, 5_400_000.0), UTM.wkt)
    written = check(write(tmp_path / "a.geojson", tiny, features_of(random_masks(2, 60), tiny, EXACT)))
    assert sum(feature["geometry"] is not None for feature in written) > 50
    microscopic = Georeference((1e-5, 0.0, 500_000.0, 0.0, -1e-5, 5_400_000.0), UTM.wkt)
    features = features_of([Patch(0, 0, np.ones((3, 3), np.uint8))], microscopic, EXACT)
    assert check(write(tmp_path / "b.geojson", microscopic, features))[0]["geometry"] is None


def test_a_file_without_features_is_valid(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", UTM, [])
    assert check(path) == []
    with GeoJsonWriter(path, UTM) as writer:
        writer.add([])
    assert check(path) == []


@pytest.mark.parametrize("georeference", [None, Georeference(UTM.transform, None)])
def test_a_scene_without_crs_is_one_line(georeference: Georeference | None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--crs"):
        GeoJsonWriter(tmp_path / "a.geojson", georeference)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_something_fails(tmp_path: Path) -> None:
    features = features_of(random_masks(4, 40), UTM)
    with pytest.raises(Stopped):
        stop_after(GeoJsonWriter(tmp_path / "a.geojson", UTM), features)
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "missing" / "a.geojson", UTM, features)
    with pytest.raises(UserError, match=r"b\.geojson cannot be written \(File too large\); free space"), full_disk():
        write(tmp_path / "b.geojson", UTM, features)
    assert list(tmp_path.iterdir()) == []

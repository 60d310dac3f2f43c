"""GeoPackages hold what was written, in the CRS of the raster and at the corners of pixels."""

import sqlite3
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import CRS

from distill.errors import UserError
from distill.patch import Patch
from distill.scene import geopackage
from distill.scene.features import Feature, PolygonSettings
from distill.scene.geopackage import GeoPackageWriter
from distill.scene.georeference import Georeference
from tests.scene.objects import (
    CLASS_NAMES,
    DEGREES,
    TURNED,
    UTM,
    Stopped,
    features_of,
    full_disk,
    random_masks,
    stop_after,
)

EXACT = PolygonSettings(simplify=0)


def write(path: Path, georeference: Georeference | None, features: list[Feature]) -> Path:
    with GeoPackageWriter(path, georeference) as writer:
        writer.add(features)
    return path


def read(path: Path, **kwargs: object) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    meta, _, geometry, columns = pyogrio.raw.read(path, **kwargs)
    return dict(zip(meta["fields"], columns, strict=True)), shapely.from_wkb(geometry), meta["crs"]


@pytest.mark.parametrize("georeference", [UTM, TURNED, DEGREES])
def test_polygons_and_fields_come_back(georeference: Georeference, tmp_path: Path) -> None:
    features = features_of(random_masks(1, 40), georeference)
    fields, polygons, crs = read(write(tmp_path / "a.gpkg", georeference, features))
    assert CRS(crs) == CRS(georeference.wkt)
    assert shapely.is_valid(polygons).all()
    expected = [shapely.transform(feature.polygon, georeference.to_map) for feature in features]
    assert shapely.equals(polygons, np.array(expected)).all()
    assert all(part.exterior.is_ccw for part in shapely.get_parts(polygons))
    assert fields["id"].tolist() == [feature.id for feature in features]
    assert fields["class"].tolist() == [feature.class_name for feature in features]
    assert fields["score"].tolist() == [feature.score for feature in features]
    assert fields["area_m2"].tolist() == [feature.area_m2 for feature in features]
    assert fields["parts"].tolist() == [1] * len(features)
    assert set(fields["tile"]) == {"1,2"}
    corners = georeference.to_map(np.reshape(features[0].oriented, (4, 2)))
    box = shapely.from_wkt(fields["oriented_box"][0])
    np.testing.assert_allclose(shapely.get_coordinates(box)[:4], corners, rtol=0, atol=1e-8)


def test_there_is_no_shift_by_half_a_pixel(tmp_path: Path) -> None:
    features = features_of([Patch(4, 6, np.ones((2, 8), np.uint8))], UTM, EXACT)
    _, polygons, _ = read(write(tmp_path / "a.gpkg", UTM, features))
    assert polygons[0].bounds == (500_003.0, 5_399_997.0, 500_007.0, 5_399_998.0)


@pytest.mark.parametrize("georeference", [None, Georeference(UTM.transform, None)])
def test_without_a_crs_coordinates_are_cartesian(georeference: Georeference | None, tmp_path: Path) -> None:
    features = features_of([Patch(4, 6, np.ones((2, 8), np.uint8))], georeference, EXACT)
    path = write(tmp_path / "a.gpkg", georeference, features)
    fields, polygons, _ = read(path)
    assert fields["area_px"].tolist() == [16]
    assert "area_m2" not in fields
    assert polygons[0].bounds == ((6, 4, 14, 6) if georeference is None else (500_003, 5_399_997, 500_007, 5_399_998))
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT srs_id FROM gpkg_geometry_columns").fetchall() == [(-1,)]


def test_classes_can_be_chosen_by_name(tmp_path: Path) -> None:
    features = features_of(random_masks(2, 9), UTM)
    path = write(tmp_path / "Straße 'A' \"1\".gpkg", UTM, features)
    for number, name in enumerate(CLASS_NAMES):
        fields, _, _ = read(path, where="class = '{}'".format(name.replace("'", "''")))
        assert fields["id"].tolist() == [number + 1, number + 4, number + 7]


def test_the_file_does_not_depend_on_how_features_are_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geopackage, "BATCH", 16)
    features = features_of(random_masks(3, 40), UTM)
    at_once = write(tmp_path / "a.gpkg", UTM, features).read_bytes()
    (tmp_path / "b.gpkg").write_text("an old file")
    with GeoPackageWriter(tmp_path / "b.gpkg", UTM) as writer:
        for start in range(0, 40, 7):
            writer.add(features[start : start + 7])
    assert (tmp_path / "b.gpkg").read_bytes() == at_once
    with sqlite3.connect(tmp_path / "b.gpkg") as database:
        assert database.execute("SELECT count(*) FROM rtree_predictions_geom").fetchall() == [(40,)]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    bounds = features[25].polygon.bounds
    window = UTM.to_map(np.reshape(bounds, (2, 2)))
    fields, _, _ = read(tmp_path / "b.gpkg", bbox=(*window.min(axis=0), *window.max(axis=0)))
    assert features[25].id in fields["id"]
    assert len(fields["id"]) < 40


def test_a_file_without_features_is_valid(tmp_path: Path) -> None:
    fields, polygons, crs = read(write(tmp_path / "a.gpkg", UTM, []))
    assert len(polygons) == 0
    assert list(fields) == ["id", "class", "score", "area_m2", "parts", "tile", "oriented_box"]
    assert CRS(crs) == CRS(UTM.wkt)


def test_nothing_is_left_where_something_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geopackage, "BATCH", 2)
    features = features_of(random_masks(4, 4), UTM)
    with pytest.raises(Stopped):
        stop_after(GeoPackageWriter(tmp_path / "a.gpkg", UTM), features)
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "missing" / "a.gpkg", UTM, features)
    with pytest.raises(UserError, match=r"b\.gpkg cannot be written"), full_disk():
        write(tmp_path / "b.gpkg", UTM, features)
    writer = GeoPackageWriter(tmp_path / "c.gpkg", UTM)
    writer.add(features[:2])
    with pytest.raises(UserError, match=r"c\.gpkg cannot be written"), full_disk():
        writer.add(features[2:] * 500)
    assert list(tmp_path.iterdir()) == []


def test_dates_of_other_files_stay(tmp_path: Path) -> None:
    write(tmp_path / "a.gpkg", UTM, [])
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None

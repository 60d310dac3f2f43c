"""Rasters with GeoJSON: beside each or one for all, the property that names the class, and what goes wrong."""

import json
from pathlib import Path

import pytest
from rasterio.transform import Affine

from distill.curate.prepare import prepare
from distill.data.datasets import find_source
from distill.errors import UserError
from tests.data.published import ending, hrsid_coco
from tests.data.vectors import NORTH_UP, SQUARE, collection, feature, geojson, on_ground, raster


def test_one_file_for_all_rasters(tmp_path: Path) -> None:
    source = tmp_path / "source"
    east = NORTH_UP @ Affine.translation(64, 0)
    far = NORTH_UP @ Affine.translation(6400, 0)
    for name, place in (("train/west", NORTH_UP), ("train/east", east), ("val/far", far)):
        raster(source / f"{name}.tif", place)
    across = [[50, 10], [80, 10], [80, 20], [50, 20]]  # lies in two
    nowhere = [[50, 1000], [80, 1000], [80, 1020]]
    features = [feature(on_ground(ring, crs="EPSG:4326"), name=name) for ring, name in (
        (SQUARE, "tree"), (across, "roof"), (nowhere, "pond"),
    )]  # fmt: skip
    collection(features, source / "labels/all.geojson")
    done = prepare("geojson", source, tmp_path / "out")
    assert done.manifest["splits"] == {"train": {"images": 2, "objects": 3}, "val": {"images": 1, "objects": 0}}
    content = json.loads((done.root / "annotations/train.json").read_text())
    assert [category["name"] for category in content["categories"]] == ["pond", "roof", "tree"]
    images = {image["id"]: image["file_name"] for image in content["images"]}
    found = sorted((images[r["image_id"]], r["category_id"], r["area"]) for r in content["annotations"])
    assert found == [("train/east.tif", 2, 160), ("train/west.tif", 2, 140), ("train/west.tif", 3, 186)]
    assert "labels/all.geojson" in done.manifest["inputs"]
    for path in (source / "train").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no feature of '.*all\.geojson' lies in one of the 1 rasters; check the CRS"):
        prepare("geojson", source, tmp_path / "out")


def test_the_property_that_names_the_class(tmp_path: Path) -> None:
    source = geojson(tmp_path / "source")
    for path in source.rglob("*.geojson"):
        collection(
            [feature(on_ground(SQUARE), name=7, key="crop"), feature(on_ground(SQUARE), name="x", key="id")], path
        )
    with pytest.raises(
        UserError, match=r"has the property 'class': .*properties are crop, id; name the right one with"
    ):
        prepare("geojson", source, tmp_path / "out")
    with pytest.raises(UserError, match="has the property 'corp': did you mean crop"):
        prepare("geojson", source, tmp_path / "out", options={"class_key": "corp"})
    with pytest.raises(UserError, match=r"feature 1 of '.*a\.geojson' has no class; correct the source, or leave it"):
        prepare("geojson", source, tmp_path / "out", options={"class_key": "crop"})
    done = prepare("geojson", source, tmp_path / "out", "skip", options={"class_key": "crop"})
    assert done.manifest["splits"]["all"] == {"images": 3, "objects": 3}
    assert done.manifest["skipped_by_kind"] == {"class": 3}
    assert not prepare("geojson", source, tmp_path / "out", "skip", options={"class_key": "crop"}).changed
    done = prepare("geojson", source, tmp_path / "out", "skip", options={"class_name": "field"})
    assert done.changed
    content = json.loads((done.root / "annotations/all.json").read_text())
    assert (content["categories"], len(content["annotations"])) == ([{"id": 1, "name": "field"}], 6)
    with pytest.raises(UserError, match="--class-key and --class-name exclude each other"):
        find_source("geojson", source, class_key="a", class_name="b")
    with pytest.raises(UserError, match="--class-key is no option of hrsid; leave it out"):
        find_source("hrsid", hrsid_coco(tmp_path / "hrsid"), class_key="a")


def test_a_file_of_another_place(tmp_path: Path) -> None:
    source = geojson(tmp_path / "source")
    moved = on_ground([[x + 9000, y] for x, y in SQUARE], crs="EPSG:4326")
    collection([feature(moved)], ending(source, "fields/a.geojson"))
    with pytest.raises(UserError, match=r"none of the 1 features of '.*a\.geojson' lies in '.*a\.tif'; check the CRS"):
        prepare("geojson", source, tmp_path / "out")
    collection([], ending(source, "fields/a.geojson"))  # nothing to see
    assert prepare("geojson", source, tmp_path / "out").manifest["splits"]["all"] == {"images": 3, "objects": 2}


def test_broken_features_stop_or_are_left_out(tmp_path: Path) -> None:
    source = geojson(tmp_path / "source")
    point = {"type": "Feature", "properties": {"class": "x"}, "geometry": {"type": "Point", "coordinates": [9, 48]}}
    collection([point, feature(on_ground(SQUARE))], ending(source, "fields/a.geojson"))
    with pytest.raises(UserError, match=r"^feature 0 of '.*a\.geojson' is a Point, .*; correct it, or leave such feat"):
        prepare("geojson", source, tmp_path / "out")
    done = prepare("geojson", source, tmp_path / "out", on_error="skip")
    assert done.manifest["skipped_by_kind"] == {"geometry": 1}
    assert done.manifest["splits"]["all"]["objects"] == 3


def test_rasters_too_large_to_decode_are_prepared_to_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.curate.convert.LARGEST_IMAGE", 100)
    monkeypatch.setattr("distill.curate.convert.read_image", lambda path: pytest.fail("it is decoded"))
    done = prepare("geojson", geojson(tmp_path / "source"), tmp_path / "out")
    assert done.manifest["splits"]["all"] == {"images": 3, "objects": 3}

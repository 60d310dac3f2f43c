"""Images with objects cut into tiles: every pixel of every object is where it was, and what is left out is counted."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from distill.curate.tile import TileSettings, tile_instances
from distill.curate.tile.objects import PlacedObjects
from distill.curate.verify import find_parts, verify_instances
from distill.data import PreparedInstances
from distill.data.images import read_image
from distill.data.masks import decode_mask, encode_mask, extent_of
from distill.data.tiling import Tile
from distill.errors import UserError
from tests.data.published import save, scene, write_json
from tests.data.vectors import raster

H, W = 90, 130
SETTINGS = TileSettings(tile=48, overlap=12, empty=1.0)


def objects(seed: int = 0) -> list[dict[str, Any]]:
    """Polygons and RLEs of all sizes, some of which stick out of the image, and a region to ignore."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    for number in range(24):
        centre, size = rng.uniform(0, 1, 2) * (W, H), rng.uniform(3, 35)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        points = centre + size * rng.uniform(0.5, 1, (7, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        outline: Any = [points.round(1).ravel().tolist()]
        if number % 3 == 0:
            outline = encode_mask(decode_mask(outline, H, W))
        if not decode_mask(outline, H, W).any():
            continue
        found.append({"id": number + 1, "image_id": 1, "category_id": 1 + number % 2, "segmentation": outline})
        found[-1] |= {"bbox": extent_of(outline, H, W), "iscrowd": int(number == 5)}
    return found


def data_set(root: Path, records: list[dict[str, Any]] | None = None, name: str = "a.png") -> Path:
    """One image, and its annotation file."""
    if name.endswith(".tif"):
        raster(root / "images" / name, size=(H, W))
    else:
        save(scene(0, H, W), root / "images" / name)
    content = {
        "categories": [{"id": 1, "name": "roof"}, {"id": 2, "name": "tree", "supercategory": "plant"}],
        "images": [{"id": 1, "file_name": name, "height": H, "width": W}],
        "annotations": objects() if records is None else records,
    }
    write_json(content, root / "annotations/train.json")
    return root


def read(root: Path) -> tuple[list[dict[str, Any]], dict[int, list[dict[str, Any]]]]:
    """Image records, and annotations by image."""
    content = json.loads((root / "annotations/train.json").read_text())
    found = defaultdict(list)
    for record in content["annotations"]:
        found[record["image_id"]].append(record)
    assert [record["id"] for record in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    return content["images"], found


@pytest.mark.parametrize("remainders", ["ignore", "drop"])
def test_every_object_is_where_it_was(tmp_path: Path, remainders: str) -> None:
    """Against the masks of the whole image, cut."""
    root = data_set(tmp_path / "data")
    settings = TileSettings(48, 12, min_visible=0.5, remainders=remainders, empty=1.0)
    done = tile_instances([root], None, tmp_path / "out", settings)
    whole = {record["id"]: (record, decode_mask(record["segmentation"], H, W)) for record in objects()}
    images, found = read(done.root)
    assert len(images) == len(settings.plan(H, W)) == 3 * 4
    kinds: dict[str, int] = defaultdict(int)
    for image in images:
        top, left = image["top"], image["left"]
        place = np.s_[top : top + image["height"], left : left + image["width"]]
        expected = {number for number, (_, mask) in whole.items() if mask[place].any()}
        for record in found[image["id"]]:
            expected.remove(record["source_id"])
            published, mask = whole[record["source_id"]]
            shown = decode_mask(record["segmentation"], image["height"], image["width"])
            np.testing.assert_array_equal(shown, mask[place])
            share = shown.sum() / mask.sum()
            assert record["category_id"] == published["category_id"]
            assert record["truncated"] == (share < 1)
            assert record["iscrowd"] == (published["iscrowd"] or share < 0.5)
            assert record["area"] == shown.sum()
            assert record["bbox"] == extent_of(record["segmentation"], image["height"], image["width"])
            kinds["polygon" if isinstance(record["segmentation"], list) else "cut" if share < 1 else "RLE"] += 1
            kinds["ignored"] += record["iscrowd"]
        for number in expected:  # those that are left out
            assert remainders == "drop"
            assert whole[number][1][place].sum() < 0.5 * whole[number][1].sum()
            kinds["dropped"] += 1
    assert kinds.keys() == {"polygon", "cut", "RLE", "ignored", *(["dropped"] if remainders == "drop" else [])}


def test_tiles_verify_train_and_say_where_they_come_from(tmp_path: Path) -> None:
    done = tile_instances([data_set(tmp_path / "data")], None, tmp_path / "out", SETTINGS)
    whole = read_image(tmp_path / "data/images/a.png")
    images, _ = read(done.root)
    for image in images:
        top, left = image["top"], image["left"]
        assert image["file_name"] == f"train/a_{top}_{left}.png"
        assert image["source"] == "a.png"
        assert (
            read_image(done.root / "images" / image["file_name"]) == whole[:, top : top + 48, left : left + 48]
        ).all()
    report = verify_instances(done.root, find_parts(done.root))
    assert not [finding for finding in report.findings if finding.level == "error"]
    content = json.loads((done.root / "annotations/train.json").read_text())
    assert content["categories"] == [
        {"id": 1, "name": "roof"}, {"id": 2, "name": "tree", "supercategory": "plant"},
    ]  # fmt: skip
    write_json(content, done.root / "annotations/val.json")
    data = PreparedInstances(str(done.root), image_size=48, num_workers=0, on_error="raise")
    assert next(iter(data.train_dataloader()))["image"].shape == (4, 3, 48, 48)


def test_geotiffs_keep_their_place_and_may_be_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.data.rasters.LARGEST_IMAGE", 1000)
    monkeypatch.setattr("distill.data.records.LARGEST_IMAGE", 1000)
    root = data_set(tmp_path / "data", name="a.tif")
    done = tile_instances([root / "annotations/train.json"], root / "images", tmp_path / "out", SETTINGS)
    images, _ = read(done.root)
    with (
        rasterio.open(root / "images/a.tif") as whole,
        rasterio.open(done.root / "images" / images[-1]["file_name"]) as tile,
    ):
        assert images[-1]["file_name"].endswith("_42_82.tif")
        assert tile.crs == whole.crs
        assert tile.transform @ (0, 0) == whole.transform @ (82, 42)


def test_a_share_of_the_empty_tiles_is_kept(tmp_path: Path) -> None:
    one = [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 2, 12, 2, 12, 12]]}]
    root = data_set(tmp_path / "data", one)
    kept: dict[float, set[str]] = {}
    for share in (0.0, 0.3, 0.6, 1.0):
        settings = TileSettings(16, 0, empty=share)
        done = tile_instances([root], None, tmp_path / str(share), settings)
        again = tile_instances([root], None, tmp_path / f"{share} again", settings)
        kept[share] = {image["file_name"] for image in read(done.root)[0]}
        assert kept[share] == {image["file_name"] for image in read(again.root)[0]}
        counts = done.manifest["parts"]["train"]
        assert counts["images"] == counts["tiles"] + counts.get("empty tiles", 0) == len(kept[share])
        assert counts["images"] + counts.get("empty tiles, left out", 0) == len(settings.plan(H, W))
    assert kept[0.0] == {"train/a_0_0.png"}
    assert kept[0.0] < kept[0.3] < kept[0.6] < kept[1.0]
    assert 0.15 < len(kept[0.3]) / len(kept[1.0]) < 0.45
    other = tile_instances([root], None, tmp_path / "other", TileSettings(16, 0, empty=0.3, seed=1))
    assert {image["file_name"] for image in read(other.root)[0]} != kept[0.3]


def test_published_boxes_stay_with_whole_objects() -> None:
    record = {
        "id": 3,
        "category_id": 1,
        "segmentation": [[30, 30, 40, 30, 40, 40]],
        "bbox": [29, 30, 12, 11],
        "area": 51,
    }
    (found,) = PlacedObjects([record], 64, 64).within(Tile(0, 0, 20, 29, 20, 30), 0.4, "ignore")
    assert (found["bbox"], found["area"]) == ([0, 10, 12, 10], 51)  # the tile ends at its last row
    assert found["segmentation"] == [[1, 10, 11, 10, 11, 20]]
    assert PlacedObjects([], 64, 64).within(Tile(0, 0, 0, 0, 9, 9), 0.4, "ignore") == []


def test_tiles_of_tiles_know_the_first_image(tmp_path: Path) -> None:
    first = tile_instances([data_set(tmp_path / "data")], None, tmp_path / "first", SETTINGS)
    second = tile_instances([first.root], None, tmp_path / "second", TileSettings(20, 0, empty=1.0))
    whole = read_image(tmp_path / "data/images/a.png")
    for image in read(second.root)[0][::7]:
        pixels = read_image(second.root / "images" / image["file_name"])
        assert image["source"] == "a.png"
        assert (pixels == whole[:, image["top"] :, image["left"] :][:, :20, :20]).all()


def test_a_damaged_image_leaves_no_tile(tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", name="a.tif")
    content = json.loads((root / "annotations/train.json").read_text())
    content["images"].append({"id": 2, "file_name": "b.png", "height": H, "width": W})
    content["annotations"].append(content["annotations"][0] | {"id": 99, "image_id": 2})
    content["annotations"].append({"id": 100, "image_id": 2, "category_id": 1, "segmentation": [[1, 1, 2, 2]]})
    write_json(content, root / "annotations/train.json")
    save(scene(3, H, W), root / "images/b.png")
    path = root / "images/a.tif"
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(
        UserError, match=r"^annotation 100 in '.*train\.json' has no usable .*; correct the file, or leave"
    ):
        tile_instances([root], None, tmp_path / "out", SETTINGS)
    del content["annotations"][-1]
    write_json(content, root / "annotations/train.json")
    with pytest.raises(
        UserError, match=r"^image '.*a\.tif' is damaged \(.*\); correct the source, or leave such images"
    ):
        tile_instances([root], None, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()
    done = tile_instances([root], None, tmp_path / "out", SETTINGS, on_error="skip")
    assert {image["source"] for image in read(done.root)[0]} == {"b.png"}
    assert all(path.name.startswith("b_") for path in (done.root / "images/train").iterdir())
    assert done.manifest["skipped_by_kind"] == {"image": 1}


def test_faults_are_one_line(tmp_path: Path) -> None:
    one = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 2, 12, 2, 12, 12]]}
    root = data_set(tmp_path / "data", [one])
    content = json.loads((root / "annotations/train.json").read_text())

    def refused(message: str, settings: TileSettings = SETTINGS, **changes: Any) -> None:
        write_json({**content, **changes}, root / "annotations/train.json")
        with pytest.raises(UserError, match=message):
            tile_instances([root], None, tmp_path / "out", settings)
        assert not (tmp_path / "out").exists()

    image = content["images"][0]
    refused(r"a\.png' is 130x90, but its annotations say 129x90", images=[image | {"width": 129}])
    refused(r"image '.*b\.png' does not exist", images=[image | {"file_name": "b.png"}])
    Image.new("RGB", (W, H)).save(root / "images/a.jpg")
    refused(
        r"list 'a\.png' and 'a\.jpg', whose tiles would have the same names; rename one of them",
        images=[image, image | {"id": 2, "file_name": "a.jpg"}],
    )
    refused(
        "is 2147483648x90, too large for the run lengths of COCO; cut it in parts first",
        images=[image | {"width": 2**31}],
    )
    for options, message in (
        ({"tile": 0}, "the side of a tile is 0"),
        ({"tile": 8, "overlap": 8}, "the overlap of tiles is 8; it must lie between 0 and 7"),
        ({"tile": 8, "min_visible": 1.5}, "--min-visible is 1.5; it is a share"),
        ({"tile": 8, "empty": -0.1}, "--empty is -0.1; it is a share"),
        ({"tile": 8, "remainders": "drp"}, "unknown --remainders word 'drp': did you mean drop"),
    ):
        with pytest.raises(UserError, match=message):
            TileSettings(**options)

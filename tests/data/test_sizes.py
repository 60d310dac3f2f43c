"""How large images, objects and pixels on the ground are, by headers and annotations."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from distill.data import CocoInstances, SemanticFolder
from distill.data.sizes import SAMPLE, Header, ground_size, read_headers, sample_of


def raster(path: Path, crs: str | None, transform: rasterio.Affine | None, size: tuple[int, int] = (6, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    placed = {} if transform is None else {"transform": transform}
    with rasterio.open(path, "w", "GTiff", size[1], size[0], 3, crs, dtype="uint8", **placed) as file:
        file.write(np.zeros((3, *size), np.uint8))
    return path


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:32633", from_origin(500000, 5.6e6, 0.5, 0.5), 0.5 * math.sqrt(1 / 0.9996**2)),
        ("EPSG:32633", rasterio.Affine(3, 4, 500000, 4, -3, 5.6e6), 5 / 0.9996),  # rotated
        ("EPSG:3857", from_origin(0, 8399737.9, 2, 2), 2 * math.cos(math.radians(60))),  # 60 degrees north
        ("EPSG:4326", from_origin(179.9999, 0.0, 1e-4, 1e-4), 1e-4 * 111319.4908 * math.sqrt(110574.3 / 111319.5)),
        ("EPSG:2263", from_origin(987000, 200000, 3, 3), 3 * 0.3048006),  # feet
    ],
)
def test_ground_size_of_a_pixel(tmp_path: Path, crs: str, transform: rasterio.Affine, metres: float) -> None:
    (header,) = read_headers([raster(tmp_path / "a.tif", crs, transform)])
    assert header[:2] == (6, 10)
    assert header.gsd == pytest.approx(metres, rel=2e-3)


def test_files_that_do_not_say_where_they_lie(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "photo.jpg")
    (tmp_path / "broken.png").write_bytes(b"no image")
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    paths = [raster(tmp_path / "a.tif", None, None), raster(tmp_path / "b.tif", local, from_origin(0, 9, 1, 1))]
    found = read_headers([tmp_path / "photo.jpg", tmp_path / "broken.png", tmp_path / "missing.png", *paths])
    assert found == [Header(5, 7, None), Header(6, 10, None), Header(6, 10, None)]
    assert ground_size(found) == {}
    assert ground_size([*found, Header(1, 1, 0.25), Header(1, 1, 0.75), Header(1, 1, 0.5)]) == {"gsd": 0.5}


def test_a_sample_is_spread_over_all() -> None:
    assert sample_of([1, 2, 3]) == [1, 2, 3]
    chosen = sample_of(range(100_000))
    assert (len(chosen), chosen[0], chosen[-1]) == (SAMPLE, 0, 99_999)
    assert len(set(np.diff(chosen).round(-1))) == 1


def test_of_instances(tmp_path: Path) -> None:
    """Without decoding an image: sides are the annotations', and the files are as good as empty."""
    sizes = [(40, 60), (80, 20), (30, 100)]
    images = [{"id": n, "file_name": f"{n}.tif", "height": h, "width": w} for n, (h, w) in enumerate(sizes, start=1)]
    boxes = [[0, 0, 4, 10 + n] for n in range(10)] + [[0, 0, 20, 2]]
    objects = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "area": 4, "iscrowd": 0}
        | {"segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}
        for n, box in enumerate(boxes, start=1)
    ]
    objects.append(objects[0] | {"id": 99, "bbox": [0, 0, 60, 40], "iscrowd": 1})
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "ship"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    for image in images:
        raster(tmp_path / image["file_name"], "EPSG:32633", from_origin(500000, 5.6e6, 0.5, 0.5))
    given = {"train_images": str(tmp_path), "train_annotations": str(tmp_path / "a.json")}
    data = CocoInstances(**given, val_images=str(tmp_path), val_annotations=str(tmp_path / "a.json"))
    assert data.scale() == {"image_side": 80, "largest_side": 100, "object_side": 19.8, "gsd": 0.5002}


def test_of_land_cover(tmp_path: Path) -> None:
    for number, size in enumerate([(20, 28), (44, 16), (24, 30)]):
        for kind, mode in (("images", "RGB"), ("masks", "L")):
            (tmp_path / "train" / kind).mkdir(parents=True, exist_ok=True)
            Image.new(mode, size[::-1]).save(tmp_path / "train" / kind / f"{number}.png")
    data = SemanticFolder(str(tmp_path), {"a": 0, "b": 1})
    assert data.scale() == {"image_side": 30, "largest_side": 44}

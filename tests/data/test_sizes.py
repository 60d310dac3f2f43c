"""How large images, objects and pixels on the ground are, by headers and annotations."""

import json
import tarfile
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from distill.data import CocoInstances, ImageFolder, SemanticFolder
from distill.data.sizes import SAMPLE, Header, ground_sizes, read_headers, sample_of


def raster(path: Path) -> Path:
    with rasterio.open(path, "w", "GTiff", 10, 6, 3, dtype="uint8") as file:
        file.write(np.zeros((3, 6, 10), np.uint8))
    return path


def test_headers_and_ground_sizes(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "photo.jpg")
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [tmp_path / "photo.jpg", tmp_path / "broken.png", tmp_path / "missing.png", raster(tmp_path / "a.tif")]
    assert read_headers(paths) == [Header(5, 7), Header(6, 10)]
    assert ground_sizes(paths, lambda path: None) == {}
    sizes = dict(zip(paths, (0.25, 0.75, None, 0.5), strict=True))
    assert ground_sizes(paths, sizes.__getitem__) == {"gsd": 0.5}


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
        raster(tmp_path / image["file_name"])
    given = {"train_images": str(tmp_path), "train_annotations": str(tmp_path / "a.json")}
    given |= {"val_images": str(tmp_path), "val_annotations": str(tmp_path / "a.json")}
    data = CocoInstances(**given)
    assert data.scale(lambda path: float(path.stem)) == {
        "image_side": 80,
        "largest_side": 100,
        "object_side": 19.8,
        "gsd": 2.0,
    }
    said = [CocoInstances(image_size=side, **given).shrunk() for side in (79, 80)]
    assert said == ["images of 80 px are scaled to 79 px (data.image_size)", None]


def test_of_unlabelled_images(tmp_path: Path) -> None:
    """By the shorter side of the first image, which an evaluation view shows whole; tars are not opened."""
    Image.new("RGB", (70, 50)).save(tmp_path / "a.jpg")
    Image.new("RGB", (9, 9)).save(tmp_path / "b.jpg")
    said = [ImageFolder(str(tmp_path), side, val_fraction=0.0).shrunk() for side in (49, 50)]
    assert said == ["images of 50 px, as the first one has, are scaled to 49 px (data.image_size)", None]
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(tmp_path / "a.jpg", "a.jpg")
    assert ImageFolder(str(tmp_path / "all.tar"), 8, val_fraction=0.0).shrunk() is None


def test_of_land_cover(tmp_path: Path) -> None:
    for number, size in enumerate([(20, 28), (44, 16), (24, 30)]):
        for kind, mode in (("images", "RGB"), ("masks", "L")):
            (tmp_path / "train" / kind).mkdir(parents=True, exist_ok=True)
            Image.new(mode, size[::-1]).save(tmp_path / "train" / kind / f"{number}.png")
    data = SemanticFolder(str(tmp_path), {"a": 0, "b": 1})
    assert data.scale(lambda path: None) == {"image_side": 30, "largest_side": 44}

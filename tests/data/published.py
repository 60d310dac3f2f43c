"""Small data sets in the layouts in which the real ones are published, drawn from a seed."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[2] / "../shared/data"


def scene(seed: int, height: int = 48, width: int = 64) -> Image.Image:
    """Blobs of several sizes; different seeds look different."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(0, 255, (4, 5)), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.uniform(-60, 60, (16, 20)), (width, height), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray((coarse + fine).clip(0, 255).astype(np.uint8)).convert("RGB")


def coco(
    names: list[str], first_id: int = 0, category: str = "ship", size: tuple[int, int] = (48, 64)
) -> dict[str, Any]:
    """A COCO file with one quadrangle in each image; ids count from `first_id`."""
    square = [[4.5, 6, 20, 6, 20, 18, 4.5, 18]]
    return {
        "categories": [{"id": 1, "name": category}],
        "images": [
            {"id": first_id + i, "file_name": name, "height": 48, "width": 64} for i, name in enumerate(names)
        ],
        "annotations": [
            {
                "id": first_id + i, "image_id": first_id + i, "category_id": 1, "bbox": [4, 6, 17, 13], "area": 211.0,
                "segmentation": square, "iscrowd": 0,
            }
            for i in range(len(names))
        ],
    }  # fmt: skip


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_json(data: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def ssdd_voc(
    root: Path, numbers: range = range(1, 11), polygons: bool = True, base: str = "PSeg_SSDD/voc_style"
) -> Path:
    """The official release in VOC style; image n is 64 x 48 and holds one ship, every third two."""
    folder = root / "Official-SSDD-OPEN" / base
    for number in range(1, 11):
        part = "test" if number % 10 in (1, 9) else "train"
        save(scene(number), folder / f"JPEGImages_{part}/{number:06d}.jpg")
        save(Image.new("L", (64, 48)), folder / f"JPEGImages_PSeg_GT_Mask/{number:06d}.jpg")
        points = "".join(f"<point>{x},{y}</point>" for x, y in ((5, 6), (20.5, 6), (20.5, 18), (5, 18)))
        ship = (
            "<object><name>ship</name><bndbox><xmin>4</xmin><ymin>6</ymin><xmax>21</xmax><ymax>18</ymax></bndbox>"
            f"{f'<segm>{points}</segm>' if polygons else ''}</object>"
        )
        xml = (
            f"<annotation><filename>{number:06d}.jpg</filename><size><width>64</width><height>48</height></size>"
            f"{ship * (2 if number % 3 == 0 else 1)}</annotation>"
        )
        path = folder / f"Annotations_{part}/{number:06d}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(xml)
    return root


def ssdd_coco_official(root: Path) -> Path:
    """The official release in COCO style, in which both files count from 0."""
    folder = root / "BBox_RBox_PSeg_SSDD/coco_style"
    for part, numbers in (("train", (2, 3, 4, 10)), ("test", (1, 9))):
        names = [f"{number:06d}.jpg" for number in numbers]
        write_json(coco(names), folder / f"annotations/{part}.json")
        for number, name in zip(numbers, names, strict=True):
            save(scene(number), folder / f"images/{part}/{name}")
    return root


def ssdd_rsprompter(root: Path) -> Path:
    """RSPrompter's files: another split than the official one."""
    for part, numbers, first in (("train", (1, 2, 4, 9), 0), ("val", (3, 11), 4)):
        names = [f"{number:06d}.jpg" for number in numbers]
        write_json(coco(names, first), root / f"annotations/SSDD_instances_{part}.json")
        for number, name in zip(numbers, names, strict=True):
            save(scene(number), root / f"imgs/{name}")
    return root


def whu_tiles(root: Path, below: str = "3. The cropped image tiles and raster labels") -> Path:
    """Tiles with none, one and three buildings; two of the three touch at a corner only."""
    for seed, split in enumerate(("train", "val", "test")):
        for number in range(3):
            label = np.zeros((48, 64), bool)
            if number > 0:
                label[4:10, 4:12] = True
            if number > 1:
                label[10:14, 12:20] = True  # touches the first at a corner
                label[30:40, 30:50] = True
            save(scene(10 * seed + number), root / below / split / f"image/{number + 8}.tif")
            kind = (label, label.astype(np.uint8), label.astype(np.uint8) * 255)[number]
            save(Image.fromarray(kind), root / below / split / f"label/{number + 8}.tif")
    return root


def hrsid_coco(root: Path) -> Path:
    """The release: one folder of images, two files."""
    for part, names, first in (
        ("train", ["P0001_0_800_0_800.jpg", "P0002_0_800_0_800.jpg"], 1),
        ("test", ["P0003.jpg"], 3),
    ):
        write_json(coco(names, first), root / f"HRSID_JPG/annotations/{part}2017.json")
        for number, name in enumerate(names):
            save(scene(first + number), root / f"HRSID_JPG/JPEGImages/{name}")
    return root


def hrsid_masks(root: Path) -> Path:
    """Samples with colour masks; image n shows n ships."""
    for number in (1, 2, 3):
        mask = np.zeros((48, 64, 3), np.uint8)
        for ship in range(number):
            mask[4:9, 4 + 12 * ship : 14 + 12 * ship] = (40 * ship, 200, 90)
        save(scene(number), root / f"images/P{number:04d}.png")
        save(Image.fromarray(mask), root / f"instance_masks/P{number:04d}.png")
    return root


def nwpu_texts(root: Path, count: int = 12) -> Path:
    """The original: text files, positive and negative images with the same names."""
    base = root / "NWPU VHR-10 dataset"
    lines = "(5,6),(20,18),1 \n( 30 , 20 ),( 40 , 30 ),10\n\n"
    for number in range(1, count + 1):
        save(scene(number), base / f"positive image set/{number:03d}.jpg")
        save(scene(100 + number), base / f"negative image set/{number:03d}.jpg")
        path = base / f"ground truth/{number:03d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines, newline="\r\n")
    return root


def yolo(root: Path) -> Path:
    """Ultralytics' usual layout: two classes, polygons, an empty label, and an image without one."""
    lines = {"a": "0 0.125 0.25 0.5 0.25 0.5 0.75 0.125 0.75\n1 0.5 0.5 0.75 0.5 0.75 1\n", "b": "", "c": None}
    for split, seed in (("train", 0), ("val", 10)):
        for number, (name, text) in enumerate(lines.items()):
            save(scene(seed + number), root / f"shapes/images/{split}/{name}.jpg")
            if text is not None:
                path = root / f"shapes/labels/{split}/{name}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    description = "path: ../datasets/shapes\ntrain: images/train\nval: images/val\ntest:\nnames: {0: roof, 1: tree}\n"
    (root / "shapes/data.yaml").write_text(description)
    return root


def labelme(root: Path, count: int = 3) -> Path:
    """A JSON file beside each image, with one polygon."""
    shape = {"label": "ship", "points": [[4.5, 6], [20, 6], [20, 18], [4.5, 18]], "shape_type": "polygon"}
    for number in range(1, count + 1):
        save(scene(number), root / f"labelled/{number:03d}.jpg")
        content = {
            "version": "5.4.1", "flags": {}, "shapes": [{**shape, "group_id": None, "flags": {}}],
            "imagePath": f"{number:03d}.jpg", "imageData": "AAAA", "imageHeight": 48, "imageWidth": 64,
        }  # fmt: skip
        write_json(content, root / f"labelled/{number:03d}.json")
    return root


def names(root: Path, split: str) -> list[str]:
    content = json.loads((root / f"annotations/{split}.json").read_text())
    return [image["file_name"] for image in content["images"]]


def shared(name: str) -> Path:
    """A folder of real data; the test is skipped, and says so, where there is none."""
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"NOT CHECKED on real data: {root.resolve()} is absent")
    return root


def ending(source: Path, part: str) -> Path:
    (path,) = (path for path in source.rglob(Path(part).name) if path.as_posix().endswith(part))
    return path


def images_in(manifest: dict[str, Any]) -> int:
    return sum(split["images"] for split in manifest["splits"].values())

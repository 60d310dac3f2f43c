"""WHU building in every layout, generated and, where present, real."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from distill.curate.prepare import prepare
from distill.data import WHU
from distill.data.datasets.whu import instances
from distill.data.images import BrokenImage, read_label
from distill.errors import UserError
from tests.data.published import (
    save,
    scene,
    shared,
    whu_tiles,
)


def test_whu_labels_become_four_connected_instances(tmp_path: Path) -> None:
    root = prepare("whu", whu_tiles(tmp_path / "source"), tmp_path / "whu").root
    for split in ("train", "val", "test"):
        data = COCO(str(root / f"annotations/{split}.json"))
        assert [image["file_name"] for image in data.imgs.values()] == [f"{split}/{n}.tif" for n in (8, 9, 10)]
        objects = [data.imgToAnns[image] for image in data.imgs]
        assert [len(found) for found in objects] == [0, 1, 3]
        assert [record["area"] for record in objects[2]] == [48, 32, 200]
        assert objects[2][1]["bbox"] == [12, 10, 8, 4]
        union = sum(data.annToMask(record) for record in objects[2])
        label = np.asarray(Image.open(next((tmp_path / "source").rglob(f"{split}/label/10.tif")))) > 0
        assert np.array_equal(union, label)
    loaded = WHU(str(root), image_size=64)
    assert loaded.sources["test"] != loaded.sources["val"]
    assert len(loaded.dataset("train")) == 3


def test_whu_in_rsprompters_layout_and_with_a_split_missing(tmp_path: Path) -> None:
    source = whu_tiles(tmp_path / "source", below="imgs")
    shutil.rmtree(source / "imgs/test")
    root = prepare("whu", source, tmp_path / "whu").root
    assert not (root / "annotations/test.json").exists()
    with pytest.raises(UserError, match=r"lacks annotations/test\.json; .* Write them with: distill data prepare whu"):
        WHU(str(root))


def test_whu_labels_of_another_size_or_missing(tmp_path: Path) -> None:
    source = whu_tiles(tmp_path / "source")
    label = next(source.rglob("train/label/9.tif"))
    save(Image.new("1", (8, 8)), label)
    with pytest.raises(UserError, match="is 8x8, but its image is 64x48"):
        prepare("whu", source, tmp_path / "whu")
    label.unlink()
    with pytest.raises(UserError, match=r"^1 of 3 images have no label, for example '.*/train/image/9\.tif'; add what"):
        prepare("whu", source, tmp_path / "whu")


def test_a_whu_part_without_its_labels(tmp_path: Path) -> None:
    source = whu_tiles(tmp_path / "source")
    shutil.rmtree(next(source.rglob("val/label")))
    with pytest.raises(UserError, match="3 of 3 images have no label"):
        prepare("whu", source, tmp_path / "whu")


def test_labels_mean_one_thing_only(tmp_path: Path) -> None:
    label = np.zeros((8, 9), bool)
    label[2:5, 3:7] = True
    grey, opaque = label.astype(np.uint8) * 255, np.full((8, 9), 255, np.uint8)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    palette = Image.fromarray(label.astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    sound = {
        "bits": Image.fromarray(label),
        "ones": Image.fromarray(label.astype(np.uint8)),
        "grey": Image.fromarray(grey),
        "colour": Image.fromarray(colour),
        "alpha": Image.fromarray(np.dstack([colour, opaque])),
        "grey alpha": Image.fromarray(np.dstack([grey, opaque])),
        "palette": palette,
        "float": Image.fromarray(label.astype(np.float32)),
    }
    for name, image in sound.items():
        save(image, tmp_path / f"{name}.png" if name != "float" else tmp_path / "float.tif")
        assert np.array_equal(read_label(next(tmp_path.glob(f"{name}.*"))), label), name
    broken = {
        "background.tif": (Image.fromarray(grey // 2 + 10), "has the values 10, 137; a label is 0 and 1, or 0 and 255"),
        "mixed.tif": (Image.fromarray(np.diag([0, 1, 255]).astype(np.uint8)), "has the values 0, 1, 255; "),
        "nan.tif": (Image.fromarray(np.full((8, 9), np.nan, np.float32)), "has the values nan"),
        "lossy.jpg": (Image.fromarray(grey), "saved without loss"),
        "scene.png": (scene(0).convert("P"), "has the values 0, 51, 102, 153, 204, ...; "),
    }
    for name, (image, message) in broken.items():
        save(image, tmp_path / name)
        with pytest.raises(BrokenImage, match=message):
            read_label(tmp_path / name)


def test_instances_of_one_building_and_of_none() -> None:
    assert instances(np.zeros((4, 4), bool)) == []
    (whole,) = instances(np.ones((4, 4), bool))
    assert whole.all()
    diagonal = instances(np.eye(5, dtype=bool))
    assert len(diagonal) == 5


def test_real_whu(tmp_path: Path) -> None:
    root = shared("whu")
    for split in ("train", "val"):
        for number in (0, 1):
            for kind, folder in (("image", "images"), ("label", "labels")):
                (tmp_path / f"source/{split}/{kind}").mkdir(parents=True, exist_ok=True)
                shutil.copy(root / folder / f"{split}_{number}.tif", tmp_path / f"source/{split}/{kind}/{number}.tif")
    done = prepare("whu", tmp_path / "source", tmp_path / "whu")
    areas = {}
    for split in ("train", "val"):
        content = json.loads((done.root / f"annotations/{split}.json").read_text())
        areas[split] = [record["area"] for record in content["annotations"]]
    assert len(areas["train"]) == 5  # all in train_1
    assert sum(areas["train"]) / 512**2 == pytest.approx(0.0203, abs=5e-5)
    assert 9 in areas["val"]

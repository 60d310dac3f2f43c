"""The data module of prepared data sets: which files it takes, and that tiles of one image stay together."""

import json
from pathlib import Path

import pytest

from distill.curate.prepare import prepare
from distill.curate.verify import find_parts, verify_instances
from distill.data import CocoInstances, PreparedInstances, SemanticFolder
from distill.errors import UserError
from tests.data.published import coco, labelme, save, scene, write_json, yolo


def tiles(root: Path, sources: int = 5) -> Path:
    """Four tiles of each image."""
    names = [f"{source}_{tile}.png" for source in range(sources) for tile in range(4)]
    content = coco(names, 1)
    for number, (name, image) in enumerate(zip(names, content["images"], strict=True)):
        save(scene(number), root / "images" / name)
        image["source"] = f"{name[0]}.tif"
    write_json(content, root / "annotations/train.json")
    return root


def test_parts_that_are_there_are_used(tmp_path: Path) -> None:
    root = prepare("yolo", yolo(tmp_path / "yolo"), tmp_path / "a").root
    data = PreparedInstances(str(root), image_size=64, num_workers=0, batch_size=2)
    assert data.class_names == ["roof", "tree"]
    assert (data.val_fraction, data.selects_on_test) == (0, True)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, 64, 64)
    assert sum(len(target.labels) for target in batch["targets"]) <= 4
    write_json(json.loads((root / "annotations/val.json").read_text()), root / "annotations/test.json")
    assert PreparedInstances(str(root)).sources["test"] == (str(root / "images"), str(root / "annotations/test.json"))
    assert not [finding for finding in verify_instances(root, find_parts(root)).findings if finding.level == "error"]


def test_a_set_without_a_split_holds_some_out(tmp_path: Path) -> None:
    root = prepare("labelme", labelme(tmp_path / "source", 10), tmp_path / "a").root
    data = PreparedInstances(str(root), image_size=64, num_workers=0)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [9, 1, 1]
    message = r"^data.root '.*/nothing' lacks images/, or annotations/train\.json or all\.json"
    with pytest.raises(UserError, match=message):
        PreparedInstances(str(tmp_path / "nothing"))


def test_tiles_of_one_image_are_held_out_together(tmp_path: Path) -> None:
    data = PreparedInstances(str(tiles(tmp_path)), val_fraction=0.2, num_workers=0)
    found = {split: {image["source"] for image in data.dataset(split).images} for split in ("train", "val")}
    assert [len(data.dataset(split)) for split in ("train", "val")] == [16, 4]
    assert not found["train"] & found["val"]
    with pytest.raises(
        UserError, match=r"^all 4 images of '.*' are tiles of '0\.tif', so none can be held out .*; give"
    ):
        PreparedInstances(str(tiles(tmp_path / "one", 1))).dataset("val")
    both = (str(tmp_path / "one/images"), str(tmp_path / "one/annotations/train.json"))
    assert len(CocoInstances(*both, *both).dataset("train")) == 4


def test_tiles_of_land_cover_are_held_out_together(tmp_path: Path) -> None:
    places = {}
    for number in range(12):
        name = f"{number // 4}_{number % 4}"
        for folder in ("images", "masks"):
            save(scene(number).convert("L"), tmp_path / "train" / folder / f"{name}.png")
        places[name] = {"source": f"{number // 4}.tif", "top": 0, "left": 0}
    write_json(places, tmp_path / "train/tiles.json")
    classes = {"a": 0, "b": 1}
    data = SemanticFolder(str(tmp_path), classes, val="train", val_fraction=0.3)
    held_out = {pair.image.stem[0] for pair in data._pairs("val")}
    assert len(held_out) == 1
    assert len(data._pairs("val")) == 4
    assert held_out.isdisjoint(pair.image.stem[0] for pair in data._pairs("train"))

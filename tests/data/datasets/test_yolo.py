"""YOLO's segmentation layouts: as Ultralytics documents them, as Roboflow exports them, and what goes wrong in them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.curate.prepare import prepare
from distill.data.datasets import find_source
from distill.data.masks import area_of, decode_mask
from distill.errors import UserError
from tests.data.published import ending, names, save, scene, yolo


def objects(root: Path, split: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((root / f"annotations/{split}.json").read_text())["annotations"]
    return found


def test_polygons_boxes_and_images_without_objects(tmp_path: Path) -> None:
    source = yolo(tmp_path / "source")
    ending(source, "labels/val/b.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    done = prepare("yolo", source, tmp_path / "out")
    assert done.manifest["splits"] == {"train": {"images": 3, "objects": 2}, "val": {"images": 3, "objects": 3}}
    assert names(done.root, "train") == [f"images/train/{name}.jpg" for name in "abc"]
    roof, tree = objects(done.root, "train")
    assert (roof["category_id"], tree["category_id"]) == (1, 2)
    assert roof["segmentation"] == [[8, 12, 32, 12, 32, 36, 8, 36]]
    mask = np.zeros((48, 64), np.uint8)
    mask[12:36, 8:32] = 1
    np.testing.assert_array_equal(decode_mask(roof["segmentation"], 48, 64), mask)
    assert (roof["area"], roof["bbox"]) == (24 * 24, [8, 12, 24, 24])
    assert area_of(tree["segmentation"], 48, 64) == pytest.approx(16 * 24 / 2, abs=16)
    box = objects(done.root, "val")[2]
    assert (box["bbox"], box["area"]) == ([24, 12, 16, 24], 16 * 24)


PLACES = {
    # what data.yaml says, the folder of the images, and all that are found
    "../train/images": ("train/images", ["train/images/a.png"]),  # as Roboflow writes it
    "train/images": ("train/images", ["train/images/a.png"]),
    "./images/": ("images", ["images/a.png", "images/x.png"]),
    "list.txt": ("images", ["images/a.png"]),
    "[images, more/images]": ("more/images", ["images/x.png", "more/images/a.png"]),
}


@pytest.mark.parametrize("place", PLACES)
def test_places_of_images(tmp_path: Path, place: str) -> None:
    images, found = PLACES[place]
    save(scene(1), tmp_path / "images/x.png")
    save(scene(0), tmp_path / images / "a.png")
    label = tmp_path / images.replace("images", "labels") / "a.txt"
    label.parent.mkdir(parents=True)
    label.write_text("0 0 0 1 0 1 1\n\n")
    (tmp_path / "list.txt").write_text("./images/a.png\n\n")
    (tmp_path / "data.yaml").write_text(f"train: {place}\nval: {place}\nnc: 1\nnames: ['roof']\n")
    items = {item.name: item for item in find_source("yolo", tmp_path).items}
    assert list(items) == found
    for name, item in items.items():
        assert item.splits == ("train", "val")
        wanted = [{"category_id": 1, "segmentation": [[0, 0, 64, 0, 64, 48]]}] if "a.png" in name else []
        assert item.objects(48, 64) == wanted
    (tmp_path / "data.yaml").write_text(f"train: {place}\nval: nowhere\nnames: ['roof']\n")
    with pytest.raises(UserError, match=r"^'.*data\.yaml' names 'nowhere', which is not below '.*'; correct the path"):
        find_source("yolo", tmp_path)


def test_without_splits_folders_decide(tmp_path: Path) -> None:
    source = yolo(tmp_path / "source")
    (source / "shapes/data.yaml").write_text("names: [roof, tree]\n")
    assert prepare("yolo", source, tmp_path / "out").manifest["splits"].keys() == {"train", "val"}


BROKEN = {
    "5 0.1 0.1 0.5 0.1 0.5 0.5": ("class", "has the class 5; data.yaml names 0 to 1"),
    "-1 0.1 0.1 0.5 0.1 0.5 0.5": ("class", "has the class -1"),
    "0 0.1 0.1 0.5 0.1": ("polygon", "has 4 numbers after the class; it must have three points or more"),
    "0 0.1 0.1 0.5 0.1 0.5 0.5 0.3": ("polygon", "has 7 numbers after the class"),
    "0 10 10 50 10 50 40": ("coordinates", "has a coordinate outside of 0 to 1; divide by width and height"),
    "0 0.1 0.1 0.1 0.1 0.1 0.1": ("polygon", "has polygons without area"),
    "0 nan 0.1 0.5 0.1 0.5 0.5": ("coordinates", "has a coordinate outside of 0 to 1"),
}


@pytest.mark.parametrize("line", BROKEN)
def test_broken_lines_stop_or_are_left_out(tmp_path: Path, line: str) -> None:
    kind, message = BROKEN[line]
    source = yolo(tmp_path / "source")
    label = ending(source, "labels/train/a.txt")
    label.write_text(f"{label.read_text()}{line}\n")
    with pytest.raises(
        UserError, match=rf"^images/train/a\.jpg: [^\n]*{message}[^\n]*; correct the source, or leave it out"
    ):
        prepare("yolo", source, tmp_path / "out")
    done = prepare("yolo", source, tmp_path / "out", on_error="skip")
    assert done.manifest["splits"]["train"]["objects"] == 2
    assert done.manifest["skipped_by_kind"] == {kind: 1}


def test_other_faults_are_one_line(tmp_path: Path) -> None:
    source = yolo(tmp_path / "source")
    label = ending(source, "labels/train/a.txt")
    before = label.read_text()
    label.write_text("0 a b c d e f\n")
    with pytest.raises(UserError, match=r"^label '.*a\.txt' cannot be read \(could not convert string to float: 'a'\)"):
        prepare("yolo", source, tmp_path / "out")
    label.write_text(before)
    ending(source, "images/train/a.jpg").unlink()
    with pytest.raises(UserError, match=r"^1 of 4 labels have no image, for example '.*train/a\.txt'; add what is"):
        prepare("yolo", source, tmp_path / "out")
    done = prepare("yolo", source, tmp_path / "out", on_error="skip")
    assert done.manifest["skipped_by_kind"] == {"label without image": 1}
    description = ending(source, "data.yaml")
    for text, message in (
        ("names: {1: a, 2: b}", r"has the names \{1: 'a', 2: 'b'\}; give a list, or numbers from 0"),
        ("names: [a, a]", r"has the names \['a', 'a'\], one of them twice"),
        ("names: []", "give a list"),
        ("names: 3", "holds no YOLO data set"),
        ("a: [", "holds no YOLO data set"),
    ):
        description.write_text(text)
        with pytest.raises(UserError, match=message):
            find_source("yolo", source)
    for text, message in (
        (b"\xff", r"^the list of images '.*list\.txt' cannot be read \(.*\); save it as UTF-8"),
        (b"../outside.jpg", r"^'.*list\.txt' names '\.\./outside\.jpg'; give images by their paths below that file"),
    ):
        (source / "list.txt").write_bytes(text)
        description.write_text("train: list.txt\nnames: [a]")
        with pytest.raises(UserError, match=message):
            find_source("yolo", source)

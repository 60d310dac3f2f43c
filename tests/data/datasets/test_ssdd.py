"""SSDD in every layout, generated and, where present, real."""

import json
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO

from distill.curate.prepare import prepare
from distill.data import SSDD, CocoInstances
from distill.data.datasets import find_source
from distill.data.datasets.ssdd import official_split
from distill.errors import UserError
from tests.data.published import (
    names,
    shared,
    ssdd_coco_official,
    ssdd_rsprompter,
    ssdd_voc,
)


def test_official_ssdd_split_is_the_last_digit() -> None:
    numbers = [f"{number:06d}.jpg" for number in range(1, 1161)]
    split = [official_split(name) for name in numbers]
    assert split.count("test") == 232
    assert split.count("train") == 928
    assert [official_split(name) for name in ("000001.jpg", "000019.jpg", "000190.jpg")] == ["test", "test", "train"]
    with pytest.raises(UserError, match="does not end in a digit"):
        official_split("ship.jpg")


@pytest.mark.parametrize("base", ["PSeg_SSDD/voc_style", "BBox_RBox_PSeg_SSDD/voc_style", "voc_style"])
def test_ssdd_voc_polygons(tmp_path: Path, base: str) -> None:
    source = ssdd_voc(tmp_path / "source", base=base)
    root = prepare("ssdd", source, tmp_path / "ssdd").root
    assert names(root, "official/test") == ["000001.jpg", "000009.jpg"]
    assert len(names(root, "official/train")) == 8
    data = COCO(str(root / "annotations/official/train.json"))
    assert len(data.anns) == 8 + 2  # 3 and 6 show two ships
    record = data.anns[min(data.anns)]
    assert record["bbox"] == [4, 6, 17, 12]
    assert record["segmentation"] == [[5, 6, 20.5, 6, 20.5, 18, 5, 18]]
    assert record["area"] == data.annToMask(record).sum() > 0
    loaded = SSDD(str(root), image_size=64, num_workers=0, batch_size=1, scale_jitter=(1.0, 1.0))
    assert loaded.class_names == ["ship"]
    (image, target) = loaded.dataset("test")[0]
    assert image.shape == (3, 64, 64)
    assert torch.equal(target.boxes, torch.tensor([[4.0, 6, 21, 18]]))
    with pytest.raises(UserError, match=r"lacks annotations/rsprompter/train\.json"):
        SSDD(str(root), split="rsprompter")
    with pytest.raises(UserError, match="unknown SSDD split 'offical': did you mean official"):
        SSDD(str(root), split="offical")


def test_ssdd_polygons_win_over_boxes_and_boxes_become_rectangles(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ssdd_voc(source, polygons=False, base="BBox_SSDD/voc_style")
    boxes = prepare("ssdd", source, tmp_path / "boxes")
    record = json.loads((boxes.root / "annotations/official/test.json").read_text())["annotations"][0]
    assert record["segmentation"] == [[4, 6, 21, 6, 21, 18, 4, 18]]
    ssdd_voc(source)
    polygons = prepare("ssdd", source, tmp_path / "polygons")
    record = json.loads((polygons.root / "annotations/official/test.json").read_text())["annotations"][0]
    assert record["segmentation"] == [[5, 6, 20.5, 6, 20.5, 18, 5, 18]]


def test_polygons_win_whatever_the_source_is_called(tmp_path: Path) -> None:
    source = tmp_path / "PSeg here and there"
    ssdd_voc(source, polygons=False, base="BBox_SSDD/voc_style")
    ssdd_voc(source)
    done = prepare("ssdd", source, tmp_path / "out")
    record = json.loads((done.root / "annotations/official/test.json").read_text())["annotations"][0]
    assert record["segmentation"] == [[5, 6, 20.5, 6, 20.5, 18, 5, 18]]


def test_ssdd_official_coco(tmp_path: Path) -> None:
    root = prepare("ssdd", ssdd_coco_official(tmp_path / "source"), tmp_path / "ssdd").root
    assert names(root, "official/test") == ["000001.jpg", "000009.jpg"]
    ids = [
        image["id"]
        for split in ("train", "test")
        for image in json.loads((root / f"annotations/official/{split}.json").read_text())["images"]
    ]
    assert len(set(ids)) == 6


def test_ssdd_rsprompter_files_give_both_splits(tmp_path: Path) -> None:
    root = prepare("ssdd", ssdd_rsprompter(tmp_path / "source"), tmp_path / "ssdd").root
    assert names(root, "rsprompter/val") == ["000003.jpg", "000011.jpg"]
    assert names(root, "rsprompter/train") == ["000001.jpg", "000002.jpg", "000004.jpg", "000009.jpg"]
    assert sorted(names(root, "official/test")) == ["000001.jpg", "000009.jpg", "000011.jpg"]
    record = json.loads((root / "annotations/rsprompter/train.json").read_text())["annotations"][0]
    assert record["id"] > 0  # published as 0
    assert (record["bbox"], record["area"]) == ([4, 6, 17, 13], 211.0)  # as published
    assert len(SSDD(str(root), split="rsprompter").dataset("val")) == 2


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation>", "cannot be read"),
        ("<annotation><size><width>9</width><height>9</height></size></annotation>", "is 9x9, but the image is 64x48"),
        ("<annotation><object><name>ship</name></object></annotation>", "neither <segm> nor <bndbox>"),
        ("<annotation><object><name>plane</name></object></annotation>", "class 'plane'"),
        ("", "cannot be read"),
        ("<annotation></annotation>", "has no <object>"),
        ("<html><body>not found</body></html>", "its root is <html>, not <annotation>"),
        ("<?xml version='1.0' encoding='foo'?><annotation></annotation>", "unknown encoding: foo"),
        (
            "<annotation><object><name>ship</name><segm><point>1;2</point></segm></object></annotation>",
            "cannot be read",
        ),
    ],
)
def test_damaged_voc_files(tmp_path: Path, xml: str, message: str) -> None:
    source = ssdd_voc(tmp_path / "source")
    path = next(source.rglob("000002.xml"))
    path.write_text(xml)
    with pytest.raises(UserError, match=message):
        prepare("ssdd", source, tmp_path / "ssdd")
    done = prepare("ssdd", source, tmp_path / "ssdd", on_error="skip")
    assert len(done.manifest["skipped"]) == 1
    assert "000002" in done.manifest["skipped"][0]
    assert "000002.jpg" not in names(done.root, "official/train")


def test_real_ssdd(tmp_path: Path) -> None:
    root = shared("ssdd")
    source = find_source("ssdd", root)
    assert len(source.items) == 1160
    splits = [split for item in source.items for split in item.splits]
    counts = {name: splits.count(name) for name in sorted(set(splits))}
    assert counts == {"official/test": 232, "official/train": 928, "rsprompter/train": 928, "rsprompter/val": 232}
    ships = [len(item.objects(*item.size)) for item in source.items if item.size]
    assert sum(ships) == 2102 + 484
    with pytest.raises(UserError, match="does not exist; correct the source"):
        prepare("ssdd", root, tmp_path / "ssdd")
    done = prepare("ssdd", root, tmp_path / "ssdd", on_error="skip")
    assert len(done.manifest["skipped"]) == 1158
    assert {name: split["objects"] for name, split in done.manifest["splits"].items()} == dict.fromkeys(counts, 1)
    assert names(done.root, "official/test") == names(done.root, "rsprompter/val") == ["000001.jpg"]


def test_ssdd_sample() -> None:
    root = shared("ssdd")
    paths = {f"{split}_images": str(root / "images") for split in ("train", "val")}
    paths |= {f"{split}_annotations": str(root / f"annotations/{split}_present.json") for split in ("train", "val")}
    data = CocoInstances(**paths, image_size=128, batch_size=1, num_workers=0)
    (batch,) = data.val_dataloader()
    assert data.class_names == ["ship"]
    assert batch["targets"][0].masks.dense().any()
    paths["val_annotations"] = str(root / "annotations/val.json")
    with pytest.raises(UserError, match="231 of 232 images listed in"):
        CocoInstances(**paths).setup("validate")

"""Published data sets in every layout, generated and, where present, real."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from distill.data import HRSID, NWPU, SSDD, WHU
from distill.data.conversion import prepare
from distill.data.images import BrokenImage, read_label
from distill.data.sources import NAMES, find_source
from distill.data.sources.nwpu import read_boxes
from distill.data.sources.ssdd import official_split
from distill.data.sources.whu import instances
from distill.errors import UserError
from tests.data.published import (
    SHARED,
    coco,
    hrsid_coco,
    nwpu_texts,
    save,
    scene,
    ssdd_coco_official,
    ssdd_rsprompter,
    ssdd_voc,
    whu_tiles,
    write_json,
)


def names(root: Path, split: str) -> list[str]:
    content = json.loads((root / f"annotations/{split}.json").read_text())
    return [image["file_name"] for image in content["images"]]


def test_unknown_data_sets_and_folders_without_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown data set 'sddd': did you mean ssdd"):
        find_source("sddd", tmp_path)
    with pytest.raises(UserError, match="--source 'nowhere' does not exist"):
        find_source("ssdd", "nowhere")
    for name in NAMES:
        with pytest.raises(UserError, match=f"--source '{tmp_path}' holds no"):
            find_source(name, tmp_path)


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
        ("<annotation><size><width>9</width><height>9</height></size></annotation>", "for an image of 9x9"),
        ("<annotation><object><name>ship</name></object></annotation>", "neither <segm> nor <bndbox>"),
        ("<annotation><object><name>plane</name></object></annotation>", "class 'plane'"),
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
    with pytest.raises(UserError, match=r"lacks annotations/test\.json; write it with: distill data prepare whu"):
        WHU(str(root))


def test_whu_labels_of_another_size_or_missing(tmp_path: Path) -> None:
    source = whu_tiles(tmp_path / "source")
    label = next(source.rglob("train/label/9.tif"))
    save(Image.new("1", (8, 8)), label)
    with pytest.raises(UserError, match="is 8x8, but its image is 64x48"):
        prepare("whu", source, tmp_path / "whu")
    label.unlink()
    with pytest.raises(UserError, match=r"9\.tif' does not exist"):
        prepare("whu", source, tmp_path / "whu")


def test_instances_of_one_building_and_of_none() -> None:
    assert instances(np.zeros((4, 4), bool)) == []
    (whole,) = instances(np.ones((4, 4), bool))
    assert whole.all()
    diagonal = instances(np.eye(5, dtype=bool))
    assert len(diagonal) == 5


def test_hrsid_coco(tmp_path: Path) -> None:
    root = prepare("hrsid", hrsid_coco(tmp_path / "source"), tmp_path / "hrsid").root
    assert names(root, "test") == ["P0003.jpg"]
    data = HRSID(str(root), image_size=64)
    assert data.class_names == ["ship"]
    assert len(data.dataset("train")) == 2


def test_other_suffix_on_the_disk_than_in_the_file(tmp_path: Path) -> None:
    source = hrsid_coco(tmp_path / "source")
    for path in source.rglob("*.jpg"):
        image = Image.open(path).copy()
        path.unlink()
        image.save(path.with_suffix(".png"))
    root = prepare("hrsid", source, tmp_path / "hrsid").root
    assert names(root, "test") == ["P0003.png"]


@pytest.mark.parametrize("data_class", [SSDD, WHU, HRSID])
def test_recipes_can_set_what_the_classes_hand_on(data_class: type) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(data_class, "data")
    values = parser.parse_object({"data": {"root": "x", "image_size": 256, "scale_jitter": [0.5, 1.5]}}).data
    assert (values.image_size, values.scale_jitter) == (256, (0.5, 1.5))
    for key in ("train_images", "val_annotations", "test_images"):
        assert key not in values
    assert ("split" in values) == (data_class is SSDD)


def test_nwpu_lines() -> None:
    objects = read_boxes("(563,478),(630,573),1 \r\n\r\n ( 1 , 2 ),( 3,4 ) ,10\r\n")
    assert [(record["category_id"], record["bbox"]) for record in objects] == [
        (1, [563, 478, 67, 95]),
        (10, [1, 2, 2, 2]),
    ]
    assert read_boxes("") == []
    for line in ("(1,2),(3,4)", "1,2,3,4,5", "(1,2),(3,4),x", "(1,2),(3,4),11", "(1,2),(3,4),0"):
        with pytest.raises(ValueError, match="line"):
            read_boxes(line)


def test_nwpu_text_files(tmp_path: Path) -> None:
    source = nwpu_texts(tmp_path / "source")
    copy = next(source.rglob("positive image set/005.jpg"))
    Image.open(copy).rotate(180).save(copy.with_name("009.jpg"))  # shows the same, turned
    root = prepare("nwpu", source, tmp_path / "nwpu").root
    train, val = names(root, "train"), names(root, "val")
    assert sorted(train + val) == [f"{number:03d}.jpg" for number in range(1, 13)]
    assert 0 < len(val) < 6
    assert ("005.jpg" in val) == ("009.jpg" in val)
    data = NWPU(str(root), image_size=64)
    assert len(data.class_names) == 10
    record = data.dataset("train").annotations.objects(0)[0]
    assert record["bbox"] == [5, 6, 15, 12]
    assert coco_mask.area(coco_mask.frPyObjects(record["segmentation"], 48, 64)).sum() == 15 * 12
    next(source.rglob("001.txt")).write_text("nonsense")
    with pytest.raises(UserError, match=r"ground truth .*001\.txt' cannot be read"):
        prepare("nwpu", source, tmp_path / "again")


def test_nwpu_masks_win_over_text_files(tmp_path: Path) -> None:
    source = nwpu_texts(tmp_path / "source")
    content = coco([f"{number:03d}.jpg" for number in range(1, 13)], category="airplane")
    write_json(content, source / "NWPU VHR-10 dataset/annotations.json")
    manifest = prepare("nwpu", source, tmp_path / "nwpu").manifest
    assert manifest["layout"] == "COCO, all"
    assert sum(split["images"] for split in manifest["splits"].values()) == 12


def shared(name: str) -> Path:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"the real data set {name} is not here")
    return root


def test_real_ssdd(tmp_path: Path) -> None:
    root = shared("ssdd")
    source = find_source("ssdd", root)
    assert len(source.items) == 1160
    splits = [split for item in source.items for split in item.splits]
    counts = {name: splits.count(name) for name in sorted(set(splits))}
    assert counts == {"official/test": 232, "official/train": 928, "rsprompter/train": 928, "rsprompter/val": 232}
    ships = [len(item.objects(*item.size)) for item in source.items if item.size]
    assert sum(ships) == 2102 + 484
    with pytest.raises(UserError, match="does not exist; mend the source"):
        prepare("ssdd", root, tmp_path / "ssdd")
    done = prepare("ssdd", root, tmp_path / "ssdd", on_error="skip")
    assert len(done.manifest["skipped"]) == 1158
    assert {name: split["objects"] for name, split in done.manifest["splits"].items()} == dict.fromkeys(counts, 1)
    assert names(done.root, "official/test") == names(done.root, "rsprompter/val") == ["000001.jpg"]


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


def test_real_hrsid(tmp_path: Path) -> None:
    done = prepare("hrsid", shared("hrsid_samples"), tmp_path / "hrsid")
    data = COCO(str(done.root / "annotations/all.json"))
    counts = {image["file_name"][:5]: len(data.imgToAnns[image["id"]]) for image in data.imgs.values()}
    assert counts == {"P0094": 10, "P0119": 122, "P0123": 8, "P0135": 6}
    assert min(record["area"] for record in data.anns.values()) == 67


def test_real_nwpu(tmp_path: Path) -> None:
    source = find_source("nwpu", shared("nwpu"))
    assert len(source.items) == 590
    assert list(source.class_names)[2] == "storage_tank"
    item = next(item for item in source.items if item.name == "001.jpg")
    assert item.splits == ("val",)
    assert item.image_id == 0
    assert item.objects(*item.size or (0, 0))[0]["bbox"] == [563, 485, 66, 86]


def test_a_label_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "label.tif").write_text("no image")
    with pytest.raises(BrokenImage, match="not an image"):
        read_label(tmp_path / "label.tif")
    save(scene(0).convert("P"), tmp_path / "palette.png")
    assert read_label(tmp_path / "palette.png").shape == (48, 64)

"""Published data sets in every layout, generated and, where present, real."""

import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from distill.data import HRSID, NWPU, SSDD, WHU
from distill.data.conversion import prepare
from distill.data.images import BrokenImage, read_image, read_label
from distill.data.sources import NAMES, find_source, nwpu
from distill.data.sources.folders import subfolders
from distill.data.sources.nwpu import read_boxes
from distill.data.sources.ssdd import official_split
from distill.data.sources.whu import instances
from distill.errors import UserError
from tests.data.published import (
    SHARED,
    coco,
    hrsid_coco,
    hrsid_masks,
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
        ("<annotation><size><width>9</width><height>9</height></size></annotation>", "for an image of 9x9"),
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


LAYOUTS: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    # how it is written, an image, the file that says what is on it, and what that file is called
    "hrsid": (hrsid_masks, "images/P0002.png", "instance_masks/P0002.png", "mask"),
    "nwpu": (nwpu_texts, "positive image set/003.jpg", "ground truth/003.txt", "text"),
    "ssdd": (ssdd_voc, "JPEGImages_train/000002.jpg", "Annotations_train/000002.xml", "XML file"),
    "whu": (whu_tiles, "val/image/9.tif", "val/label/9.tif", "label"),
}


def ending(source: Path, part: str) -> Path:
    (path,) = (path for path in source.rglob(Path(part).name) if path.as_posix().endswith(part))
    return path


def images_in(manifest: dict[str, Any]) -> int:
    return sum(split["images"] for split in manifest["splits"].values())


@pytest.mark.parametrize("name", NAMES)
def test_files_without_counterpart_stop_or_are_counted(tmp_path: Path, name: str) -> None:
    write, image, label, kind = LAYOUTS[name]
    source = write(tmp_path / "source")
    whole = images_in(prepare(name, source, tmp_path / "whole").manifest)
    ending(source, label).unlink()
    with pytest.raises(
        UserError, match=rf"^1 of \d+ images have no {kind}, for example '.*{image}'; add .*-on-error skip"
    ):
        prepare(name, source, tmp_path / "out")
    one = prepare(name, source, tmp_path / "out", on_error="skip").manifest
    assert (images_in(one), one["skipped_by_kind"]) == (whole - 1, {f"image without {kind}": 1})
    assert one["skipped"][0].endswith(f"{image}' has no {kind}")
    other = next(path for path in ending(source, image).parent.iterdir() if path != ending(source, image))
    other.unlink()
    with pytest.raises(UserError, match=f"images have no {kind}, .*; 1 of .* {kind}s have no image, for example"):
        prepare(name, source, tmp_path / "out")
    two = prepare(name, source, tmp_path / "out", on_error="skip").manifest
    assert two["skipped_by_kind"] == {f"image without {kind}": 1, f"{kind} without image": 1}
    assert not prepare(name, source, tmp_path / "out", on_error="skip").changed
    save(scene(7), ending(source, image).with_stem("0007"))
    assert prepare(name, source, tmp_path / "out", on_error="skip").changed  # there is more to list


def test_a_whu_part_without_its_labels(tmp_path: Path) -> None:
    source = whu_tiles(tmp_path / "source")
    shutil.rmtree(next(source.rglob("val/label")))
    with pytest.raises(UserError, match="3 of 3 images have no label"):
        prepare("whu", source, tmp_path / "whu")


def test_negative_images_of_nwpu_need_no_text(tmp_path: Path) -> None:
    source = nwpu_texts(tmp_path / "source")
    save(scene(500), next(source.rglob("negative image set")) / "650.jpg")
    assert images_in(prepare("nwpu", source, tmp_path / "nwpu").manifest) == 12


LEFTOVERS = {
    "hrsid": ("images/._P0001.png", "instance_masks/.ipynb_checkpoints/P0001.png", "__MACOSX/instance_masks/P9.png"),
    "nwpu": ("ground truth/._001.txt", "ground truth/readme.txt", "positive image set/Thumbs.db"),
    "ssdd": ("Annotations_train/._000002.xml", "JPEGImages_train/desktop.ini"),
    "whu": ("train/image/._9.tif", "train/image/.ipynb_checkpoints/9-checkpoint.tif", "train/label/9.tfw"),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_other_programs_leave_behind_is_no_data(tmp_path: Path, name: str) -> None:
    source = LAYOUTS[name][0](tmp_path / "source")
    clean = prepare(name, source, tmp_path / "out")
    base = ending(source, LAYOUTS[name][1]).parents[len(Path(LAYOUTS[name][1]).parts) - 1]
    for part in LEFTOVERS[name]:
        path = base / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\5\x16\7")
    assert not prepare(name, source, tmp_path / "out").changed
    assert clean.manifest["skipped"] == []


def test_the_folder_of_a_mac_archive_is_not_taken_for_the_data(tmp_path: Path) -> None:
    source = nwpu_texts(tmp_path / "source")
    (source / "NWPU VHR-10 dataset").rename(source / "nwpu")  # sorted behind __MACOSX
    for number in range(1, 13):
        path = source / f"__MACOSX/ground truth/{number:03d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\5\x16\7")
    assert images_in(prepare("nwpu", source, tmp_path / "nwpu").manifest) == 12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
def test_folders_and_suffixes_in_any_case(tmp_path: Path, name: str, change: Callable[[str], str]) -> None:
    source = LAYOUTS[name][0](tmp_path / "source")
    expected = prepare(name, source, tmp_path / "expected").manifest["splits"]
    for path in sorted(source.rglob("*"), reverse=True):  # the innermost first
        path.rename(path.with_name(change(path.name)) if path.is_dir() else path.with_suffix(change(path.suffix)))
    done = prepare(name, source, tmp_path / "out")
    assert {split: counts["images"] for split, counts in done.manifest["splits"].items()} == {
        split: counts["images"] for split, counts in expected.items()
    }


def test_coco_files_in_any_case(tmp_path: Path) -> None:
    source = hrsid_coco(tmp_path / "source")
    (source / "HRSID_JPG/annotations/train2017.json").rename(source / "HRSID_JPG/annotations/Train2017.JSON")
    (source / "HRSID_JPG/annotations").rename(source / "HRSID_JPG/Annotations")
    (source / "HRSID_JPG/JPEGImages").rename(source / "HRSID_JPG/jpegimages")
    assert images_in(prepare("hrsid", source, tmp_path / "hrsid").manifest) == 3


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    data = nwpu_texts(tmp_path / "elsewhere") / "NWPU VHR-10 dataset"
    source = tmp_path / "source"
    source.mkdir()
    (source / "data").symlink_to(data)
    for number in range(20):
        (source / f"loop{number}").symlink_to(source)
        (data / f"loop{number}").symlink_to(data)
    assert len(subfolders(source)) == 1 + 1 + 3
    assert images_in(prepare("nwpu", source, tmp_path / "nwpu").manifest) == 12


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


def test_colour_masks_with_loss_are_refused(tmp_path: Path) -> None:
    source = hrsid_masks(tmp_path / "source")
    mask = source / "instance_masks/P0002.png"
    Image.open(mask).save(mask.with_suffix(".jpg"))
    mask.unlink()
    with pytest.raises(UserError, match=r"P0002\.jpg' is a JPEG, whose compression adds colours"):
        prepare("hrsid", source, tmp_path / "hrsid")


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
    for empty in ("", "\r\n \r\n"):
        with pytest.raises(ValueError, match="it has no line"):
            read_boxes(empty)
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
    next(source.rglob("001.txt")).write_bytes(b"")
    with pytest.raises(UserError, match=r"001\.txt' cannot be read \(it has no line"):
        prepare("nwpu", source, tmp_path / "again")
    next(source.rglob("001.txt")).write_text("nonsense")
    with pytest.raises(UserError, match=r"ground truth .*001\.txt' cannot be read"):
        prepare("nwpu", source, tmp_path / "again")


def test_nwpu_ids_are_the_numbers_less_one(tmp_path: Path) -> None:
    source = nwpu_texts(tmp_path / "source")
    for part in ("positive image set/001.jpg", "ground truth/001.txt"):
        ending(source, part).unlink()
    assert {item.name: item.image_id for item in find_source("nwpu", source).items} == {
        f"{number:03d}.jpg": number - 1 for number in range(2, 13)
    }
    for path in (ending(source, "positive image set/002.jpg"), ending(source, "ground truth/002.txt")):
        path.rename(path.with_stem("port"))
    assert sorted(item.image_id for item in find_source("nwpu", source).items) == list(range(11))


def test_nwpu_holds_one_image_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def read(path: Path) -> torch.Tensor:
        assert not [pixels for pixels in alive if pixels() is not None]
        pixels = read_image(path)
        alive.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr(nwpu, "read_image", read)
    assert len(find_source("nwpu", nwpu_texts(tmp_path / "source")).items) == len(alive) == 12


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

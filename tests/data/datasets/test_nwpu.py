"""NWPU VHR-10 in every layout, generated and, where present, real."""

import weakref
from pathlib import Path

import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from distill.curate.prepare import prepare
from distill.data import NWPU
from distill.data.datasets import find_source, nwpu
from distill.data.datasets.nwpu_layout import read_boxes
from distill.data.images import read_image
from distill.errors import UserError
from tests.data.published import (
    coco,
    ending,
    images_in,
    names,
    nwpu_texts,
    save,
    scene,
    shared,
    write_json,
)


def test_negative_images_of_nwpu_need_no_text(tmp_path: Path) -> None:
    source = nwpu_texts(tmp_path / "source")
    save(scene(500), next(source.rglob("negative image set")) / "650.jpg")
    assert images_in(prepare("nwpu", source, tmp_path / "nwpu").manifest) == 12


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


def test_real_nwpu(tmp_path: Path) -> None:
    source = find_source("nwpu", shared("nwpu"))
    assert len(source.items) == 590
    assert list(source.class_names)[2] == "storage_tank"
    item = next(item for item in source.items if item.name == "001.jpg")
    assert item.splits == ("val",)
    assert item.image_id == 0
    assert item.objects(*item.size or (0, 0))[0]["bbox"] == [563, 485, 66, 86]

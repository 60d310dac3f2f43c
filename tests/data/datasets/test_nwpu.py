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
from distill.data.datasets.nwpu import read_boxes
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


@pytest.fixture
def real() -> NWPU:
    return NWPU(str(shared("nwpu")), image_size=256, num_workers=0, on_error="raise")


def test_nwpu_counts(real: NWPU) -> None:
    expected = {
        "airplane": (522, 183), "ship": (194, 61), "storage_tank": (506, 25), "baseball_diamond": (292, 62),
        "tennis_court": (379, 71), "basketball_court": (135, 14), "ground_track_field": (123, 29), "harbor": (119, 45),
        "bridge": (86, 30), "vehicle": (429, 154),
    }  # fmt: skip
    assert real.class_names == list(expected)
    for column, (split, images) in enumerate({"train": 468, "val": 122}.items()):
        truth = real.ground_truth(split)
        assert len(truth["images"]) == images
        ids = [record["id"] for record in truth["annotations"]]
        assert ids == list(range(1, len(ids) + 1))
        for category in truth["categories"]:
            found = sum(record["category_id"] == category["id"] for record in truth["annotations"])
            assert found == expected[category["name"]][column]


def test_nwpu_views(real: NWPU) -> None:
    data = real.dataset("val")
    for index in range(0, len(data), 12):
        image, target = data[index]
        height, width = target.size
        assert max(height, width) == 256
        assert image.shape == (3, 256, 256)
        assert len(target.labels) == len(data.annotations.objects(target.image_id)) > 0
        assert (target.boxes[:, :2] >= 0).all()
        assert (target.boxes <= torch.tensor([width, height, width, height])).all()
        for box, mask in zip(target.boxes, target.masks, strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            extent = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert (box - extent).abs().max() < 2
    batch = next(iter(real.train_dataloader()))
    assert batch["image"].shape == (4, 3, 256, 256)


def test_a_folder_that_was_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks images, annotations/train\.json, .*NWPU needs"):
        NWPU(str(tmp_path))

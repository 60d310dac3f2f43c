"""HRSID in both layouts, generated and, where present, real."""

from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from distill.curate.prepare import prepare
from distill.data import HRSID
from distill.errors import UserError
from tests.data.published import (
    hrsid_coco,
    hrsid_masks,
    names,
    shared,
)


def test_colour_masks_with_loss_are_refused(tmp_path: Path) -> None:
    source = hrsid_masks(tmp_path / "source")
    mask = source / "instance_masks/P0002.png"
    Image.open(mask).save(mask.with_suffix(".jpg"))
    mask.unlink()
    with pytest.raises(UserError, match=r"P0002\.jpg' is a JPEG, whose compression adds colours"):
        prepare("hrsid", source, tmp_path / "hrsid")


def test_hrsid_coco(tmp_path: Path) -> None:
    root = prepare("hrsid", hrsid_coco(tmp_path / "source"), tmp_path / "hrsid").root
    assert names(root, "test") == ["P0003.jpg"]
    data = HRSID(str(root), image_size=64)
    assert data.class_names == ["ship"]
    assert len(data.dataset("train")) == 2


def test_real_hrsid(tmp_path: Path) -> None:
    done = prepare("hrsid", shared("hrsid_samples"), tmp_path / "hrsid")
    data = COCO(str(done.root / "annotations/all.json"))
    counts = {image["file_name"][:5]: len(data.imgToAnns[image["id"]]) for image in data.imgs.values()}
    assert counts == {"P0094": 10, "P0119": 122, "P0123": 8, "P0135": 6}
    assert min(record["area"] for record in data.anns.values()) == 67

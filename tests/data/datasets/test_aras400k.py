"""ARAS400k in its published layout, generated."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data import ARAS400k
from distill.data.datasets.aras400k import check_md5
from distill.errors import UserError


def test_aras400k(tmp_path: Path) -> None:
    colours = [(0, 100, 0), (255, 182, 193), (154, 205, 50), (255, 215, 0), (139, 69, 19), (211, 211, 211), (0, 0, 255)]
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        Image.fromarray(np.array([colours], np.uint8)).save(tmp_path / split / "masks/tile.png")
        Image.new("RGB", (7, 1)).save(tmp_path / split / "images/tile.png")
    data = ARAS400k(str(tmp_path))
    assert data.class_names == ["tree", "shrub", "grass", "crop", "built-up", "barren", "water"]
    assert data.dataset("test")[0]["label"].tolist() == [list(range(7))]
    assert not data.selects_on_test
    Image.fromarray(np.array([[*colours[:6], (9, 9, 9)]], np.uint8)).save(tmp_path / "val/masks/tile.png")
    with pytest.raises(UserError, match=r"val/masks/tile.png' has the colour \[9, 9, 9\] at pixel x=6 y=0"):
        data.dataset("val")[0]
    with pytest.raises(UserError, match=r"none of train.zip"):
        ARAS400k(str(tmp_path), check_archives=True)
    (tmp_path / "val.zip").write_bytes(b"not the archive")
    with pytest.raises(
        UserError, match=r"val.zip' is damaged or another version: its MD5 is \w{32}, published is 76e6"
    ):
        ARAS400k(str(tmp_path), check_archives=True)
    check_md5(tmp_path, {"val.zip": hashlib.md5(b"not the archive").hexdigest()})

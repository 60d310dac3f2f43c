"""Vaihingen and Potsdam in the layout of their archives, generated."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data import ISPRS
from distill.data.class_table import IGNORE
from distill.data.datasets.isprs import AREAS, CLASSES
from distill.errors import UserError


@pytest.mark.parametrize("area", AREAS)
def test_isprs(tmp_path: Path, area: str) -> None:
    names = AREAS[area]
    mask = np.array([[*CLASSES.values(), [0, 0, 0]]], np.uint8)
    for number, tile in enumerate((names.train + " " + names.test).split()):
        for folders, name in ((names.images, names.image), (names.masks, names.mask)):
            path = tmp_path / folders[0] / name.format(tile)
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(mask + np.uint8(number > 99)).save(path)
    data = ISPRS(str(tmp_path), area)
    counts = [len(data.dataset(split)) for split in ("train", "test")]
    assert counts == {"vaihingen": [16, 17], "potsdam": [24, 14]}[area]
    assert not {p.image for p in data.find("train")} & {p.image for p in data.find("test")}
    assert data.dataset("test")[0]["label"].tolist() == [[0, 1, 2, 3, 4, 5, IGNORE]]
    with pytest.raises(UserError, match=r"noBoundary.tif in "):
        ISPRS(str(tmp_path), area, eroded=True).dataset("test")
    with pytest.raises(UserError, match="did you mean potsdam"):
        ISPRS(str(tmp_path), "potsdm")

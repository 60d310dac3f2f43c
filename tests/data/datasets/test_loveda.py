"""LoveDA in its published layout, generated."""

from pathlib import Path

import numpy as np
from PIL import Image

from distill.data import LoveDA
from distill.data.class_table import IGNORE


def test_loveda(tmp_path: Path) -> None:
    for number, part in enumerate(("Train/Urban", "Train/Rural", "Val/Urban", "Val/Rural")):
        for kind in ("images_png", "masks_png"):
            (tmp_path / part / kind).mkdir(parents=True)
        Image.new("RGB", (8, 1)).save(tmp_path / part / f"images_png/{number}.png")
        Image.fromarray(np.arange(8, dtype=np.uint8)[None]).save(tmp_path / part / f"masks_png/{number}.png")
    data = LoveDA(str(tmp_path), val_fraction=0.5)
    assert data.dataset("test")[1]["label"].tolist() == [[IGNORE, 0, 1, 2, 3, 4, 5, 6]]
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [1, 1, 2]
    assert data.class_names[5:] == ["forest", "agriculture"]

"""The real land-cover tiles of Dubai, where they are present."""

from itertools import pairwise

from distill.data import DubaiLandCover
from distill.data.class_table import IGNORE
from distill.data.sample_key import SampleKey
from tests.data.published import shared


def test_dubai() -> None:
    root = str(shared("landcover"))
    data = DubaiLandCover(root, image_size=64, zoom=0.5, num_workers=0)
    tiles = {split: {data.tile_of(pair) for pair in data.find(split)} for split in ("train", "test")}
    assert tiles == {"train": {f"tile{t}" for t in (1, 2, 5, 6, 7, 8)}, "test": {"tile3", "tile4"}}
    assert [len(data.dataset(split)) for split in ("train", "test")] == [54, 18]
    held_out = DubaiLandCover(root, val_fraction=0.2)
    parts = [{data.tile_of(pair) for pair in held_out.dataset(split).pairs} for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [5, 1, 2]
    assert not any(first & second for first, second in pairwise([*parts, parts[0]]))  # whole tiles
    sample, view = data.dataset("test")[0], data.dataset("train")[SampleKey(0, 0)]
    assert sample["image"].shape == (3, 329, 341)
    assert sample["label"].shape == (658, 682)
    assert set(sample["label"].unique().tolist()) <= {0, 1, 2, 3, 4, IGNORE}
    assert view["image"].shape == (3, 64, 64)
    assert 0 <= float(view["image"].min()) <= float(view["image"].max()) <= 1

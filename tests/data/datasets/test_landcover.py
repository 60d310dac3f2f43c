"""Images with masks: what masks mean, which belong together, what views show, and what bad data is told."""

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from torch import Tensor

from distill.data import ISPRS, ARAS400k, DubaiLandCover, LoveDA, SemanticFolder
from distill.data.class_table import IGNORE, ClassTable
from distill.data.datasets.isprs import AREAS, CLASSES
from distill.data.datasets.landcover import check_md5
from distill.data.loader import Draw
from distill.data.views.augmentation import Augmentation
from distill.errors import UserError
from tests.data.published import SHARED

LANDCOVER = SHARED / "landcover"
COLOURS = {"red": [200, 0, 0], "green": [0, 200, 0], "blue": [0, 0, 200]}
INDICES = {name: index for index, name in enumerate(COLOURS)}


def blocks(seed: int, height: int = 20, width: int = 28) -> np.ndarray:
    """Labels (H, W) in blocks of 4 pixels, some of them without a label."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, IGNORE], (height // 4, width // 4), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)


def painted(labels: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) that shows every class in its colour, black where nothing is labelled."""
    return np.array([*COLOURS.values(), [0, 0, 0]], np.uint8)[np.minimum(labels, 3)]


def write(root: Path, colours: bool, count: int = 4, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Folders of images and masks, with indices or colours."""
    for part in splits:
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        for number in range(count):
            labels = blocks(number + 10 * splits.index(part))
            Image.fromarray(painted(labels)).save(root / part / "images" / f"{number}.png")
            mask = painted(labels) if colours else labels
            Image.fromarray(mask).save(root / part / "masks" / f"{number}.png")
    return root


def folder(root: Path, colours: bool = False, **settings: Any) -> SemanticFolder:
    table: dict[str, Any] = (
        {"classes": COLOURS, "ignore": [[0, 0, 0]]}
        if colours
        else {
            "classes": INDICES,
            "ignore": [IGNORE],
        }
    )
    return SemanticFolder(str(root), **table | {"image_size": 16, "batch_size": 2, "num_workers": 0} | settings)


def read_off(image: Tensor) -> Tensor:
    """Labels (H, W) from the colours of an image (3, H, W)."""
    strongest = image.max(0)
    return torch.where(strongest.values > 0.5, strongest.indices, IGNORE)


@pytest.mark.parametrize("colours", [False, True])
def test_masks_of_indices_and_of_colours_are_the_same_labels(tmp_path: Path, colours: bool) -> None:
    data = folder(write(tmp_path, colours), colours)
    assert data.class_names == ["red", "green", "blue"]
    for index, pair in enumerate(data.find("train")):
        assert pair.image.stem == pair.mask.stem == str(index)
        sample = data.dataset("val")[index]
        assert torch.equal(sample["label"], torch.from_numpy(blocks(10 + index)))
        assert torch.equal(sample["label"].long(), read_off(sample["image"]))


def test_palettes_are_indices_or_colours_as_the_table_says(tmp_path: Path) -> None:
    labels = blocks(0)
    mask = Image.fromarray(np.minimum(labels, 3))
    mask.putpalette([*np.array(list(COLOURS.values())).flatten().tolist(), 0, 0, 0])
    assert mask.mode == "P"
    mask.save(tmp_path / "mask.png")
    by_colour = ClassTable(COLOURS, [[0, 0, 0]]).read(tmp_path / "mask.png")
    by_index = ClassTable(INDICES, [3]).read(tmp_path / "mask.png")
    assert torch.equal(by_colour, torch.from_numpy(labels))
    assert torch.equal(by_index, by_colour)


def test_an_unknown_value_is_named_with_pixel_and_file(tmp_path: Path) -> None:
    mask = painted(blocks(0))
    mask[3, 5] = [1, 2, 3]
    mask[4, 0] = [255, 255, 255]
    Image.fromarray(mask).save(tmp_path / "bad.png")
    with pytest.raises(UserError, match=r"bad.png' has the colour \[1, 2, 3\] at pixel x=5 y=3 \(2 such pixels\)"):
        ClassTable(COLOURS, [[0, 0, 0]]).read(tmp_path / "bad.png")
    for value in (7, 5 - 2**31):
        Image.fromarray(np.array([[0, 1], [2, value]], np.int32)).save(tmp_path / "bad.tif")
        with pytest.raises(UserError, match=rf"bad.tif' has the value {value} at pixel x=1 y=1"):
            ClassTable(INDICES, [IGNORE]).read(tmp_path / "bad.tif")
    with pytest.raises(UserError, match="is a colour image"):
        ClassTable(INDICES).read(tmp_path / "bad.png")
    with pytest.raises(UserError, match="is a grey or single-band image"):
        ClassTable(COLOURS).read(tmp_path / "bad.tif")


@pytest.mark.parametrize(
    ("classes", "ignore", "message"),
    [
        ({"a": 0}, [], "has 1 names"),
        ({"a": 0, "b": 0}, [], "value 0 is listed twice"),
        ({"a": 0, "b": 1}, [1], "value 1 is listed twice"),
        ({"a": 0, "b": [0, 0, 0]}, [], "mix indices with colours"),
        ({"a": [0, 0, 0], "b": [1, 1, 1]}, [255], "mix indices with colours"),
        ({"a": [0, 0, 0], "b": [0, 256, 0]}, [], "is not three numbers"),
        ({"a": [0, 0, 0], "b": [0, 1]}, [], "is not three numbers"),
        ({"a": 0, "b": -1}, [], "is not in 0 to 65535"),
    ],
)
def test_class_tables_that_cannot_be(classes: dict[str, Any], ignore: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClassTable(classes, ignore)


def test_labels_follow_the_image_through_mirrors_and_turns(tmp_path: Path) -> None:
    data = folder(write(tmp_path, False), image_size=32, scale=(1.0, 1.0), augmentation=Augmentation(rotate=True))
    views = data.dataset("train")
    shown = []
    for epoch in range(12):
        sample = views[Draw(1, epoch)]
        # 20 x 28 pixels, whole and unscaled, in a square of 32; the padding has no label.
        known = sample["label"] != IGNORE
        assert torch.equal(sample["label"].long()[known], read_off(sample["image"])[known])
        assert sorted(sample["label"].flatten().tolist()) == sorted([*blocks(1).flatten(), *[IGNORE] * (32**2 - 560)])
        shown.append(sample["label"])
    assert len({tuple(label.flatten().tolist()) for label in shown}) > 4
    assert torch.equal(views[Draw(1, 3)]["image"], views[Draw(1, 3)]["image"])


def test_zoomed_crops_keep_labels_on_their_pixels(tmp_path: Path) -> None:
    views = folder(write(tmp_path, False), zoom=2.0, scale=(0.75, 1.5)).dataset("train")
    agreement = []
    for epoch in range(12):
        sample = views[Draw(0, epoch)]
        assert sample["image"].shape == (3, 16, 16)
        assert sample["label"].shape == (16, 16)
        known = sample["label"] != IGNORE
        agreement.append((sample["label"].long() == read_off(sample["image"]))[known].float().mean())
    assert float(torch.stack(agreement).mean()) > 0.85  # borders are blurred


def test_evaluation_zooms_images_and_leaves_labels(tmp_path: Path) -> None:
    data = folder(write(tmp_path, False), zoom=0.5)
    sample = data.dataset("val")[0]
    assert sample["image"].shape == (3, 10, 14)
    assert torch.equal(sample["label"], torch.from_numpy(blocks(10)))


def test_evaluation_batches_hold_one_size_each(tmp_path: Path) -> None:
    root = write(tmp_path, False)
    for kind, raster in (("images", painted(blocks(5, 12, 8))), ("masks", blocks(5, 12, 8))):
        Image.fromarray(raster).save(root / "val" / kind / "1.png")
    (batch,) = folder(root, batch_size=4).val_dataloader()
    assert [tuple(part["image"].shape) for part in batch] == [(3, 3, 20, 28), (1, 3, 12, 8)]
    assert [tuple(part["label"].shape) for part in batch] == [(3, 20, 28), (1, 12, 8)]


def rename(root: Path) -> None:
    (root / "val/masks/2.png").rename(root / "val/masks/other.png")


def shrink(root: Path) -> None:
    Image.fromarray(blocks(0)[:-4]).save(root / "val/masks/2.png")


def empty(root: Path) -> None:
    for path in (root / "val/images").iterdir():
        path.unlink()


def discolour(root: Path) -> None:
    Image.fromarray(blocks(0) + np.uint8(9)).save(root / "val/masks/2.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rename, r"1 of 4 images have no mask file in '.*val/masks', for example '2'"),
        (shrink, r"val/masks/2.png' is 28x16, but its image '.*2.png' is 28x20"),
        (empty, r"val/images' holds no images"),
        (discolour, r"val/masks/2.png' has the value \d+ at pixel x=\d+ y=\d+"),
        (lambda root: (root / "val").rename(root / "valid"), r"folder of the images, '.*val/images', does not exist"),
        (lambda root: (root / "val/masks/2.png").write_bytes(b"x"), r"2.png' is not an image"),
    ],
)
def test_bad_data_is_one_line(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(write(tmp_path, False))
    data = folder(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        list(data.val_dataloader())
    assert "\n" not in str(caught.value)


def test_broken_training_files_are_skipped_but_wrong_masks_are_not(tmp_path: Path) -> None:
    root = write(tmp_path, False)
    (root / "train/images/1.png").write_bytes(b"x")
    data = folder(root)
    assert sum(len(batch["image"]) for batch in data.train_dataloader()) == 4
    assert data.skipped == ["1.png"]
    with pytest.raises(UserError, match=r"1\.png. is not an image"):
        list(folder(root, on_error="raise").train_dataloader())
    Image.fromarray(blocks(0) + np.uint8(9)).save(root / "train/masks/2.png")
    with pytest.raises(UserError, match="has the value"):
        list(folder(root).train_dataloader())


def test_splits_by_lists(tmp_path: Path) -> None:
    root = write(tmp_path, False, splits=("all",))
    (tmp_path / "some.txt").write_text("2\n0.png\n\n")
    data = folder(root / "all", train="../some.txt", val="rest.txt")
    assert [pair.image.name for pair in data.find("train")] == ["2.png", "0.png"]
    for text, message in (
        ("", "is empty"),
        ("1\n1", "names '1' twice"),
        ("1\n7", r"1 of 2 images have no image file in '.*images', for example '7'"),
    ):
        (root / "all/rest.txt").write_text(text)
        with pytest.raises(UserError, match=message):
            data.find("val")
    (root / "all/rest.txt").unlink()
    with pytest.raises(UserError, match=r"rest.txt' cannot be read"):
        data.find("val")


def test_what_is_held_out_is_neither_trained_on_nor_reported(tmp_path: Path) -> None:
    root = write(tmp_path, False)
    plain, data = folder(root), folder(root, val_fraction=0.25)
    assert plain.selects_on_test
    assert not data.selects_on_test
    assert len(data.dataset("train")) == 3
    assert {*data.dataset("train").pairs, *data.dataset("val").pairs} == set(plain.find("train"))
    assert data.dataset("test").pairs == plain.find("val")
    assert not folder(write(tmp_path / "more", False, splits=("train", "val", "test")), test="test").selects_on_test
    with pytest.raises(UserError, match="validation images apart from the test images already"):
        folder(tmp_path / "more", test="test", val_fraction=0.5).setup("fit")
    assert len(folder(root, train_limit=2).dataset("train")) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zoom": 0.0}, "zoom is 0"),
        ({"val_fraction": 1.0}, "val_fraction is 1"),
        ({"scale": (2.0, 1.0)}, "scale is"),
        ({"train_limit": 0}, "train_limit is 0"),
        ({"on_error": "ignore"}, "on_error"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        folder(tmp_path, **settings)


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


@pytest.mark.skipif(not LANDCOVER.is_dir(), reason="needs the land-cover images in ../shared/data/landcover")
def test_dubai() -> None:
    data = DubaiLandCover(str(LANDCOVER), image_size=64, zoom=0.5, num_workers=0)
    tiles = {split: {data.tile_of(pair) for pair in data.find(split)} for split in ("train", "test")}
    assert tiles == {"train": {f"tile{t}" for t in (1, 2, 5, 6, 7, 8)}, "test": {"tile3", "tile4"}}
    assert [len(data.dataset(split)) for split in ("train", "test")] == [54, 18]
    held_out = DubaiLandCover(str(LANDCOVER), val_fraction=0.2)
    parts = [{data.tile_of(pair) for pair in held_out.dataset(split).pairs} for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [5, 1, 2]
    assert not any(first & second for first, second in pairwise([*parts, parts[0]]))  # whole tiles
    sample, view = data.dataset("test")[0], data.dataset("train")[Draw(0, 0)]
    assert sample["image"].shape == (3, 329, 341)
    assert sample["label"].shape == (658, 682)
    assert set(sample["label"].unique().tolist()) <= {0, 1, 2, 3, 4, IGNORE}
    assert view["image"].shape == (3, 64, 64)
    assert 0 <= float(view["image"].min()) <= float(view["image"].max()) <= 1


def test_negative_and_float_masks_are_indices(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, -9999]])
    for dtype in (np.int16, np.int32, np.float32):
        raster(tmp_path / "mask.tif", labels.astype(dtype))
        with pytest.raises(UserError, match=r"mask\.tif' has the value -9999 at pixel x=1 y=1 \(1 such pixels\)"):
            ClassTable(INDICES, [IGNORE]).read(tmp_path / "mask.tif")
        assert ClassTable(INDICES, [-9999]).read(tmp_path / "mask.tif").tolist() == [[0, 1], [2, IGNORE]]
    raster(tmp_path / "mask.tif", np.array([[0, 1], [2, 2**32 - 1]], np.uint32))
    assert ClassTable(INDICES, [2**32 - 1]).read(tmp_path / "mask.tif").tolist() == [[0, 1], [2, IGNORE]]
    for value, named in ((np.nan, "nan"), (0.5, "0.5"), (-3.4e38, "-3.4e[+]38")):
        raster(tmp_path / "mask.tif", np.array([[0, 1], [2, value]], np.float32))
        with pytest.raises(UserError, match=rf"has the value {named} at pixel x=1 y=1 .* a class is a whole number"):
            ClassTable(INDICES, [IGNORE]).read(tmp_path / "mask.tif")


def raster(path: Path, values: np.ndarray) -> None:
    height, width = values.shape
    transform = rasterio.Affine(10, 0, 5e5, 0, -10, 0)
    with rasterio.open(path, "w", "GTiff", width, height, 1, dtype=values.dtype, transform=transform) as dataset:
        dataset.write(values, 1)


def test_an_image_that_exif_turns_away_from_its_mask(tmp_path: Path) -> None:
    data = folder(write(tmp_path, False), val_fraction=0.0)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "val" / "images" / "0.png"
    Image.open(path).save(path, exif=exif)
    with pytest.raises(UserError, match=r"0\.png' is 28x20, but its image .* is 20x28 .* EXIF orientation turns it"):
        data.dataset("val")[0]

"""Folders of images and masks: which belong together, what is held out, and what bad data is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distill.errors import UserError
from tests.data.landcover import blocks, folder, read_off, write


def rename(root: Path) -> None:
    (root / "val/masks/2.png").rename(root / "val/masks/other.png")


def shrink(root: Path) -> None:
    Image.fromarray(blocks(0)[:-4]).save(root / "val/masks/2.png")


def empty(root: Path) -> None:
    for path in (root / "val/images").iterdir():
        path.unlink()


def discolour(root: Path) -> None:
    Image.fromarray(blocks(0) + np.uint8(9)).save(root / "val/masks/2.png")


@pytest.mark.parametrize("colours", [False, True])
def test_masks_of_indices_and_of_colours_are_the_same_labels(tmp_path: Path, colours: bool) -> None:
    data = folder(write(tmp_path, colours), colours)
    assert data.class_names == ["red", "green", "blue"]
    for index, pair in enumerate(data.find("train")):
        assert pair.image.stem == pair.mask.stem == str(index)
        sample = data.dataset("val")[index]
        assert torch.equal(sample["label"], torch.from_numpy(blocks(10 + index)))
        assert torch.equal(sample["label"].long(), read_off(sample["image"]))


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
        ({"scale_jitter": (2.0, 1.0)}, "scale_jitter is"),
        ({"train_limit": 0}, "train_limit is 0"),
        ({"on_error": "ignore"}, "on_error"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        folder(tmp_path, **settings)

"""Views of images and labels: whole and zoomed for evaluation, labels on their pixels in training."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from distill.data.class_table import IGNORE
from distill.data.sample_key import SampleKey
from distill.errors import UserError
from tests.data.landcover import blocks, folder, painted, read_off, write


def test_labels_follow_the_image_through_mirrors_and_turns(tmp_path: Path) -> None:
    data = folder(write(tmp_path, False), image_size=32, scale_jitter=(1.0, 1.0), turns=True)
    views = data.dataset("train")
    shown = []
    for epoch in range(12):
        sample = views[SampleKey(1, epoch)]
        # 20 x 28 pixels, whole and unscaled, in a square of 32; the padding has no label.
        known = sample["label"] != IGNORE
        assert torch.equal(sample["label"].long()[known], read_off(sample["image"])[known])
        assert sorted(sample["label"].flatten().tolist()) == sorted([*blocks(1).flatten(), *[IGNORE] * (32**2 - 560)])
        shown.append(sample["label"])
    assert len({tuple(label.flatten().tolist()) for label in shown}) > 4
    assert torch.equal(views[SampleKey(1, 3)]["image"], views[SampleKey(1, 3)]["image"])


def test_zoomed_crops_keep_labels_on_their_pixels(tmp_path: Path) -> None:
    views = folder(write(tmp_path, False), zoom=2.0, scale_jitter=(0.75, 1.5)).dataset("train")
    agreement = []
    for epoch in range(12):
        sample = views[SampleKey(0, epoch)]
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


def test_an_image_that_exif_turns_away_from_its_mask(tmp_path: Path) -> None:
    data = folder(write(tmp_path, False), val_fraction=0.0)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "val" / "images" / "0.png"
    Image.open(path).save(path, exif=exif)
    with pytest.raises(UserError, match=r"0\.png' is 28x20, but its image .* is 20x28 .* EXIF orientation turns it"):
        data.dataset("val")[0]

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from distill.errors import UserError
from distill.tasks.probes.patches import PatchProbe
from distill.tasks.probes.whole_images import ImageProbe

CLASSES: dict[str, int | list[int]] = {"water": 1, "forest": 2}
COLOURS = {1: (20, 40, 160), 2: (20, 120, 40), 255: (128, 128, 128)}


def colours(images: Tensor) -> Tensor:
    return avg_pool2d(images, 4)


def write_image(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, value in (("forest", 2), ("water", 1)):
        for number in range(10):
            noise = generator.integers(-15, 16, (20, 30, 3))
            write_image(tmp_path / "scenes" / name / f"{number}.png", (COLOURS[value] + noise).astype(np.uint8))
    return tmp_path / "scenes"


@pytest.fixture
def land_cover(tmp_path: Path) -> Path:
    """Images of 40 x 40 px in quarters: water, forest, not labelled, and half of each."""
    for split in ("train", "val"):
        for number in range(3):
            mask = np.full((40, 40), 255, np.uint8)
            mask[:16, :16], mask[:16, 16:32] = 1, 2
            mask[16:32, 16:24], mask[16:32, 24:32] = 1, 2
            image = np.array([COLOURS[int(value)] for value in mask.ravel()], np.uint8).reshape(40, 40, 3)
            write_image(tmp_path / "cover" / split / "images" / f"{number}.png", image)
            write_image(tmp_path / "cover" / split / "masks" / f"{number}.png", mask)
    return tmp_path / "cover"


def test_scenes_in_class_folders(class_folders: Path) -> None:
    probe = ImageProbe(str(class_folders), image_size=16, shots=5, draws=2)
    data = probe.load()
    assert data.class_names == ["forest", "water"]
    assert len(data.train) + len(data.val) == 20
    assert 2 <= len(data.val) <= 10
    assert probe.score(colours) == {"linear": 1.0, "few_shot": 1.0, "knn": 1.0}
    both = ImageProbe(str(class_folders), str(class_folders), image_size=16, shots=None, val_per_class=3).load()
    assert (len(both.train), len(both.val)) == (20, 6)


def test_class_folders_that_cannot_be_probed(class_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'nowhere' does not exist"):
        ImageProbe("nowhere").load()
    with pytest.raises(UserError, match="holds no folder"):
        ImageProbe(str(class_folders / "water")).load()
    with pytest.raises(UserError, match="one class 'scenes'"):
        ImageProbe(str(tmp_path)).load()
    write_image(tmp_path / "val" / "water" / "0.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="class 'forest' has a folder in only one of"):
        ImageProbe(str(class_folders), str(tmp_path / "val")).load()
    with pytest.raises(UserError, match="val_fraction is 0"):
        ImageProbe(str(class_folders), val_fraction=0)


def test_patches_have_the_class_of_half_of_their_pixels(land_cover: Path) -> None:
    probe = PatchProbe(str(land_cover), CLASSES, [255], image_size=16, shots=None)
    data = probe.load()
    # Of each image: water, forest, and the half-and-half one, whose first class counts; the grey one is left out.
    assert torch.bincount(data.train.labels).tolist() == [6, 3]
    assert sorted(data.train.regions.sum((1, 2)).tolist()) == [128] * 3 + [256] * 6
    assert probe.score(colours) == {"linear": 1.0, "knn": 1.0, "tokens": 1.0}


def test_patches_that_are_not_there(land_cover: Path) -> None:
    with pytest.raises(UserError, match="no train image holds a patch of 64 px"):
        PatchProbe(str(land_cover), CLASSES, [255], image_size=64).load()
    classes = CLASSES | {"road": 3}
    with pytest.raises(UserError, match="class 'road' has no validation patch; list its value in `ignore`"):
        PatchProbe(str(land_cover), classes, [255], image_size=16).load()
    with pytest.raises(UserError, match="shots is 20, but class 'forest' has fewer training patches, 3;"):
        PatchProbe(str(land_cover), CLASSES, [255], image_size=16).load()

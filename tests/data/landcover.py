"""Small land-cover data: blocks of labels, images that show each class in its colour, and a data module of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distill.data import SemanticFolder
from distill.data.class_table import IGNORE

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

"""Small caches: images as files, a teacher that needs no network, and what a folder holds."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from distill.data.views.folder import FolderViews
from distill.targets.cache.folder import CacheFolder, CacheInfo, StoredTarget
from distill.targets.cache.reader import StoredTargets
from distill.targets.cache.writer import CacheWriter

SIDE, GRID = 32, 4
TRAIN, VALIDATION, POOL = 10, 3, 2
SHARDS = 12  # of two entries: five for each training view, two for validation


def write_images(root: Path) -> Path:
    """Images for training and validation; names are no order of anything."""
    draw = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("val", VALIDATION)):
        (root / part).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 256, (40, 48, 3), np.uint8)
            Image.fromarray(pixels).save(root / part / f"{number * 7 % count}_{number}.png")
    return root


def views(root: Path, part: str, size: int = SIDE) -> FolderViews:
    paths = sorted((root / part).glob("*.png"), reverse=True)
    random = {"crop_area": (0.3, 1.0), "flip": True, "turns": True} if part == "train" else {}
    return FolderViews(root / part, paths, size, "skip", **random)


def teach(images: Tensor) -> dict[str, Tensor]:
    """Features that depend on every pixel, the same for every batch."""
    pooled = F.adaptive_avg_pool2d(images, GRID)
    return {"mean": 3 * pooled, "square": pooled.square() - 0.2}


def info(dtype: str = "float16", pool: int = POOL, **changes: Any) -> CacheInfo:
    shape = (3, GRID, GRID)
    settings: dict[str, Any] = {
        "key": {"format": 1, "seed": 0},
        "targets": {"mean": StoredTarget(shape, SIDE // GRID), "square": StoredTarget(shape, SIDE // GRID)},
        "dtype": dtype,
        "views": pool,
        "images": TRAIN,
        "validation_images": VALIDATION,
        "shard_entries": 2,
        "batch_size": 2,
        "teacher": {"class": "tests.Teacher", "label": "Teacher", "digest": "0" * 16, "precision": "float32"},
    }
    return CacheInfo(**settings | changes)


def write(
    images: Path, out: Path, header: CacheInfo | None = None, teacher: Any = teach, workers: int = 0
) -> CacheInfo:
    """Writes what is missing of a cache."""
    train, validation = views(images, "train"), views(images, "val")
    return CacheWriter(CacheFolder(out), header or info(), train, validation, teacher, workers).write()


def attach(views: FolderViews, out: Path, validation: bool = False, on_mismatch: str = "error") -> FolderViews:
    """The views with their stored targets."""
    folder = CacheFolder(out)
    views.addition = StoredTargets(folder, folder.read(), views, validation, on_mismatch, "`distill cache r`")
    return views


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a cache."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}

"""Stored targets are those of the view they are read with, or there is one line."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from distill.data.sample_key import SampleKey
from distill.errors import UserError
from distill.targets.cache.folder import CacheFolder
from distill.targets.cache.reader import MISSED
from distill.targets.cache.verify import Verified, verify
from distill.targets.rounding import decode, rounded
from tests.targets.cache.caching import POOL, TRAIN, attach, info, teach, views, write, write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def caches(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("caches")
    for dtype in ("float32", "float16", "bfloat16", "int8"):
        write(images, root / dtype, info(dtype))
    return root


@pytest.mark.parametrize(
    ("dtype", "workers"), [("float32", 0), ("float16", 0), ("bfloat16", 0), ("int8", 0), ("int8", 2)]
)
def test_read_targets_are_the_live_ones(images: Path, caches: Path, dtype: str, workers: int) -> None:
    train = attach(views(images, "train"), caches / dtype)
    keys = [SampleKey(index, view) for view in range(POOL) for index in range(TRAIN)]
    loader = DataLoader(train, 3, sampler=keys, num_workers=workers)
    seen = 0
    for batch in loader:
        for feature, live in teach(batch["image"]).items():
            assert torch.equal(decode(batch["target"][feature]), rounded(live, dtype))
        seen += len(batch["image"])
    assert seen == POOL * TRAIN
    assert int(train.addition._touched.sum()) == seen, "checksums were compared, by any worker"
    validation = attach(views(images, "val"), caches / dtype, validation=True)
    for batch in DataLoader(validation, 2, num_workers=workers):
        assert torch.equal(decode(batch["target"]["mean"]), rounded(teach(batch["image"])["mean"], dtype))


def test_fixed_views_of_training_images_have_no_target(images: Path, caches: Path) -> None:
    assert "target" not in attach(views(images, "train"), caches / "float16")[0]


def test_a_cache_that_ignores_the_view_is_caught(images: Path, caches: Path, tmp_path: Path) -> None:
    """One pass of the teacher cannot stand for two views, as it would for mirrored images."""
    shutil.copytree(caches / "float16", tmp_path / "cache")
    for first in (tmp_path / "cache").glob("v00-*"):
        shutil.copy(first, first.with_name(first.name.replace("v00", "v01")))
    train = attach(views(images, "train"), tmp_path / "cache")
    assert "target" in train[SampleKey(0, 0)]
    with pytest.raises(UserError, match="the view is not the one that the teacher saw") as caught:
        train[SampleKey(0, 1)]
    assert "v01-0000" in str(caught.value)
    assert repr(train.name(0)) in str(caught.value)


def test_a_replaced_image_of_equal_name_and_size_is_caught(images: Path, caches: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    train = views(tmp_path / "images", "train")
    path = train.paths[3]
    size = path.stat().st_size
    pixels = np.asarray(Image.open(path)).copy()
    pixels[20, 20] ^= 1
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0")[: max(size, path.stat().st_size)])
    attach(train, caches / "float16")
    train[SampleKey(2, 0)]
    with pytest.raises(UserError, match=path.name):
        [train[SampleKey(3, view)] for view in range(POOL)]


def test_under_live_a_mismatch_is_marked(images: Path, caches: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    train = views(tmp_path / "images", "train")
    Image.new("RGB", (48, 40)).save(train.paths[3])
    attach(train, caches / "float16", on_mismatch="live")
    assert [train[SampleKey(index, 0)][MISSED] for index in (2, 3)] == ["", train.name(3)]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_one_flipped_bit_names_shard_and_image(images: Path, caches: Path, tmp_path: Path, dtype: str) -> None:
    """Wherever in the data of a shard it is, by reading as by verifying."""
    shutil.copytree(caches / dtype, tmp_path / "cache")
    path = tmp_path / "cache" / "v01-00002.safetensors"
    good = path.read_bytes()
    start = 8 + int.from_bytes(good[:8], "little")
    draw = np.random.default_rng(0)
    for place in [start, len(good) - 1, *draw.integers(start, len(good), 12)]:
        damaged = bytearray(good)
        damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        train = attach(views(images, "train"), tmp_path / "cache")
        with pytest.raises(UserError, match=r"v01-00002\.safetensors, image '.*': the checksum differs"):
            [train[SampleKey(index, 1)] for index in range(TRAIN)]
        with pytest.raises(UserError, match=r"v01-00002\.safetensors: the checksum differs"):
            _verify(images, tmp_path / "cache")


def test_a_cut_file_is_one_line(images: Path, caches: Path, tmp_path: Path) -> None:
    shutil.copytree(caches / "float16", tmp_path / "cache")
    path = tmp_path / "cache" / "v00-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    train = attach(views(images, "train"), tmp_path / "cache")
    with pytest.raises(UserError, match=r"v00-00000\.safetensors cannot be read"):
        [train[SampleKey(index, 0)] for index in range(TRAIN)]


def test_verifying_reads_all_and_recomputes_some(images: Path, caches: Path) -> None:
    found = _verify(images, caches / "int8")
    assert (found.entries, found.recomputed, found.equal, found.largest_error) == (23, 16, 16, 0)


@pytest.mark.parametrize("factor", [1.02, float("nan")])
def test_verifying_sees_another_teacher(images: Path, caches: Path, factor: float) -> None:
    def other(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: factor * maps for name, maps in teach(batch).items()}

    with pytest.raises(UserError, match="relative L2 away from what the teacher makes of the view now"):
        _verify(images, caches / "float16", other)


def test_a_reader_can_be_sent_to_a_process(images: Path, caches: Path) -> None:
    """Where workers are spawned."""
    train = attach(views(images, "train"), caches / "float16")
    train[SampleKey(0, 0)]
    assert not pickle.loads(pickle.dumps(train.addition.__getstate__()["_files"]))


PORTABLE = """
import sys
import torch
from pathlib import Path
from distill.data.sample_key import SampleKey
from distill.errors import UserError
from tests.targets.cache.caching import attach, views
images, cache = map(Path, sys.argv[1:])
train = attach(views(images, "train"), cache)
print(torch.backends.cpu.get_cpu_capability())
for index in range(10):
    try:
        train[SampleKey(index, 0)]
    except UserError as error:
        print(error)
"""


def test_views_of_another_processor_are_caught(images: Path, caches: Path) -> None:
    """PyTorch resizes 8-bit pixels differently with and without AVX2."""
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this processor has no vectors that PyTorch uses")
    command = [sys.executable, "-c", PORTABLE, str(images), str(caches / "float16")]
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[3])
    capability, *errors = done.stdout.splitlines()
    assert capability == "DEFAULT", done.stderr
    assert errors
    assert all("the view is not the one that the teacher saw" in error for error in errors)


def _verify(images: Path, cache: Path, teacher: Any = teach) -> Verified:
    folder = CacheFolder(cache)
    train, validation = views(images, "train"), views(images, "val")
    return verify(folder, folder.read(), train, validation, teacher, "`distill cache r`")

"""A cache is the same bytes however many processes write it, and however often they are killed.

Children are forked, so that a killed process costs a fraction of a second.
"""

import json
import multiprocessing
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill.errors import UserError
from distill.targets.cache import writer
from tests.targets.cache.caching import SHARDS, contents, info, teach, write, write_images

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    write(images, out)
    files = contents(out)
    assert len(files) == SHARDS + 2  # cache.json and the locks
    return files


def slowly(images: Tensor) -> dict[str, Tensor]:
    time.sleep(0.01)
    return teach(images)


def child(images: Path, out: Path) -> None:
    write(images, out, teacher=slowly)


def start(images: Path, out: Path) -> Any:
    process = FORK.Process(target=child, args=(images, out))
    process.start()
    return process


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_write_the_bytes_of_one(
    images: Path, whole: dict[str, bytes], tmp_path: Path, processes: int
) -> None:
    running = [start(images, tmp_path) for _ in range(processes)]
    for process in running:
        process.join()
        assert process.exitcode == 0
    assert contents(tmp_path) == whole


def test_processes_share_the_work(images: Path, tmp_path: Path) -> None:
    """The teacher sees no view twice."""
    seen = FORK.Value("i", 0)

    def count(views: Tensor) -> dict[str, Tensor]:
        with seen.get_lock():
            seen.value += len(views)
        time.sleep(0.02)
        return teach(views)

    running = [FORK.Process(target=write, args=(images, tmp_path, None, count)) for _ in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert seen.value == 2 * 10 + 3


def test_killed_at_any_moment(images: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Twenty times; every shard that is visible in between is whole, and the last process finishes the rest."""
    draw, kills, attempt = random.Random(0), 0, 0
    started = time.perf_counter()
    process = start(images, tmp_path / "first")
    process.join()
    seconds = time.perf_counter() - started
    while kills < 20:
        out = tmp_path / str(attempt)
        finished = False
        while not finished and kills < 20:
            process = start(images, out)
            process.join(draw.uniform(0, seconds / 2))
            process.kill()
            process.join()
            finished = process.exitcode == 0
            kills += process.exitcode == -signal.SIGKILL
            seen = {name: data for name, data in contents(out).items() if name[0] != "."} if out.exists() else {}
            assert all(data == whole[name] for name, data in seen.items() if name != "cache.json")
        write(images, out)
        assert contents(out) == whole, "leftovers, or other bytes"
        attempt += 1


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    images: Path, whole: dict[str, bytes], tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"GB are free, and .* GB are needed"):
        write(images, small_disk / "cache", info(targets=_large(info().targets)))
    monkeypatch.setattr(writer, "free_bytes", lambda root: 1 << 40)  # another process fills it in the meantime
    (small_disk / "ballast").write_bytes(bytes(_free(small_disk) - (20 << 10)))
    with pytest.raises(UserError, match=r"cannot be written .*No space left.*goes on where it stopped") as caught:
        write(images, small_disk / "cache2")
    assert "\n" not in str(caught.value)
    there = contents(small_disk / "cache2")
    assert 0 < len(there) < len(whole)
    assert not [name for name in there if name.startswith(".v")]
    (small_disk / "ballast").unlink()
    write(images, small_disk / "cache2")
    assert contents(small_disk / "cache2") == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where mounting one is allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system takes more rights")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _free(place: Path) -> int:
    return shutil.disk_usage(place).free


def _large(targets: Any) -> Any:
    return {name: type(one)((512, 64, 64), one.reduction) for name, one in targets.items()}


def test_broken_images_have_stand_ins_that_are_listed(images: Path, tmp_path: Path) -> None:
    copy = tmp_path / "images"
    shutil.copytree(images, copy)
    names = sorted(path.name for path in (copy / "train").iterdir())
    (copy / "train" / names[4]).write_bytes(b"no image")
    header = write(copy, tmp_path / "cache")
    assert header.broken == (names[4],)
    assert json.loads((tmp_path / "cache" / "cache.json").read_text())["broken"] == [names[4]]
    write(copy, tmp_path / "again")
    assert contents(tmp_path / "cache") == contents(tmp_path / "again")


def test_a_folder_of_other_targets_is_refused(images: Path, tmp_path: Path) -> None:
    write(images, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"holds a cache of other targets: seed is 0 there and 1 in the recipe"):
        write(images, tmp_path, info(key={"format": 1, "seed": 1}))
    assert contents(tmp_path) == before


def test_workers_change_nothing(images: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        write(images, tmp_path / str(workers), info(pool=1, shard_entries=10), workers=workers)
    assert contents(tmp_path / "0") == contents(tmp_path / "2")


def test_an_entry_is_of_its_own_view(images: Path, tmp_path: Path) -> None:
    """Two views of an image differ, and so do their targets."""
    write(images, tmp_path)
    first, second = (load_file(tmp_path / f"v0{view}-00000.safetensors") for view in range(2))
    assert not torch.equal(first["view"], second["view"])
    assert not torch.equal(first["target.mean"], second["target.mean"])

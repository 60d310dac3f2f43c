"""A prediction that is killed at any moment goes on, and its outputs are those of one that was not, byte by byte.

Children are forked, so that a killed process costs a fraction of a second.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distill.launch.predict_progress import PredictProgress
from distill.launch.predict_sources import find_sources
from distill.launch.predict_work import PredictWork, shares
from distill.scene.model_facts import INSTANCES, LAND_COVER
from distill.scene.options import PredictOptions
from tests.scene.engine import Squares, facts, files, write_scene

FORK = multiprocessing.get_context("fork")
# What Python tells of a file before it happens.
MOMENTS = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "shutil.rmtree", "tempfile.mkstemp")


def predict(sources: Path, out: Path, task: str, shard: tuple[int, int] | None = None) -> None:
    """Predicts with a model that needs no network."""
    every = find_sources(sources, out)
    formats = ["coco", "gpkg", "geojson"] if task == INSTANCES else ["tif", "gpkg"]
    progress = PredictProgress(len(every), Console(quiet=True), None)
    work = PredictWork(every, out, PredictOptions(formats=formats, overlay=False), facts(task), False, progress)
    work.run(Squares(), shares(every, shard), batch_size=2)


def child(sources: Path, out: Path, task: str, last: int, seen: Any) -> None:
    """Predicts, and is killed before the moment `last`."""

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event in MOMENTS and str(out) in str(arguments[0]):
            seen.value += 1
            if seen.value == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    predict(sources, out, task)


def run(sources: Path, out: Path, task: str, last: int = -1, seconds: float | None = None) -> tuple[bool, int]:
    """Whether a child finished, and how many moments it saw; it is killed at a moment or after some seconds."""
    seen = FORK.Value("i", 0, lock=False)
    process = FORK.Process(target=child, args=(sources, out, task, last, seen))
    process.start()
    if seconds is not None:
        time.sleep(seconds)
        process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0, seen.value


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_scene(folder / "a.tif", 150, 90, seed=1)
    write_scene(folder / "b.tif", 60, 130, seed=2)
    return folder


@pytest.mark.parametrize(("task", "kills"), [(INSTANCES, 20), (LAND_COVER, 6)])
def test_killed_at_any_moment(sources: Path, tmp_path: Path, task: str, kills: int) -> None:
    whole, draw = tmp_path / "whole", random.Random(0)
    started = time.perf_counter()
    finished, moments = run(sources, whole, task)
    seconds = time.perf_counter() - started
    assert finished
    expected = files(whole)
    assert len(expected) == (8 if task == INSTANCES else 6)
    killed = attempt = 0
    while killed < kills:
        out, finished = tmp_path / f"killed{attempt}", False
        while not finished:
            if killed % 4 == 3:
                finished, _ = run(sources, out, task, seconds=draw.uniform(0, seconds))
            else:
                finished, _ = run(sources, out, task, last=draw.randint(1, moments))
            killed += not finished
        assert files(out) == expected
        attempt += 1


def test_shards_give_the_bytes_of_one_process(sources: Path, tmp_path: Path) -> None:
    predict(sources, tmp_path / "one", INSTANCES)
    for number in (3, 1, 5, 2, 4):  # more than scenes, so that rows are shared; in any order
        assert not (tmp_path / "shared" / "predictions.json").exists()
        predict(sources, tmp_path / "shared", INSTANCES, (number, 5))
    assert files(tmp_path / "shared") == files(tmp_path / "one")


def test_a_folder_that_grows_is_described_as_a_whole(sources: Path, tmp_path: Path) -> None:
    predict(sources, tmp_path / "one", INSTANCES)
    for name in ("b.tif", "a.tif"):
        predict(sources / name, tmp_path / "grown", INSTANCES)
    assert files(tmp_path / "grown") == files(tmp_path / "one")

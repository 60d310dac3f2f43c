"""Predictions over a local Ray cluster of two workers: the bytes of one process, also if a worker is killed."""

import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from distill.errors import UserError
from distill.launch.predict_progress import PredictProgress
from distill.launch.predict_ray import RayWork, predict_with_ray, shares
from distill.launch.predict_sources import find_sources
from distill.launch.predict_work import PredictWork
from distill.launch.predict_work import shares as shares_of_one
from distill.scene.detections import Pixels, TileInstances
from distill.scene.options import PredictOptions
from tests.scene.engine import Squares, facts, files, write_scene

ray = pytest.importorskip("ray")
OPTIONS = PredictOptions(formats=["coco", "gpkg"], overlay=False)
pytestmark = pytest.mark.xdist_group("ray")  # one cluster serves all


class Deadly(Squares):
    """Kills its process in the middle of a scene, once."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        if len(self.calls) == 3 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().tile_instances(tiles)


class Failing(Squares):
    """Has no memory."""

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        raise MemoryError("no memory")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_scene(folder / "huge.tif", 400, 200, seed=1)
    write_scene(folder / "small.tif", 60, 130, seed=2)
    return folder


@pytest.fixture(scope="module")
def expected(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes."""
    out = tmp_path_factory.mktemp("one")
    every = find_sources(sources, out)
    progress = PredictProgress(len(every), Console(quiet=True), None)
    PredictWork(every, out, OPTIONS, facts(), False, progress).run(Squares(), shares_of_one(every, None), 2)
    return files(out)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two CPU cores, whatever the machine has; started once for all tests."""
    path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), path])
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    os.environ["PYTHONPATH"] = path


def work(sources: Path, out: Path, model: object) -> RayWork:
    out.mkdir()
    return RayWork(model, find_sources(sources, out), out, OPTIONS, facts(), False, 2)  # type: ignore[arg-type]


def test_huge_scenes_are_several_shares(sources: Path, tmp_path: Path) -> None:
    every = find_sources(sources, tmp_path)
    assert [(share.source.name, share.part, share.parts) for share in shares(every, 30_000)] == [
        ("huge", 0, 3),
        ("huge", 1, 3),
        ("huge", 2, 3),
        ("small", 0, 1),
    ]


def test_two_workers_give_the_bytes_of_one_process_though_one_is_killed(
    sources: Path, tmp_path: Path, expected: dict[str, bytes], cluster: None
) -> None:
    out = tmp_path / "out"
    model = partial(Deadly, tmp_path / "killed")
    done = predict_with_ray(work(sources, out, model), "local", workers=2, panel=30_000)
    assert (tmp_path / "killed").exists()
    assert [scene.name for scene in done.scenes] == ["huge", "small"]
    assert files(out) == expected


def test_what_fails_in_a_worker_is_one_line(sources: Path, tmp_path: Path, cluster: None) -> None:
    with pytest.raises(UserError, match=r"\.tif: rows 0 to .* failed: no memory; what is done is kept"):
        predict_with_ray(work(sources, tmp_path / "out", Failing), "local", workers=1)
    assert not list((tmp_path / "out").glob("*.gpkg"))

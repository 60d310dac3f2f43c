"""A prediction spread over Ray: actors that each hold the model predict scenes, and panels of huge ones.

Ray Data hands out the shares, restarts actors that died, and gives their shares to others. What was done before is in
the output folder, see `distill.scene.journal`, so nothing is lost or done twice. All machines must see the run, the
sources and the output folder under the same paths.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from distill.data.rasters import BrokenImage, open_raster
from distill.errors import UserError, first_line
from distill.evaluation.units import counted
from distill.launch.predict_progress import PredictProgress
from distill.launch.predict_sources import Source
from distill.launch.predict_work import Done, PredictWork, Share, Told
from distill.phases import phase
from distill.scene.detections import Model
from distill.scene.model_facts import ModelFacts
from distill.scene.options import PredictOptions

LOCAL = "local"
_PANEL = 8192**2  # pixels of a scene that one share has at most


@dataclass(frozen=True)
class RayWork:
    """A prediction, in a form that can be sent to other machines.

    Attributes:
        load: Makes the model.
        sources: All scenes.
        out: The output folder.
        options: Of the prediction.
        facts: Of the run.
        overwrite: Whether results of other settings are replaced.
        batch_size: Tiles that the model sees together.
    """

    load: Callable[[], Model]
    sources: Sequence[Source]
    out: Path
    options: PredictOptions
    facts: ModelFacts
    overwrite: bool
    batch_size: int

    def quiet(self) -> PredictWork:
        """The loop of one process, which tells nothing."""
        progress = PredictProgress(len(self.sources), Console(quiet=True), None)
        return PredictWork(self.sources, self.out, self.options, self.facts, self.overwrite, progress)


class _Actor:
    """A process that holds the model and predicts one share after another."""

    def __init__(self, work: RayWork) -> None:
        self._work, self._loop, self._model = work, work.quiet(), work.load()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        share: Share = pickle.loads(batch["share"][0])
        try:
            told: Told | str = self._loop.predict(self._model, share, self._work.batch_size)
        except UserError as error:  # of this share; it would be the same in another actor
            told = str(error)
        return {"told": [pickle.dumps(told)]}


def predict_with_ray(work: RayWork, address: str, workers: int | None = None, panel: int = _PANEL) -> Done:
    """Predicts all scenes, and joins them.

    Args:
        work: The prediction.
        address: "local" for a cluster of this machine, else that of a running cluster, for example "auto" or
            "ray://head:10001".
        workers: How many actors; by default one for each GPU of the cluster, or for each four of its CPU cores.
        panel: Pixels of a scene that one share has at most.

    Raises:
        UserError: Ray is not installed, there is no such cluster, or anything of `PredictWork`.
    """
    with _cluster(address, workers) as data:
        every = shares(work.sources, panel)
        told: list[Told] = []
        pool = data.ActorPoolStrategy(size=min(_workers(workers), len(every)), max_tasks_in_flight_per_actor=1)
        items = [{"share": pickle.dumps(share)} for share in every]
        results = data.from_items(items, override_num_blocks=len(every)).map_batches(
            _Actor, fn_constructor_args=(work,), batch_size=1, compute=pool, **_resources(workers)
        )
        rows = _rows(results)
        with phase("starting the workers"):
            first = next(rows)
        with phase(f"predicting {counted(len(work.sources), 'scene')} in shares", len(every)) as advance:
            for row in chain([first], rows):
                one: Told | str = pickle.loads(row["told"])
                if isinstance(one, str):
                    raise UserError(one)
                told.append(one)
                advance(1)
    return work.quiet().joined(told)


def shares(sources: Sequence[Source], panel: int = _PANEL) -> list[Share]:
    """Scenes, of which huge ones are several shares.

    Args:
        sources: All scenes.
        panel: Pixels of a scene that one share has at most.
    """
    with phase(f"reading the sizes of {counted(len(sources), 'scene')}"), ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda source: -(-_pixels(source.path) // panel), sources))
    parts = zip(sources, counts, strict=True)
    return [Share(source, part, count) for source, count in parts for part in range(count)]


def _pixels(path: Path) -> int:
    """How many pixels a file has, as its header says; 1 where it says nothing, which its actor will tell."""
    try:
        with open_raster(path) as raster:
            return int(raster.height * raster.width)
    except BrokenImage:
        return 1


@contextmanager
def _cluster(address: str, workers: int | None) -> Iterator[Any]:
    """`ray.data`, connected to a cluster; one that this process started ends with it.

    Raises:
        UserError: See `predict_with_ray`.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise UserError("--ray needs Ray, which is not installed; pip install 'distill-rs[ray]'") from error
    own = not ray.is_initialized()
    if own:
        # What Ray will do, and else warns of; and what it says of actors that may not be restarted, which these are.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        start: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
        if address == LOCAL:
            start |= {"include_dashboard": False}
            start |= {"num_cpus": max(workers, os.cpu_count() or 1)} if workers else {}
        try:
            ray.init(**start)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"--ray {address}: {first_line(error)}; give local, or the address of a running cluster"
            ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray.data
    finally:
        if own:
            ray.shutdown()


def _workers(given: int | None) -> int:
    import ray

    if given is not None:
        return given
    there = ray.cluster_resources()
    return int(there.get("GPU", 0)) or max(1, int(there.get("CPU", 1)) // 4)


def _resources(workers: int | None) -> dict[str, float]:
    """What each actor occupies. Ray gives PyTorch as many threads as it occupies CPU cores."""
    import ray

    there = ray.cluster_resources()
    if there.get("GPU", 0):
        return {"num_gpus": 1}
    return {"num_cpus": max(1, int(there.get("CPU", 1)) // _workers(workers))}


def _rows(results: Any) -> Iterator[dict[str, Any]]:
    """The rows as they come.

    Raises:
        UserError: An actor died again and again, or its code failed.
    """
    from ray.exceptions import RayError

    try:
        yield from results.iter_rows()
    except RayError as error:
        raise UserError(
            f"an actor of Ray failed: {first_line(error)}; what is done is kept, and the same command goes on there"
        ) from error

"""Tiles per second of `distill predict` with real networks on this machine, and the ground that is.

    python benchmarks/predict_tiles.py               # about three minutes on 2 cores
    python benchmarks/predict_tiles.py --tiles 16 --models "RS4D-tiny"

The networks are those of the recipes, with random weights: RS4D under Mask R-CNN finds 100 objects in every tile of
1024 pixels, LALE gives classes to tiles of 512. What is timed is everything after the model is loaded: reading the
GeoTIFF, the network, joining tiles, writing all outputs. Ground is that of a large scene, where a tile adds
(tile - overlap)² pixels.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from affine import Affine
from measuring import console, make_table, number, processor
from numpy.typing import NDArray
from predict_memory import FreeModel, write_sparse
from pytorch_lightning.plugins.precision import Precision
from scipy.ndimage import gaussian_filter

import heads
from distill.launch.predictors import InstancePredictor, SemanticPredictor
from distill.scene.detections import Pixels, TileInstances
from distill.scene.job import SceneJob
from distill.scene.joined import join
from distill.scene.model_facts import INSTANCES, LAND_COVER, ModelFacts
from distill.scene.options import PredictOptions
from distill.scene.summary import SceneSummary
from distill.scene.tile_size import TileSize
from distill.tasks.instances import FineTuningModule
from distill.tasks.segmentation import SegmentationModule
from students import LALE, RS4D

OBJECTS = 100  # in a tile
GROUND = (0.2, 0.3, 0.5, 10.0)  # metres of a pixel


@dataclass(frozen=True)
class Case:
    """What is measured.

    Args:
        make: Makes the task of a recipe.
        task: Its kind.
        class_names: Of the model.
        size: Tiles.
        several: Whether a process for each core, with one thread each, is measured, too.
    """

    make: Callable[[], Any]
    task: str
    class_names: tuple[str, ...]
    size: TileSize
    several: bool = False


def mask_rcnn(variant: str) -> FineTuningModule:
    """As recipes/finetune/mask_rcnn.yaml."""
    return FineTuningModule(RS4D(variant, image_size=1024), partial(heads.MaskRCNN, neck_norm="layer"))


def lale() -> SegmentationModule:
    """As recipes/landcover/lale_s1.yaml."""
    return SegmentationModule(LALE("S1"), heads.LALEDecoder, window=512)


COVER = tuple(f"class {number}" for number in range(7))
CASES = {
    "RS4D-tiny, Mask R-CNN": Case(partial(mask_rcnn, "tiny"), INSTANCES, ("building",), TileSize(1024, 128), True),
    "RS4D-small, Mask R-CNN": Case(partial(mask_rcnn, "small"), INSTANCES, ("building",), TileSize(1024, 128)),
    "LALE-S1, LALE decoder": Case(lale, LAND_COVER, COVER, TileSize(512, 128)),
}


class Timed:
    """A model that counts the seconds it takes."""

    def __init__(self, model: Any) -> None:
        self.model, self.class_names, self.seconds = model, model.class_names, 0.0

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        return self._timed(self.model.tile_instances, tiles)

    def tile_logits(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        return self._timed(self.model.tile_logits, tiles)

    def _timed(self, call: Any, tiles: Sequence[Pixels]) -> Any:
        started = time.perf_counter()
        found = call(tiles)
        self.seconds += time.perf_counter() - started
        return found


def build(case: Case) -> Timed:
    """The model of a recipe with random weights."""
    torch.manual_seed(0)
    task = case.make()
    task.build(list(case.class_names))
    settings = {"device": torch.device("cpu"), "class_names": case.class_names}
    if case.task == LAND_COVER:
        return Timed(SemanticPredictor(task, 1.0, Precision(), **settings))
    for name, values in task.named_parameters():
        if name.endswith("mask_head.conv_logits.bias"):
            values.data.fill_(10)  # masks fill their boxes: random ones have outlines of noise, which no object has
    task.head.max_detections = OBJECTS
    return Timed(InstancePredictor(task, case.size.tile, Precision(), **settings))


def write_scene(path: Path, size: TileSize, rows: int, columns: int) -> None:
    """A GeoTIFF of so many tiles, compressed as orthophotos are."""
    height, width = (size.overlap + count * (size.tile - size.overlap) for count in (rows, columns))
    noise = np.random.default_rng(0).normal(size=(3, height, width)).astype(np.float32)
    smooth = gaussian_filter(noise, (0, 4, 4))
    values = np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "jpeg", "photometric": "ycbcr"}
    place = {"crs": "EPSG:32632", "transform": Affine(0.3, 0, 400_000, 0, -0.3, 5_000_000)}
    with rasterio.open(path, "w", "GTiff", width, height, 3, dtype="uint8", **layout, **place) as file:
        file.write(values)


def predict(model: Timed, case: Case, path: Path, out: Path) -> SceneSummary:
    """Predicts a scene, and writes its files."""
    facts = ModelFacts("", case.task, case.class_names, "", "", case.size, cap=None)
    with SceneJob(path, path.stem, out, PredictOptions(score=0.0), facts) as job:
        job.begin()
        for row in job.missing_rows():
            job.predict_row(model, row)
        summary = job.finish()
    return summary


_barrier: Any = None


def _together(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


class Done(NamedTuple):
    """What a process did.

    Attributes:
        tiles: How many.
        seconds: Of all.
        model: Seconds of the model.
    """

    tiles: int
    seconds: float
    model: float


def work(name: str, threads: int, rows: int, columns: int) -> Done:
    """In a process of its own: builds the model, warms up, waits for the others, and predicts."""
    torch.set_num_threads(threads)
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        write_scene(Path(folder, "warm.tif"), case.size, 1, 1)
        write_scene(Path(folder, "scene.tif"), case.size, rows, columns)
        model = build(case)
        predict(model, case, Path(folder, "warm.tif"), Path(folder, "warm"))
        model.seconds = 0.0
        _barrier.wait()
        started = time.perf_counter()
        summary = predict(model, case, Path(folder, "scene.tif"), out)
        seconds = time.perf_counter() - started
        return Done(summary.tiles, seconds, model.seconds)


def stored() -> dict[str, float]:
    """Bytes an object on the disk by kind of file, of round objects of 12 to 60 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "scene.tif"), Path(folder, "out")
        write_sparse(path, 5000, 5000, tiled=True)
        facts = ModelFacts("", INSTANCES, FreeModel.class_names, "", "", TileSize(1024, 128))
        with SceneJob(path, path.stem, out, PredictOptions(overlay=False), facts) as job:
            job.begin()
            for row in job.missing_rows():
                job.predict_row(FreeModel(), row)
            rows = sum(file.stat().st_size for file in job.journal.folder.iterdir())
            summary = job.finish()
        join(out, [summary], facts.class_names, {}, coco=True)
        objects = sum(summary.counts.values())
        sizes = {name: (out / name).stat().st_size for name in ("scene.gpkg", "predictions.json", "images.json")}
        sizes[".predict/scene.jsonl"] = (out / ".predict" / "scene.jsonl").stat().st_size
        return {name: size / objects for name, size in {"rows, while it runs": rows, **sizes}.items()}


def measure(name: str, processes: int, threads: int, rows: int, columns: int) -> list[Done]:
    """Several processes at once."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")
    settings = {"initializer": _together, "initargs": (context.Barrier(processes, timeout=300),)}
    with ProcessPoolExecutor(processes, context, **settings) as pool:
        return [one.result() for one in [pool.submit(work, name, threads, rows, columns) for _ in range(processes)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(CASES), help="those whose name begins so")
    parser.add_argument("--tiles", type=int, default=4, help="of a scene, in two rows")
    arguments = parser.parse_args()
    cores = torch.get_num_threads()
    table = make_table(
        f"distill predict on {cores} cores, random weights, batch 1",
        "model",
        "tile, overlap / px",
        "processes x threads",
        "s a tile",
        "tiles a second",
        "beside the model / ms a tile",
        *(f"km² an hour at {metres:g} m" for metres in GROUND),
    )
    for name, case in CASES.items():
        if not name.startswith(tuple(arguments.models)):
            continue
        for processes in dict.fromkeys((1, cores if case.several else 1)):
            done = measure(name, processes, cores // processes, 2, max(1, arguments.tiles // 2))
            rate = sum(one.tiles / one.seconds for one in done)
            each = sum(one.seconds / one.tiles for one in done) / processes
            beside = sum((one.seconds - one.model) / one.tiles for one in done) / processes
            step = case.size.tile - case.size.overlap
            ground = (number(3600 * rate * (step * metres / 1000) ** 2) for metres in GROUND)
            table.add_row(
                name,
                f"{case.size.tile}, {case.size.overlap}",
                f"{processes} x {cores // processes}",
                f"{each:.2f}",
                f"{rate:.3f}",
                f"{1000 * beside:.0f} ({100 * beside / each:.1f} %)",
                *ground,
            )
    console.print(table)
    sizes = (f"{name} {size:.0f}" for name, size in stored().items())
    console.print(f"bytes an object: {', '.join(sizes)}")
    console.print(f"load average {os.getloadavg()[0]:.1f}, torch {torch.__version__}, {processor()}")


if __name__ == "__main__":
    main()

"""Peak memory and time of predictions of large scenes beside the model, which costs nothing here.

python benchmarks/predict_memory.py             # 20,000 x 20,000 x 3 and 40,000 x 20,000 x 3, minutes
python benchmarks/predict_memory.py --side 5000

Memory is what the process holds at most above what it held with everything imported and the model made.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from distill.patch import Patch
from distill.process_memory import forget_peak, process_bytes
from distill.scene.detections import Pixels, TileInstances
from distill.scene.job import SceneJob
from distill.scene.model_facts import INSTANCES, LAND_COVER, ModelFacts
from distill.scene.options import PredictOptions
from distill.scene.summary import SceneSummary
from distill.scene.tile_size import TileSize

TILE, OBJECTS, CLASSES = 1024, 100, 7
OVERLAP = {INSTANCES: 256, LAND_COVER: 128}
BARS = {INSTANCES: 300, LAND_COVER: 400}  # MB
NAMES = tuple(f"class {number}" for number in range(CLASSES))


class FreeModel:
    """Always the same results: 100 objects of 12 to 60 pixels, or classes in patches."""

    class_names = NAMES
    seconds = 0.0

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._logits = np.repeat(np.repeat(rng.random((CLASSES, 32, 32), np.float32), 32, 1), 32, 2)
        masks, boxes = [], []
        for side in rng.integers(12, 60, OBJECTS).tolist():
            y, x = rng.integers(0, TILE - side, 2).tolist()
            middle = (np.arange(side) - (side - 1) / 2) ** 2
            masks.append(Patch(y, x, (middle[:, None] + middle < (side / 2) ** 2).astype(np.uint8)))
            boxes.append((x, y, x + side, y + side))
        scores = np.linspace(0.99, 0.4, OBJECTS, dtype=np.float32)
        self._found = TileInstances(np.array(boxes, np.float32), scores, rng.integers(0, CLASSES, OBJECTS), masks)

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        return [self._found for _ in tiles]

    def tile_logits(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        return [self._logits for _ in tiles]


def write_sparse(path: Path, height: int, width: int, tiled: bool) -> None:
    """A raster whose blocks are not stored, and read as zeros."""
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512} if tiled else {"blockysize": 1}
    place = {"crs": "EPSG:32632", "transform": Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)}
    options = {"sparse_ok": True, "bigtiff": "yes", "interleave": "pixel", **layout, **place}
    with rasterio.open(path, "w", "GTiff", width, height, 3, dtype="uint8", **options):
        pass


def measure(task: str, height: int, width: int, tiled: bool) -> None:
    """Predicts a scene in this process, and prints what it took as JSON."""
    model = FreeModel()
    facts = ModelFacts("", task, NAMES, "", "", TileSize(TILE, OVERLAP[task]))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "scene.tif")
        write_sparse(path, height, width, tiled)
        write_sparse(Path(name, "warm.tif"), 1500, 1500, tiled)
        predict(model, facts, Path(name, "warm.tif"))
        before = process_bytes("VmRSS") / 1e6
        forget_peak()
        summary, rows, seconds, cpu, peak = predict(model, facts, path)
        numbers = {"seconds": seconds, "rows": rows, "cpu": cpu, "mb_rows": peak - before}
        found = {"tiles": summary.tiles, "objects": sum(summary.counts.values())}
        print(json.dumps(numbers | found | {"mb": process_bytes("VmHWM") / 1e6 - before}))


def predict(model: FreeModel, facts: ModelFacts, path: Path) -> tuple[SceneSummary, float, float, float, float]:
    """A scene's summary, seconds of its rows and of all, of the processor, and the most memory of the rows."""
    started, cpu = time.perf_counter(), time.process_time()
    with SceneJob(path, path.stem, path.parent / "out", PredictOptions(), facts) as job:
        job.begin()
        for row in job.missing_rows():
            job.predict_row(model, row)
        rows, peak = time.perf_counter() - started, process_bytes("VmHWM") / 1e6
        summary = job.finish()
    return summary, rows, time.perf_counter() - started, time.process_time() - cpu, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000, help="of the scene in pixels")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        task, height, width, tiled = arguments.case
        return measure(task, int(height), int(width), tiled == "tiled")
    side, console = arguments.side, Console(width=140)
    table = Table(
        "task",
        "scene",
        "file",
        "tiles",
        "objects",
        "MB above the model",
        "of rows",
        "bar",
        "ms a tile",
        "of rows",
        "CPU",
    )
    for task in (INSTANCES, LAND_COVER):
        first = None
        for height, layout in ((side, "tiled"), (2 * side, "tiled"), (side, "striped")):
            words = [sys.executable, __file__, "--case", task, str(height), str(side), layout]
            done = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
            first = first or done["mb"]
            bar = f"{BARS[task]} MB" if height == side else f"+5 %: {100 * (done['mb'] / first - 1):+.1f} %"
            each = (1000 * done[key] / done["tiles"] for key in ("seconds", "rows", "cpu"))
            numbers = (f"{done['mb']:.0f}", f"{done['mb_rows']:.0f}", bar, *(f"{one:.0f}" for one in each))
            table.add_row(task, f"{side}x{height}", layout, str(done["tiles"]), f"{done['objects']:,}", *numbers)
    console.print(table)


if __name__ == "__main__":
    main()

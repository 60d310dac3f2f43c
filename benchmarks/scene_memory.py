"""Peak memory, processor time and disk of land cover for a large scene, with a model that costs nothing.

python benchmarks/scene_memory.py            # 20,000 x 20,000 with overlaps of 128 and 256, and 40,000 x 20,000
python benchmarks/scene_memory.py --side 4000 --polygons
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rich.console import Console
from rich.table import Table

from distill.data.tiling import Tile, TilePlan
from distill.process_memory import forget_peak, process_bytes
from distill.scene.class_polygons import ClassPolygonWriter, write_class_polygons
from distill.scene.class_raster import ClassRasterWriter
from distill.scene.georeference import Georeference
from distill.scene.mosaic import RowBlender, class_blocks

SPACING = 32  # pixels between independent logits of the fake model: objects are about as large
TILE, CLASSES = 1024, 7
UTM = Georeference((0.5, 0.0, 400000.0, 0.0, -0.5, 5000000.0), CRS.from_epsg(32632).to_wkt())


@dataclass
class Stage:
    """What a part of the work took.

    Args:
        name: Of the part.
        seconds: Of processor time.
        peak: MiB above the resident memory at the start.
    """

    name: str
    seconds: float = 0.0
    peak: float = 0.0


class FakeModel:
    """Logits of any window of a scene, the same wherever the window lies."""

    def __init__(self, plan: TilePlan, classes: int) -> None:
        shape = (classes, plan.height // SPACING + 2, plan.width // SPACING + 2)
        self._field = np.random.default_rng(0).normal(0, 4, shape).astype(np.float32)

    def __call__(self, tile: Tile) -> NDArray[np.float32]:
        first = (tile.left / SPACING, tile.top / SPACING)
        place = np.array([[1 / SPACING, 0, first[0]], [0, 1 / SPACING, first[1]]], np.float32)
        size, flags = (tile.width, tile.height), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.stack([cv2.warpAffine(layer, place, size, flags=flags) for layer in self._field])


@contextmanager
def stage(stages: list[Stage], name: str, start: float) -> Iterator[None]:
    """Counts the processor time of what happens inside, and takes its peak of resident memory above `start` MiB."""
    forget_peak()
    begin = time.process_time()
    yield
    stages.append(Stage(name, time.process_time() - begin, process_bytes("VmHWM") / 2**20 - start))


def landcover(
    plan: TilePlan, folder: Path, logits: Callable[[Tile], NDArray[np.float32]], classes: int, polygons: bool
) -> list[Stage]:
    """Rows, final pass and files of land cover, each with its time and its peak of memory above the start."""
    names = [f"class {label}" for label in range(classes)]
    gc.collect()
    start = process_bytes("VmRSS") / 2**20
    stages: list[Stage] = []
    paths = [folder / f"row{row:04}" for row in range(len(plan.tops))]
    with stage(stages, "rows", start):
        for row, path in enumerate(paths):
            strip = np.ones((3, min(plan.tile, plan.height), plan.width), np.uint8)  # what the scene is read into
            with RowBlender(plan, row, classes, path, True) as blender:
                for tile in plan.row(row):
                    blender.add(tile, logits(tile), strip[0, :, tile.left : tile.left + tile.width] > 0)
            del strip
    raster = folder / "landcover.tif"
    with stage(stages, "class map", start):
        writer = ClassRasterWriter(raster, plan.height, plan.width, names, UTM, folder / "confidence.tif")
        for block in class_blocks(plan, paths, classes, True):
            writer.write(block)
        stages[0].name += f" ({sum(path.stat().st_size for path in paths) / 2**30:.1f} GiB)"
        for path in paths:
            path.unlink()
        writer.close()
    stages[-1].name += f" ({raster.stat().st_size / 2**20:.0f} MiB)"
    if polygons:
        with stage(stages, "polygons", start), ClassPolygonWriter(folder / "landcover.gpkg", UTM, names) as layer:
            count = write_class_polygons(raster, layer, simplify=None, min_area=10.0)
        stages[-1].name += f" ({count:,}, {(folder / 'landcover.gpkg').stat().st_size / 2**20:.0f} MiB)"
    return stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20000, help="width of the scenes in pixels")
    parser.add_argument("--polygons", action="store_true", help="write polygons too")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="for files of up to 8 GiB")
    parser.add_argument("--one", nargs=2, type=int, metavar=("HEIGHT", "OVERLAP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        plan = TilePlan(options.one[0], options.side, TILE, options.one[1])
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            stages = landcover(plan, Path(folder), FakeModel(plan, CLASSES), CLASSES, options.polygons)
        print(json.dumps([asdict(stage) for stage in stages]))
        return
    table = Table("height", "width", "overlap", "part", "peak above start, MiB", "CPU seconds")
    for height, overlap in ((options.side, 128), (options.side, 256), (2 * options.side, 128)):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(height), str(overlap)]
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed arrays leave the process at once
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        for part in json.loads(done.stdout):
            numbers = f"{part['peak']:.0f}", f"{part['seconds']:.0f}"
            table.add_row(str(height), str(options.side), str(overlap), part["name"], *numbers)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()

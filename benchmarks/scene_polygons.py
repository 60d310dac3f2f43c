"""Masks to polygons: this project's tracing and simplification beside GDAL's tracing and GEOS's overlays.

    python benchmarks/scene_polygons.py

Prints microseconds an object, best of several rounds in turns, and the ratio. Both give the same outlines; the tests
compare them.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import shapely
from rasterio import features

from distill.patch import Patch
from distill.scene.outlines import Polygons, outlines
from distill.scene.polygons import LEAST_IOU, simplify

TOLERANCE = 0.75  # pixels
ROUNDS = 5


def star(side: int) -> Patch:
    """An object with bays, of a side in pixels."""
    rows, columns = np.mgrid[:side, :side] + 0.5 - side / 2
    reach = side / 2 * (0.85 + 0.15 * np.sin(5 * np.arctan2(rows, columns)))
    return Patch(0, 0, (np.hypot(rows, columns) < reach).astype(np.uint8))


def traced_by_gdal(masks: list[Patch]) -> Polygons:
    shapes = [
        [shapely.geometry.shape(shape) for shape, _ in features.shapes(pixels, mask=pixels == 1, connectivity=4)]
        for _, _, pixels in masks
    ]
    return np.array([parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts) for parts in shapes], object)


def simplified_by_geos(exact: Polygons) -> Polygons:
    simple, tolerance, left = exact.copy(), TOLERANCE, np.arange(len(exact))
    while len(left) and tolerance > 0.35:
        candidates = shapely.simplify(exact[left], tolerance)
        common = shapely.area(shapely.intersection(exact[left], candidates))
        good = common >= LEAST_IOU * (shapely.area(exact[left]) + shapely.area(candidates) - common)
        simple[left[good]] = candidates[good]
        left, tolerance = left[~good], tolerance / 2
    return simple


def best(work: Mapping[str, Callable[[], object]], objects: int) -> dict[str, float]:
    """Microseconds an object of each, the best of some rounds in which all take turns."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / objects * 1e6)
    return {name: min(all_rounds) for name, all_rounds in times.items()}


def main() -> None:
    print(f"{'side':>5} {'step':>10} {'here':>9} {'GDAL/GEOS':>10} {'ratio':>6}")
    for side in (10, 30, 80, 300):
        count = max(10, 6000 // side)
        masks = [star(side)] * count
        exact = outlines(masks)
        steps = {
            "trace": {"here": partial(outlines, masks), "peer": partial(traced_by_gdal, masks)},
            "simplify": {"here": partial(simplify, exact, TOLERANCE), "peer": partial(simplified_by_geos, exact)},
        }
        for step, work in steps.items():
            times = best(work, count)
            ratio = times["peer"] / times["here"]
            print(f"{side:>4}px {step:>10} {times['here']:>6.0f} us {times['peer']:>7.0f} us {ratio:>6.1f}")


if __name__ == "__main__":
    main()

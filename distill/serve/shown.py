"""Data that the page draws: outlines of instances, or classes of pixels at the size of a picture.

Axes: H W pixels of the image, h w of what is shown.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.masks import decode_patch
from distill.data.rasters import open_raster
from distill.data.zoom import Zoom
from distill.scene.outlines import outlines
from distill.scene.overlay import LONGEST
from distill.scene.polygons import simplify

_TOLERANCE = 0.75  # pixels that an outline may move to have fewer vertices
_FINEST = 8  # outlines of small images are smoothed, down to this part of a pixel
_STRIP = 512  # rows that are read at once: a row of blocks


def write_outlines(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes instances as JSON: a list of [label, score, outline], the best first.

    Args:
        results: In COCO's format, with category ids from 1 in label order.
        path: The file; an outline is a path of SVG in pixels of the image.
    """
    ordered = sorted(results, key=lambda result: -result["score"])
    times, masks = 1, [decode_patch(result["segmentation"], *result["segmentation"]["size"]) for result in ordered]
    if ordered:
        height, width = ordered[0]["segmentation"]["size"]
        times = min(_FINEST, max(1, LONGEST // max(height, width)))
        enlarge = Zoom((0, 0, height, width), (height * times, width * times))
        masks = [enlarge(mask) or mask for mask in masks]
    polygons = simplify(outlines(masks), _TOLERANCE)
    shown = [
        [result["category_id"] - 1, round(result["score"], 4), _svg(polygon, times)]
        for result, polygon in zip(ordered, polygons, strict=True)
    ]
    path.write_text(json.dumps(shown, separators=(",", ":")), encoding="utf-8")


def write_classes(raster: Path, path: Path) -> None:
    """Writes a class raster: height and width as 32 bits each, then a byte a pixel; 255 is no class.

    Args:
        raster: Classes (H, W), of which every pixel that is shown takes the one in its middle.
        path: The file, whose longer side is that of a picture.
    """
    with open_raster(raster) as source:
        shrink = max(1.0, max(source.height, source.width) / LONGEST)
        rows, columns = (_middles(side, max(1, round(side / shrink))) for side in (source.height, source.width))
        with path.open("wb") as file:
            file.write(np.array([len(rows), len(columns)], "<u4").tobytes())
            for top in range(0, source.height, _STRIP):
                height = min(_STRIP, source.height - top)
                chosen = rows[(rows >= top) & (rows < top + height)] - top
                values, _ = source.read(top, 0, height, source.width)
                file.write(values[0][np.ix_(chosen, columns)].astype(np.uint8).tobytes())


def _middles(length: int, shown: int) -> NDArray[np.int64]:
    return ((np.arange(shown) + 0.5) * length / shown).astype(np.int64)


def _svg(polygon: Any, times: int) -> str:
    shape = polygon.__geo_interface__
    parts = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
    rings = (ring[:-1] for part in parts for ring in part)  # the last point is the first
    return "".join(f"M{'L'.join(f'{x / times:g} {y / times:g}' for x, y in ring)}Z" for ring in rings)

"""Which objects of an image a tile shows, as COCO annotations in the pixels of the tile.

Axes: N objects.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.data.masks import decode_patch, patch_fields
from distill.data.tiling import Tile
from distill.patch import Patch


class PlacedObjects:
    """The objects of an image, ready to be looked up by tile.

    Args:
        records: Their annotations, as `CocoAnnotations.objects` has them.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """

    def __init__(self, records: Sequence[dict[str, Any]], height: int, width: int) -> None:
        self._records = records
        self._patches = [decode_patch(record["segmentation"], height, width) for record in records]
        self._areas = [int(patch.pixels.sum()) for patch in self._patches]
        # Left, top, right and bottom of their pixels (N, 4).
        self._bounds = np.array(
            [(p.left, p.top, p.left + p.pixels.shape[1], p.top + p.pixels.shape[0]) for p in self._patches], np.int64
        ).reshape(-1, 4)

    def within(self, tile: Tile, min_visible: float, remainders: str) -> list[dict[str, Any]]:
        """The annotations of a tile, without ids.

        An object that lies in the tile with all its pixels keeps its outline, box and area. Of one that the border of
        the tile cuts, the visible pixels are kept, with their box and area, and `truncated` is true. Where fewer than
        `min_visible` of its pixels are visible, it is a remainder: a region to ignore, or nothing.

        Args:
            tile: A part of the image.
            min_visible: Share of the pixels of an object.
            remainders: "ignore" or "drop".
        """
        left, top, right, bottom = self._bounds.T
        meets = (
            (left < tile.left + tile.width) & (right > tile.left) & (top < tile.top + tile.height) & (bottom > tile.top)
        )
        found = []
        for index in np.flatnonzero(meets).tolist():
            record, patch, area = self._records[index], self._patches[index], self._areas[index]
            shown = _within(patch, tile)
            visible = int(shown.pixels.sum())
            if not visible:
                continue
            fields = {
                "category_id": record["category_id"],
                "iscrowd": int(record.get("iscrowd", 0)),
                "truncated": visible < area,
                "source_id": record["id"],
            }
            if visible == area:
                found.append(fields | _shifted(record, shown, tile))
                continue
            if visible < min_visible * area and not fields["iscrowd"]:
                if remainders == "drop":
                    continue
                fields["iscrowd"] = 1
            found.append(fields | patch_fields(shown, tile.height, tile.width))
        return found


def _within(patch: Patch, tile: Tile) -> Patch:
    """What a tile shows of a patch, in the pixels of the tile."""
    top, left = patch.top - tile.top, patch.left - tile.left
    pixels = patch.pixels[max(-top, 0) : tile.height - top, max(-left, 0) : tile.width - left]
    return Patch(max(top, 0), max(left, 0), pixels)


def _shifted(record: dict[str, Any], shown: Patch, tile: Tile) -> dict[str, Any]:
    """Outline, box and area of an object that lies in the tile, in its pixels."""
    x, y, width, height = record["bbox"]
    x1, y1 = max(x - tile.left, 0), max(y - tile.top, 0)
    x2, y2 = min(x - tile.left + width, tile.width), min(y - tile.top + height, tile.height)
    fields = patch_fields(shown, tile.height, tile.width)
    fields["area"] = record.get("area", fields["area"])
    if x2 > x1 and y2 > y1:
        fields["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    if isinstance(record["segmentation"], list):
        place = (tile.left, tile.top)
        polygons = [
            [round(number - place[axis % 2], 6) for axis, number in enumerate(p)] for p in record["segmentation"]
        ]
        moved = decode_patch(polygons, tile.height, tile.width)
        # pycocotools rounds to fifths of a pixel, so an outline that was moved may enclose other pixels.
        if (moved.top, moved.left) == (shown.top, shown.left) and np.array_equal(moved.pixels, shown.pixels):
            fields["segmentation"] = polygons
    return fields

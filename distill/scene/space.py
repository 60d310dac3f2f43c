"""Checks that the disk has room for a prediction, before it begins."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from distill.data.tiling import TilePlan
from distill.errors import UserError
from distill.scene.class_raster import raster_bytes
from distill.scene.model_facts import LAND_COVER, ModelFacts
from distill.scene.mosaic_file import row_bytes

_OVERLAY = 16 << 20
_TILE = 128 << 10  # of instances: rows, polygons and COCO results of a tile full of objects


def require_space(out: Path, plan: TilePlan, rows: Sequence[int], facts: ModelFacts, confidence: bool) -> None:
    """Refuses to begin or resume work that the disk cannot hold.

    Args:
        out: The output folder, which exists.
        plan: Tiles of the scene.
        rows: The rows of tiles that are not on the disk yet.
        facts: Of the model.
        confidence: Whether the class raster has a band of confidence.

    Raises:
        UserError: There is not enough room.
    """
    needed, free = needed_bytes(plan, rows, facts, confidence), shutil.disk_usage(out).free
    if needed > free:
        raise UserError(
            f"{out} has {free / 1e9:.1f} GB free, and up to {needed / 1e9:.1f} GB are needed for a scene of "
            f"{plan.width}x{plan.height} pixels; free space, or give --out on another disk"
        )


def needed_bytes(plan: TilePlan, rows: Sequence[int], facts: ModelFacts, confidence: bool) -> int:
    """The most that outputs of a scene, and work files of these rows of tiles, take in bytes."""
    if facts.task != LAND_COVER:
        return _OVERLAY + len(plan) * _TILE
    work = sum(row_bytes(plan, row, len(facts.class_names), confidence) for row in rows)
    return _OVERLAY + work + raster_bytes(plan.height, plan.width, confidence)

"""Whether the disk has room for a prediction, asked before it begins."""

import shutil
from pathlib import Path

from distill.data.tiling import TilePlan
from distill.errors import UserError
from distill.scene.class_raster import raster_bytes
from distill.scene.model_facts import LAND_COVER, ModelFacts
from distill.scene.mosaic_file import row_bytes

_OVERLAY = 16 << 20
_TILE = 128 << 10  # of instances: rows, polygons and COCO results of a tile full of objects


def require_space(out: Path, plan: TilePlan, facts: ModelFacts, confidence: bool) -> None:
    """Refuses to begin what the disk cannot hold.

    Args:
        out: The output folder, which exists.
        plan: Tiles of the scene.
        facts: Of the model.
        confidence: Whether the class raster has a band of confidence.

    Raises:
        UserError: There is not enough room.
    """
    needed, free = needed_bytes(plan, facts, confidence), shutil.disk_usage(out).free
    if needed > free:
        raise UserError(
            f"{out} has {free / 1e9:.1f} GB free, and up to {needed / 1e9:.1f} GB are needed for a scene of "
            f"{plan.width}x{plan.height} pixels; free space, or give --out on another disk"
        )


def needed_bytes(plan: TilePlan, facts: ModelFacts, confidence: bool) -> int:
    """The most that work files and outputs of a scene take, in bytes."""
    if facts.task != LAND_COVER:
        return _OVERLAY + len(plan) * _TILE
    rows = sum(row_bytes(plan, row, len(facts.class_names), confidence) for row in range(len(plan.tops)))
    return _OVERLAY + rows + raster_bytes(plan.height, plan.width, confidence)

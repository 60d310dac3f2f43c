"""The default tiles of a run: as it was trained, unless the user says otherwise.

Sizes are in pixels of the image file.
"""

from collections.abc import Mapping
from typing import Any

from distill.launch.stored_run import StoredRun
from distill.runs.folder import RunState
from distill.scene.options import PredictOptions
from distill.scene.tile_size import TileSize


def tile_size(run: StoredRun, facts: Mapping[str, Any], options: PredictOptions) -> tuple[TileSize, list[str]]:
    """The tiles of a run, and notes about them.

    Args:
        run: The run.
        facts: Of its summary; `image_side`, `largest_side` and `object_side` are those of its training images.
        options: Tile and overlap of the user.
    """
    trained = _trained_side(run, facts) if options.tile is None else options.tile
    whole = int(facts.get("largest_side") or 0)
    notes = []
    if options.tile is None and not whole:
        why = ", because it was stopped," if run.folder.state is RunState.INTERRUPTED else ""
        notes.append(
            f"the run{why} does not tell how large its training images are, so what is larger than {trained} px is cut "
            "into tiles of that side; --tile gives another"
        )
    size = TileSize.chosen(trained, whole, facts.get("object_side"), options.tile, options.overlap)
    if "zoom" not in run.data and (shrunk := size.shrunk(run.image_size)):
        notes.append(shrunk)
    return size, notes


def _trained_side(run: StoredRun, facts: Mapping[str, Any]) -> int:
    """What the network sees at once: a whole training image of instances, a crop or a window of land cover."""
    arguments = run.recipe["model"].get("init_args") or {}
    seen = arguments.get("window") or run.image_size
    if "zoom" in run.data:
        return max(16, round(seen / run.data["zoom"]))
    return int(facts.get("image_side") or run.image_size)

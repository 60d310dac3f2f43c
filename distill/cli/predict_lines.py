"""The closing lines of `distill predict`."""

import sys
from collections import Counter
from collections.abc import Iterator

from distill.evaluation.units import counted
from distill.launch.predict import Prediction
from distill.phases import line_console

_FEW = 8  # files that are named one by one


def print_prediction(found: Prediction) -> None:
    """Prints what was found, the files that were written, and notes."""
    console = line_console()
    for line in _lines(found):
        console.print(line)


def _lines(found: Prediction) -> Iterator[str]:
    for note in found.notes:
        yield f"note: {note}"
    notes = Counter(note for scene in found.scenes for note in scene.notes)
    for note, count in notes.items():
        names = [scene.name for scene in found.scenes if note in scene.notes]
        yield f"note: {names[0]} {note}" if count == 1 else f"note: {names[0]} and {count - 1} more: each {note}"
    yield f"{counted(len(found.scenes), 'scene')}, {_tiles(found)}"
    yield _classes(found)
    if found.pending:
        yield f"pending: {', '.join(found.pending)}; the shard that finishes the last of them joins the files"
    files = [name for scene in found.scenes for name in scene.outputs]
    shown = ", ".join([*found.files, *files[:_FEW]]) + (f" and {len(files) - _FEW} more" if len(files) > _FEW else "")
    yield f"wrote {found.out}/: {shown}"
    yield _cost(found)


def _tiles(found: Prediction) -> str:
    tiles = sum(scene.tiles for scene in found.scenes)
    empty = sum(scene.empty_tiles for scene in found.scenes)
    return counted(tiles, "tile") + (f", of which {empty} hold no data" if empty else "")


def _classes(found: Prediction) -> str:
    if found.scenes and not any(scene.counts for scene in found.scenes):  # land cover
        total = sum(scene.data_pixels for scene in found.scenes)
        if not total:
            return "no pixel holds data"
        pixels = {
            name: sum(scene.shares.get(name, 0) * scene.data_pixels for scene in found.scenes)
            for name in found.class_names
        }
        return ", ".join(f"{name} {100 * count / total:.1f} %" for name, count in pixels.items())
    counts = Counter[str]()
    for scene in found.scenes:
        counts.update(scene.counts)
    return f"{sum(counts.values()):,} objects: " + ", ".join(f"{counts[name]:,} {name}" for name in found.class_names)


def _cost(found: Prediction) -> str:
    seconds = found.seconds_per_tile
    parts = [] if seconds is None else [f"{seconds:.3g} s a tile"]
    if sys.platform != "win32":
        import resource  # which only Unix has

        unit = 1 if sys.platform == "darwin" else 1024
        parts.append(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.2f} GB")
    return ", ".join(parts)

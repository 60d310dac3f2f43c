"""Cuts images and their rasters of labels into tiles with the same names."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from distill.curate.target import Written
from distill.curate.tile.settings import TileSettings
from distill.curate.tile.written import Made, write_tiles
from distill.curate.tracking import Track, silent
from distill.data.broken import POLICIES
from distill.data.checks import existing_folder
from distill.data.images import BrokenImage, size_fault
from distill.data.label_pairs import PLACES, Pair, pair_folders
from distill.data.records import Problem
from distill.data.tile_files import TileFiles, image_size, open_tiles
from distill.data.tiling import Tile
from distill.errors import UserError, unknown_name

Value = int | tuple[int, int, int]


def tile_labels(
    images: Path,
    labels: Path,
    out: Path,
    settings: TileSettings,
    ignore: Sequence[Value] = (),
    on_error: str = "raise",
    track: Track[Any] = silent,
) -> Written:
    """Cuts the images of a folder, and the masks of the same names, into tiles.

    Writes `<out>/images/<image>_<top>_<left>.*`, `<out>/masks/` with the same names, `<out>/tiles.json`, which says
    where each tile lies, and a manifest: one part of what `SemanticFolder` reads. Masks keep their values.

    Args:
        images: Folder of the images.
        labels: Folder of the masks.
        out: The folder to write; an old one is replaced if all of its files were written by this function.
        settings: How tiles are cut, and which are kept; a tile is empty where no pixel is labelled.
        ignore: Values, or colours, that mean "not labelled", beside the nodata of the masks.
        on_error: "raise" stops at the first image that cannot be used, "skip" leaves it out and lists it in the
            manifest.
        track: Wraps what takes long, to show progress.

    Raises:
        UserError: A folder or a mask is missing, an image cannot be used (under "raise"), or `out` cannot be replaced.
    """
    if on_error not in POLICIES:
        raise unknown_name("--on-error policy", on_error, POLICIES)
    existing_folder("--images", str(images))
    existing_folder("--labels", str(labels))
    pairs = pair_folders(images, labels)
    shaped = {**settings.as_json(), "ignore": [list(v) if isinstance(v, tuple) else v for v in ignore]}

    def cut(fresh: Path) -> Made:
        return _cut(fresh, pairs, settings, ignore, on_error, track)

    files = [path for pair in pairs for path in (pair.image, pair.mask)]
    return write_tiles(out, {**shaped, "on_error": on_error}, files, cut, track)


def _cut(
    root: Path, pairs: Sequence[Pair], settings: TileSettings, ignore: Sequence[Value], on_error: str, track: Track[Any]
) -> Made:
    """Writes the tiles of all pairs."""
    jobs, skipped = _jobs(pairs, settings, on_error)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    places: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    for pair, group in groupby(track(jobs, "cutting"), key=lambda job: job[0]):
        tiles = [tile for _, tile in group]
        try:
            found, numbers = _of_pair(root, pair, tiles, settings, ignore)
        except BrokenImage as error:
            _handle(error, on_error, skipped)
        else:
            places |= found
            counts += numbers
    if not places:
        raise UserError(
            f"no tile is left of {len(pairs)} images; "
            + (f"the first that was left out: {skipped[0]}" if skipped else "check --ignore, or raise --empty")
        )
    (root / PLACES).write_text(json.dumps(places, indent=1) + "\n", encoding="utf-8")
    return Made({".": {"images": len(places), **counts}}, skipped)


def _jobs(
    pairs: Sequence[Pair], settings: TileSettings, on_error: str
) -> tuple[list[tuple[Pair, Tile]], list[Problem]]:
    """The tiles of all images, and the images that cannot be opened."""
    jobs: list[tuple[Pair, Tile]] = []
    skipped: list[Problem] = []
    for pair in pairs:
        try:
            jobs += [(pair, tile) for tile in settings.plan(*image_size(pair.image))]
        except BrokenImage as error:
            _handle(error, on_error, skipped)
    return jobs, skipped


def _of_pair(
    root: Path, pair: Pair, tiles: Sequence[Tile], settings: TileSettings, ignore: Sequence[Value]
) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    """Cuts one image and its mask; where one turns out to be damaged, none of their tiles stays."""
    places: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    written: list[Path] = []
    try:
        with open_tiles(pair.image) as image, open_tiles(pair.mask) as mask:
            if fault := size_fault(
                f"image {str(pair.image)!r}", (image.height, image.width), "its mask is", (mask.height, mask.width)
            ):
                raise BrokenImage(fault)
            for tile in tiles:
                labelled = mask.holds_data(tile) and _is_labelled(mask, tile, ignore)
                what = _becomes(image, pair.image.name, tile, labelled, settings)
                counts[what] += 1
                if what not in ("labelled tiles", "unlabelled tiles"):
                    continue
                name = f"{pair.image.stem}_{tile.top}_{tile.left}"
                for source, folder in ((image, "images"), (mask, "masks")):
                    written.append(root / folder / f"{name}{source.suffix}")
                    source.write(tile, written[-1])
                places[name] = {"source": pair.image.name, "top": tile.top, "left": tile.left}
    except BrokenImage:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return places, counts


def _becomes(image: TileFiles, name: str, tile: Tile, labelled: bool, settings: TileSettings) -> str:
    """What a tile is counted as."""
    if not image.holds_data(tile):
        return "tiles without data, left out"
    if labelled:
        return "labelled tiles"
    return "unlabelled tiles" if settings.keeps_empty(name, tile) else "unlabelled tiles, left out"


def _is_labelled(mask: TileFiles, tile: Tile, ignore: Sequence[Value]) -> bool:
    """Whether a pixel of a tile has a value that is not ignored."""
    values = mask.values(tile)
    ignored = np.zeros(values.shape[1:], np.bool_)
    for value in ignore:
        if isinstance(value, int) and len(values) == 1:
            ignored |= values[0] == value
        elif not isinstance(value, int) and len(values) == 3:
            ignored |= (values == np.reshape(value, (3, 1, 1))).all(axis=0)
        else:
            kind = "is a value, but the masks hold colours" if isinstance(value, int) else "is a colour"
            raise UserError(
                f"--ignore {value} {kind}; a tile of a mask has {len(values)} band{'s' * (len(values) > 1)}: give "
                "values such as 255 for one band, and colours such as 255,0,0 for three"
            )
    return not ignored.all()


def _handle(error: BrokenImage, on_error: str, skipped: list[Problem]) -> None:
    if on_error == "raise":
        raise UserError(f"{error}; correct the source, or leave such images out with --on-error skip") from error
    skipped.append(Problem("image", "", str(error)))

"""Cuts images with COCO annotations into tiles with COCO annotations."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from distill.curate.target import Written
from distill.curate.tile.objects import PlacedObjects
from distill.curate.tile.settings import TileSettings
from distill.curate.tile.written import Made, write_tiles
from distill.curate.tracking import Track, silent
from distill.curate.verify.layout import Part, find_parts
from distill.data.annotations import CocoAnnotations
from distill.data.broken import POLICIES
from distill.data.images import BrokenImage, size_fault
from distill.data.records import LARGEST_SCENE, Problem
from distill.data.tile_files import TileFiles, open_tiles
from distill.data.tiling import Tile
from distill.errors import UserError, unknown_name


class _Job(NamedTuple):
    """One tile of one image of one part."""

    part: str
    image: dict[str, Any]
    tile: Tile


class _Cut(NamedTuple):
    """A tile that was written: its image record without id, and its objects."""

    record: dict[str, Any]
    objects: list[dict[str, Any]]


def tile_instances(
    annotations: Sequence[Path],
    images: Path | None,
    out: Path,
    settings: TileSettings,
    on_error: str = "raise",
    track: Track[Any] = silent,
) -> Written:
    """Cuts the images of COCO files into tiles.

    Writes `<out>/images/<part>/<image>_<top>_<left>.*`, `<out>/annotations/<part>.json` and a manifest. An image record
    says in `source`, `top` and `left` where its tile lies, and an object in `truncated` whether the border of its tile
    cuts it, and in `source_id` which one it is.

    Args:
        annotations: COCO files, or a folder with some, see `distill.curate.verify.find_parts`.
        images: Folder of the images, where it is not found by itself.
        out: The folder to write; an old one is replaced if all of its files were written by this function.
        settings: How tiles are cut, and which are kept.
        on_error: "raise" stops at the first image or object that cannot be used, "skip" leaves it out and lists it in
            the manifest.
        track: Wraps what takes long, to show progress.

    Raises:
        UserError: The annotations are unusable, an image or object is (under "raise"), or `out` cannot be replaced.
    """
    if on_error not in POLICIES:
        raise unknown_name("--on-error policy", on_error, POLICIES)
    parts = {part.name: part for part in find_parts(*annotations, images=images)}
    contents = {name: _read(part, on_error) for name, part in parts.items()}
    files = [part.annotations for part in parts.values()]
    files += [parts[name].images / image["file_name"] for name in parts for image in contents[name].images]

    def cut(fresh: Path) -> Made:
        return _Cutter(parts, contents, settings, on_error, track).cut(fresh)

    return write_tiles(out, {**settings.as_json(), "on_error": on_error}, files, cut, track)


class _Cutter:
    """Cuts the images of all parts, see `tile_instances`."""

    def __init__(
        self,
        parts: dict[str, Part],
        contents: dict[str, CocoAnnotations],
        settings: TileSettings,
        on_error: str,
        track: Track[Any],
    ) -> None:
        self._parts, self._contents, self._settings = parts, contents, settings
        self._on_error, self._track = on_error, track
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in parts}

    def cut(self, root: Path) -> Made:
        """Writes the tiles and their annotations below `root`."""
        found: dict[str, list[_Cut]] = {name: [] for name in self._parts}
        skipped = [
            Problem(problem.kind, "", problem.within(content.path))
            for content in self._contents.values()
            for problem in content.problems
        ]
        for (name, _), jobs in groupby(
            self._track(self._jobs(), "cutting"), key=lambda job: (job.part, job.image["id"])
        ):
            try:
                found[name] += self._of_image(root, list(jobs))
            except BrokenImage as error:
                if self._on_error == "raise":
                    raise UserError(
                        f"{error}; correct the source, or leave such images out with --on-error skip"
                    ) from error
                skipped.append(Problem("image", "", str(error)))
        if not any(found.values()):
            raise UserError(
                f"no tile is left of {sum(len(content.images) for content in self._contents.values())} images"
                + (f"; the first that was left out: {skipped[0]}" if skipped else "; raise --empty")
            )
        counts: dict[str, dict[str, int]] = {}
        first_image, first_object = 1, 1
        for name, cuts in found.items():
            content = _coco(self._contents[name], cuts, first_image, first_object)
            first_image, first_object = first_image + len(cuts), first_object + len(content["annotations"])
            path = root / f"annotations/{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content), encoding="utf-8")
            counts[name] = _counted(content) | self._counts[name]
        return Made(counts, skipped)

    def _jobs(self) -> list[_Job]:
        return [
            _Job(name, image, tile)
            for name, content in self._contents.items()
            for image in content.images
            for tile in self._settings.plan(image["height"], image["width"])
        ]

    def _of_image(self, root: Path, jobs: list[_Job]) -> list[_Cut]:
        """Cuts one image; where it turns out to be damaged, none of its tiles stays."""
        name, image, _ = jobs[0]
        path = self._parts[name].images / image["file_name"]
        written: list[Path] = []
        cuts: list[_Cut] = []
        counts: Counter[str] = Counter()
        try:
            with open_tiles(path) as source:
                size = image["height"], image["width"]
                if fault := size_fault(
                    f"image {str(path)!r}", (source.height, source.width), "its annotations say", size
                ):
                    raise BrokenImage(fault)
                placed = PlacedObjects(self._contents[name].objects(image["id"]), *size)
                for _, _, tile in jobs:
                    objects = placed.within(tile, self._settings.min_visible, self._settings.remainders)
                    what = self._becomes(source, image, tile, objects)
                    counts[what] += 1
                    if what not in ("tiles", "empty tiles"):
                        continue
                    inner = f"{name}/{_stem(image)}_{tile.top}_{tile.left}{source.suffix}"
                    written.append(root / "images" / inner)
                    written[-1].parent.mkdir(parents=True, exist_ok=True)
                    source.write(tile, written[-1])
                    cuts.append(_Cut(_record(image, tile, inner), objects))
        except BrokenImage:
            for tile_file in written:
                tile_file.unlink(missing_ok=True)
            raise
        self._counts[name] += counts
        return cuts

    def _becomes(self, source: TileFiles, image: dict[str, Any], tile: Tile, objects: list[dict[str, Any]]) -> str:
        """What a tile is counted as."""
        if not source.holds_data(tile):
            return "tiles without data, left out"
        if any(not record["iscrowd"] for record in objects):
            return "tiles"
        return "empty tiles" if self._settings.keeps_empty(image["file_name"], tile) else "empty tiles, left out"


def _read(part: Part, on_error: str) -> CocoAnnotations:
    """The annotations of a part.

    Raises:
        UserError: They are unusable, an object is (under "raise"), or tiles of two images would have one name.
    """
    content = CocoAnnotations(part.annotations, on_error="skip", quiet=True, largest=LARGEST_SCENE)
    if content.problems and on_error == "raise":
        raise UserError(
            f"{content.problems[0].within(content.path)}; correct the file, or leave such objects out with "
            "--on-error skip"
        )
    names: dict[str, str] = {}
    for image in content.images:
        other = names.setdefault(_stem(image), image["file_name"])
        if other != image["file_name"]:
            raise UserError(
                f"annotations {str(content.path)!r} list {other!r} and {image['file_name']!r}, whose tiles would have "
                "the same names; rename one of them"
            )
    return content


def _stem(image: dict[str, Any]) -> str:
    """How the names of an image's tiles begin; an image outside of the folder counts as one in it."""
    name = Path(image["file_name"])
    inside = Path(name.name) if name.is_absolute() or ".." in name.parts else name
    return inside.with_suffix("").as_posix()


def _record(image: dict[str, Any], tile: Tile, name: str) -> dict[str, Any]:
    """The record of a tile, without id. A tile of a tile has its place in the image that was cut first."""
    top, left = (image[key] if isinstance(image.get(key), int) else 0 for key in ("top", "left"))
    return {
        "file_name": name,
        "height": tile.height,
        "width": tile.width,
        "source": image.get("source", image["file_name"]),
        "top": top + tile.top,
        "left": left + tile.left,
    }


def _counted(content: dict[str, Any]) -> dict[str, int]:
    """The numbers of images and objects of a COCO file."""
    ignored = [record["iscrowd"] for record in content["annotations"]]
    cut = sum(record["truncated"] and not record["iscrowd"] for record in content["annotations"])
    objects = len(ignored) - sum(ignored)
    return {"images": len(content["images"]), "objects": objects, "truncated": cut, "regions to ignore": sum(ignored)}


def _coco(content: CocoAnnotations, cuts: Sequence[_Cut], first_image: int, first_object: int) -> dict[str, Any]:
    """The COCO file of one part, ids counted from the given ones."""

    def objects() -> Iterator[dict[str, Any]]:
        for image_id, cut in enumerate(cuts, start=first_image):
            yield from ({"image_id": image_id, **record} for record in cut.objects)

    return {
        "info": {"description": f"tiles of {content.path.name}"},
        "licenses": [],
        "categories": content.ground_truth([])["categories"],
        "images": [{"id": number, **cut.record} for number, cut in enumerate(cuts, start=first_image)],
        "annotations": [{"id": number, **record} for number, record in enumerate(objects(), start=first_object)],
    }

"""The images of the study on NWPU VHR-10: unlabelled tiles, places, labelled tiles, and draws of the labels."""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from distill.curate.overlaps import features_of, points_in_common
from distill.curate.tile import TileSettings, tile_instances
from distill.data.duplicates import Looks, Pair, groups_of, near_identical, thumbnail
from distill.data.images import read_image
from distill.data.tiling import TilePlan

SIDE, OVERLAP = 256, 64  # of tiles, in pixels
SCALES = (1, 2)  # pixels of the file for one of an unlabelled tile
SELECTED = 0.15  # share of the labelled images that recipes can be selected on


class StudyData:
    """What the runs of the study read; each part is made when it is first asked for, and kept.

    Args:
        root: The folder of `nwpu`, `landcover` and `unlabelled`.
        work: Where it is written.
    """

    def __init__(self, root: Path, work: Path) -> None:
        self.nwpu, self.cover, self.unlabelled = root / "nwpu", root / "landcover", root / "unlabelled"
        self.work = work

    @cached_property
    def pool(self) -> Path:
        """Folder of unlabelled tiles: of all images that may be trained on, at two scales.

        Tiles, because a training step decodes 20 times fewer pixels than it would of whole images.
        """
        folder, done = self.work / "pool", self.work / "pool/done"
        if not done.exists():
            for name, path in self._unlabelled_images():
                with Image.open(path) as file:
                    whole = file.convert("RGB")
                for scale in SCALES:
                    for tile in TilePlan(whole.height, whole.width, scale * SIDE, scale * OVERLAP // 2):
                        area = (tile.left, tile.top, tile.left + tile.width, tile.top + tile.height)
                        size = tile.width // scale, tile.height // scale
                        target = folder / name / f"{path.stem}_{scale}_{tile.top}_{tile.left}.jpg"
                        target.parent.mkdir(parents=True, exist_ok=True)
                        view = whole.crop(area).resize(size, Image.Resampling.BOX)
                        view.save(target, quality=95, subsampling=0)
            done.touch()
        return folder

    @cached_property
    def untied(self) -> list[int]:
        """Ids of the validation images that show no place of a training image."""
        tied = set(self._places["tied"])
        return [image["id"] for image in _read(self.nwpu / "annotations/val.json")["images"] if image["id"] not in tied]

    @cached_property
    def tiles(self) -> Path:
        """Labelled tiles: `annotations/fit.json` and `annotations/select.json` are parts of NWPU's training images.

        Images of one place are in one part.
        """
        folder = self.work / "tiles"
        if not (folder / "manifest.json").exists():
            content = _read(self.nwpu / "annotations/train.json")
            places: dict[int, list[int]] = defaultdict(list)
            for image_id, place in self._places["place"].items():
                places[place].append(int(image_id))
            selected: set[int] = set()
            for place in _shuffled(places, 0):
                if len(selected) < SELECTED * len(content["images"]):
                    selected |= set(places[place])
            everything = {image["id"] for image in content["images"]}
            for name, chosen in (("fit", everything - selected), ("select", selected)):
                _write(self.part(name), _restricted(content, chosen))
            settings = TileSettings(SIDE, OVERLAP, empty=0.1)
            tile_instances([self.part("fit"), self.part("select")], self.nwpu / "images", folder, settings)
        return folder

    def part(self, name: str) -> Path:
        """Annotations of the whole images of "fit" or "select"."""
        return self.work / f"parts/{name}.json"

    def labels(self, percent: int, seed: int) -> Path:
        """Annotations of the tiles of some of the labelled images.

        With the same seed, more contain fewer. Of each class that is there, one image comes early: with a tenth of the
        images, each class still has an object.
        """
        every = self.tiles / "annotations/fit.json"
        if percent == 100:
            return every
        path = self.work / f"labels/{percent}_{seed}.json"
        if not path.exists():
            whole, content = _read(self.part("fit")), _read(every)
            classes: dict[int, set[int]] = defaultdict(set)
            for one in whole["annotations"]:
                classes[one["image_id"]].add(one["category_id"])
            order = _shuffled((image["id"] for image in whole["images"]), seed)
            firsts = {label: image for image in reversed(order) for label in classes[image]}
            early = [image for image in order if image in firsts.values()]
            order = early + [image for image in order if image not in early]
            chosen = set(order[: max(1, len(order) * percent // 100)])
            names = {image["file_name"] for image in whole["images"] if image["id"] in chosen}
            _write(path, _restricted(content, {tile["id"] for tile in content["images"] if tile["source"] in names}))
        return path

    def _unlabelled_images(self) -> Iterator[tuple[str, Path]]:
        """Each with the name of its data set: never one of a validation split."""
        for image in _read(self.nwpu / "annotations/train.json")["images"]:
            yield "nwpu", self.nwpu / "images" / image["file_name"]
        for stem in (self.cover / "train.txt").read_text(encoding="utf-8").split():
            yield "landcover", next((self.cover / "images").glob(f"{stem}.*"))
        for path in sorted((self.unlabelled / "images").iterdir()):
            yield "unlabelled", path

    @cached_property
    def _places(self) -> dict[str, Any]:
        """`place`: a number of each training image; `tied`: validation images that show a place of one.

        Found as by `distill data verify --overlaps`: images that are nearly the same, and crops that overlap in part.
        """
        path = self.work / "places.json"
        if not path.exists():
            train, val = (_read(self.nwpu / f"annotations/{name}.json")["images"] for name in ("train", "val"))
            shown = [read_image(self.nwpu / "images" / image["file_name"]) for image in [*train, *val]]
            count = len(train)
            pairs = near_identical(Looks.from_thumbnails([thumbnail(pixels) for pixels in shown]))
            alike = groups_of(pairs, len(shown)).tolist()  # the first of each group, and training images come first
            tied = {number for number in range(count, len(shown)) if alike[number] < count}
            points = [features_of(pixels) for pixels in shown]
            for first in range(count):
                for second in range(first + 1, len(shown)):
                    if points_in_common(points[first], points[second]):
                        pairs.append(Pair(first, second, 0, 1.0, False))
                        tied |= {second} - set(range(count))
            places = groups_of([pair for pair in pairs if max(pair.first, pair.second) < count], count).tolist()
            place = {str(image["id"]): number for image, number in zip(train, places, strict=True)}
            _write(path, {"place": place, "tied": [val[number - count]["id"] for number in sorted(tied)]})
        return _read(path)


def _restricted(content: dict[str, Any], chosen: set[int]) -> dict[str, Any]:
    """COCO annotations of some images alone."""
    images = [image for image in content["images"] if image["id"] in chosen]
    return {**content, "images": images, "annotations": [a for a in content["annotations"] if a["image_id"] in chosen]}


def _shuffled(numbers: Iterable[int], seed: int) -> list[int]:
    return random.Random(seed).sample(found := sorted(numbers), len(found))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    unfinished.replace(path)

"""Features as COCO files, in pixels: the results of all scenes, and a data set that annotation tools import."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.data.masks import encode_patch, fits_rle
from distill.errors import UserError
from distill.files import write_atomically
from distill.scene.feature_writer import TextWriter
from distill.scene.features import Feature
from distill.scene.georeference import Georeference


class CocoWriter(TextWriter):
    """The results of one scene, a JSON object a line, without the id of its image; `join_coco` makes files of them.

    Fields: `category_id` (label + 1), `bbox` [x, y, width, height], `score`, `segmentation` (compressed RLE), `area`
    in pixels, `obb` (corners x1, y1, ..., x4, y4 of the smallest rectangle of any direction) and `feature_id`, the id
    of the same object in GeoPackage and GeoJSON. Masks are encoded from their own rectangle.

    Args:
        path: The file; what is there already is replaced.
        height: Of the scene in pixels.
        width: Of the scene in pixels.

    Raises:
        UserError: The scene has more pixels than COCO's run lengths hold.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        if not fits_rle(height, width):
            raise UserError(
                f"a scene of {width} x {height} pixels is too large for COCO files, which hold up to 2^32 pixels; "
                "leave coco out of --format, or cut the scene"
            )
        self.size = height, width
        super().__init__(path)

    def _write(self, features: Sequence[Feature]) -> None:
        self.file.writelines(f"{_text(self._line(feature))}\n" for feature in features)

    def _line(self, feature: Feature) -> dict[str, Any]:
        x1, y1, x2, y2 = feature.box
        return {
            "category_id": feature.label + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": feature.score,
            "segmentation": encode_patch(feature.mask, *self.size),
            "area": feature.area_px,
            "obb": list(feature.oriented),
            "feature_id": feature.id,
        }


@dataclass(frozen=True)
class CocoPart:
    """A scene and what `CocoWriter` wrote of it.

    Args:
        path: The writer's file.
        file_name: Of the image, as annotation tools look for it.
        height: In pixels, of the grid that was predicted.
        width: In pixels, of the grid that was predicted.
        georeference: Of that grid; its transform and CRS are noted beside the image.
    """

    path: Path
    file_name: str
    height: int
    width: int
    georeference: Georeference | None


def join_coco(parts: Sequence[CocoPart], class_names: Sequence[str], results: Path, data_set: Path) -> None:
    """Writes COCO results, and a COCO data set with the same objects as annotations, of all scenes.

    Images have the ids 1, 2, ... in the order of the parts; annotations are numbered over all images.

    Args:
        parts: The scenes.
        class_names: Names by label; category ids start at 1.
        results: A list of results, for pycocotools.
        data_set: `info`, `images`, `categories`, `annotations`, for tools that import data sets.

    Raises:
        UserError: A file cannot be written, or the disk is full.
    """
    images = [_image(number, part) for number, part in enumerate(parts, 1)]
    categories = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(class_names, 1)]
    head = {"info": {"description": "Predictions of a model"}, "licenses": [], "images": images}
    start = _text({**head, "categories": categories}).removesuffix("}") + ', "annotations": ['
    found = (f'{{"image_id": {image}, {line[1:]}' for image, line in _lines(parts))
    write_atomically(results, lambda path: _write_list(path, "[", found, "]\n"))
    annotations = (
        f'{{"id": {number}, "image_id": {image}, "iscrowd": 0, {line[1:]}'
        for number, (image, line) in enumerate(_lines(parts), 1)
    )
    write_atomically(data_set, lambda path: _write_list(path, start, annotations, "]}\n"))


def _image(number: int, part: CocoPart) -> dict[str, Any]:
    georeference = part.georeference
    return {
        "id": number,
        "file_name": part.file_name,
        "width": part.width,
        "height": part.height,
        "transform": list(georeference.transform) if georeference is not None else None,
        "crs": georeference.wkt if georeference is not None else None,
    }


def _lines(parts: Sequence[CocoPart]) -> Iterator[tuple[int, str]]:
    """The id of the image and the JSON object of every result."""
    for number, part in enumerate(parts, 1):
        with part.path.open(encoding="utf-8") as file:
            for line in file:
                yield number, line.rstrip("\n")


def _write_list(path: Path, start: str, items: Iterable[str], end: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(start)
        for number, item in enumerate(items):
            file.write(f"{',' if number else ''}\n{item}")
        file.write(end)


def _text(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)

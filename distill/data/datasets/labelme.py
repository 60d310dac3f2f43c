"""Images labelled with LabelMe: a JSON file beside each image.

Polygons, rectangles, circles and masks are objects; shapes of one label and one `group_id` are one object. Points and
lines enclose nothing and are left out. `imageData`, a copy of the image, is ignored. LabelMe has no split: folders
`train`, `val` and `test` are one, else all images are in the part `all`.

Source: github.com/wkentaro/labelme, its file format and `examples/instance_segmentation/labelme2coco.py`.
"""

import base64
import binascii
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distill.data.datasets.source import Found, Item, Objects, Source, in_pairs, part_of, stem_below
from distill.data.images import SUFFIXES, is_leftover
from distill.data.listing import entries, subfolders
from distill.data.masks import box_polygons, decode_patch, encode_mask
from distill.data.records import Problem, is_number
from distill.errors import UserError

_ENCLOSE = ("polygon", "rectangle", "circle", "mask")


def find(folder: Path, on_error: str) -> Source:
    """The JSON files of LabelMe and their images.

    Raises:
        UserError: There is none, or one cannot be used (under "raise"); and all cases of `in_pairs`.
    """
    files = [path for base in subfolders(folder, depth=6) for path in entries(base) if not is_leftover(path.name)]
    images = {stem_below(path, folder): path for path in reversed(files) if path.suffix.lower() in SUFFIXES}
    labels: dict[str, Path] = {}
    contents: dict[str, dict[str, Any]] = {}
    skipped: list[Problem] = []
    for path in files:
        if path.suffix.lower() != ".json":
            continue
        content = _read(path)
        if isinstance(content, dict):
            labels[stem_below(path, folder)], contents[stem_below(path, folder)] = path, content
        elif stem_below(path, folder) in images:  # other JSON files may lie about, but not with the name of an image
            labels[stem_below(path, folder)] = path
            skipped.append(Problem("annotation file", "", f"JSON file {str(path)!r} {content}"))
    if not contents:
        raise UserError(
            f"--source {str(folder)!r} holds no LabelMe data set: no JSON file with `shapes` beside an image"
            + (f"; the first that is none: {skipped[0]}" if skipped else "")
        )
    if skipped and on_error == "raise":
        raise UserError(f"{skipped[0]}; correct it, or leave such files out with --on-error skip")
    stems, alone, problems = in_pairs(dict(sorted(images.items())), labels, "JSON file", on_error)
    names = sorted({shape["label"] for content in contents.values() for shape in content["shapes"]})
    items = [
        Item(
            name=images[stem].relative_to(folder).as_posix(),
            image=images[stem],
            image_id=number,
            splits=(part_of(images[stem], folder),),
            objects=_objects(labels[stem], contents[stem]["shapes"], names),
            size=contents[stem]["size"],
            files=(labels[stem],),
        )
        for number, stem in enumerate((stem for stem in stems if stem in contents), start=1)
    ]
    broken = [labels[stem] for stem in labels.keys() - contents.keys()]
    return Source("LabelMe", names, items, [*alone, *sorted(broken)], [*skipped, *problems])


def _read(path: Path) -> dict[str, Any] | str:
    """Shapes and size of a JSON file, without the image in it; or what is wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        return f"cannot be read ({error})"
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(s, dict) and {"label", "points"} <= s.keys() for s in shapes):
        return "has no list `shapes` with `label` and `points` each, as LabelMe writes"
    if not all(isinstance(shape["label"], str) and shape["label"].strip() for shape in shapes):
        return "has a shape whose `label` is no text"
    size = content.get("imageHeight"), content.get("imageWidth")
    return {"shapes": shapes, "size": size if all(isinstance(side, int) for side in size) else None}


def _objects(path: Path, shapes: list[dict[str, Any]], names: list[str]) -> Objects:
    def objects(height: int, width: int) -> list[Found]:
        groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
        for number, shape in enumerate(shapes):
            group = shape.get("group_id")
            key = ("alone", number) if group is None else (shape["label"], str(group))
            groups.setdefault(key, []).append((number, shape))
        found: list[Found] = []
        for members in groups.values():
            outlines: list[Any] = []
            for number, shape in members:
                outline = _outline(shape, height, width)
                if isinstance(outline, str):
                    found.append(Problem("shape", f"shape {number} in {str(path)!r}", outline))
                else:
                    outlines.append(outline)
            if outlines:
                category_id = names.index(members[0][1]["label"]) + 1
                found.append({"category_id": category_id, "segmentation": _joined(outlines, height, width)})
        return found

    return objects


def _outline(shape: dict[str, Any], height: int, width: int) -> Any:
    """A shape as polygons or RLE; or, as a text, what is wrong with it."""
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind not in _ENCLOSE:
        return f"is a {kind}, which encloses nothing; known are {', '.join(_ENCLOSE)}"
    sound = isinstance(points, list) and all(
        isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in points
    )
    if not sound:
        return "has points that are not two numbers each"
    # As `distill.data.records` has it; an outline is followed pixel by pixel.
    if not all(-width <= x <= 2 * width and -height <= y <= 2 * height for x, y in points):
        return f"has a point far outside its image of {width}x{height}"
    if kind == "polygon" or (kind == "rectangle" and len(points) == 4):
        if len(points) < 3:
            return f"is a polygon of {len(points)} points; it needs three or more"
        return [[number for point in points for number in point]]
    if len(points) != 2:
        return f"is a {kind} of {len(points)} points; it needs two"
    (x1, y1), (x2, y2) = points
    if kind == "rectangle":
        return box_polygons(x1, y1, x2, y2)
    if kind == "circle":
        return _circle(x1, y1, math.hypot(x2 - x1, y2 - y1))
    return _mask(shape.get("mask"), x1, y1, height, width)


def _circle(x: float, y: float, radius: float) -> Any:
    """A circle as a polygon that deviates by a tenth of a pixel.

    LabelMe's own converter lets it deviate by a pixel, which takes 5 % off a circle of 20 pixels.
    """
    if radius <= 0:
        return "is a circle without radius"
    corners = max(math.ceil(math.pi / math.acos(1 - min(0.1 / radius, 1))), 12)
    turns = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return [np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1).ravel().tolist()]


def _mask(text: Any, x: float, y: float, height: int, width: int) -> Any:
    """A mask, which LabelMe stores as a PNG of the rectangle that starts at a point."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            pixels = np.asarray(image.convert("L")) > 0
    except (OSError, TypeError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        return f"has a mask that is no PNG in base64 ({error})"
    left, top = round(x), round(y)
    whole = np.zeros((height, width), np.uint8)
    shown = pixels[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    whole[max(top, 0) : max(top, 0) + shown.shape[0], max(left, 0) : max(left, 0) + shown.shape[1]] = shown
    return encode_mask(whole)


def _joined(outlines: list[Any], height: int, width: int) -> Any:
    """Several outlines as one segmentation: polygons side by side, or the pixels of all."""
    if len(outlines) == 1:
        return outlines[0]
    if all(isinstance(outline, list) for outline in outlines):
        return [polygon for outline in outlines for polygon in outline]
    whole = np.zeros((height, width), np.uint8)
    for outline in outlines:
        patch = decode_patch(outline, height, width)
        rows, columns = patch.pixels.shape
        whole[patch.top : patch.top + rows, patch.left : patch.left + columns] |= patch.pixels
    return encode_mask(whole)

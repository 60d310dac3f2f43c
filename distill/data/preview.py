"""A contact sheet: some images of a data set with their boxes, masks and class names drawn in.

Axes: H W pixels of an image.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill.data.annotations import CocoAnnotations
from distill.data.images import BrokenImage, read_image
from distill.errors import UserError, did_you_mean
from distill.report.figures import CLASS_COLOURS, as_rle, draw_instances

logger = logging.getLogger(__name__)

_MOST_LABELS = 25  # in one image; above that each class is named once
_SHARE_OF_LABEL = 0.04  # of an image's width, how high a label is at the least
_CELL = 3.6  # inches, the width of an image among many
_SHEET = 10.8  # inches, the least width of the sheet: few images are drawn larger
_SHOWN = 3
_LONGEST = 4  # the sides of a cell at most; a strip gets no sheet of ten metres

_Chosen = tuple[dict[str, Any], np.ndarray]


def contact_sheet(
    annotations: CocoAnnotations,
    images: Path,
    count: int = 12,
    seed: int = 0,
    names: Sequence[str] = (),
    bands: Sequence[int] | None = None,
) -> Figure:
    """Draws the images `names`, every object with its id; or `count`: first such that show a class not yet shown, then
    any, in an order drawn from `seed`. Of those, images that cannot be drawn are passed over with a warning.

    Args:
        annotations: What is drawn.
        images: The folder of the images.
        count: How many images.
        seed: Another seed shows other images.
        names: File names as the annotations have them.
        bands: Which bands of the images are shown, see `distill.data.images.read_image`.

    Raises:
        UserError: Not a single image can be drawn, or one of `names` is not there or cannot be.
    """
    if names:
        chosen = [(record, _pixels(images, record, bands)) for record in _named(annotations, names)]
    else:
        chosen = _readable(_in_order(annotations, seed), images, count, bands)
        if not chosen:
            raise UserError(
                f"no image of {str(annotations.path)!r} can be shown from {str(images)!r}; run distill data verify"
            )
    columns = round(math.sqrt(4 / 3 * len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    aspect = float(np.median([pixels.shape[0] / pixels.shape[1] for _, pixels in chosen]).clip(1 / _LONGEST, _LONGEST))
    cell = max(_CELL, _SHEET / columns)
    figure = Figure(figsize=(cell * columns, (cell * aspect + 0.3) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (record, pixels) in zip(grid, chosen, strict=False):
        _draw(axes, pixels, annotations, record, with_ids=bool(names))
    for axes in grid[len(chosen) :]:
        axes.set_axis_off()
    return figure


def _named(annotations: CocoAnnotations, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    records = {record["file_name"]: record for record in annotations.images}
    for name in names:
        if name not in records:
            hint = did_you_mean(name, list(records)) or f"its first is {next(iter(records), None)!r}"
            raise UserError(f"--image {name!r} is no file_name in {str(annotations.path)!r}; {hint}")
        yield records[name]


def _readable(
    records: Iterable[dict[str, Any]], images: Path, count: int, bands: Sequence[int] | None
) -> list[_Chosen]:
    chosen: list[_Chosen] = []
    faults: list[str] = []
    for record in records:
        try:
            chosen.append((record, _pixels(images, record, bands)))
        except BrokenImage as error:
            faults.append(str(error))
        if len(chosen) == count:
            break
    if chosen and faults:
        more = f"; and {len(faults) - _SHOWN} more, see distill data verify" if len(faults) > _SHOWN else ""
        logger.warning("passed over %d that cannot be drawn: %s%s", len(faults), "; ".join(faults[:_SHOWN]), more)
    return chosen


def _pixels(images: Path, record: dict[str, Any], bands: Sequence[int] | None) -> np.ndarray:
    path = images / record["file_name"]
    pixels = read_image(path, bands).permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    if (height, width) != (record["height"], record["width"]):
        raise BrokenImage(
            f"image {str(path)!r} is {width}x{height}, but its annotations say {record['width']}x{record['height']}"
        )
    return pixels


def _in_order(annotations: CocoAnnotations, seed: int) -> list[dict[str, Any]]:
    shuffled = [annotations.images[i] for i in np.random.default_rng(seed).permutation(len(annotations.images))]
    shown: set[int] = set()
    first: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    for record in shuffled:
        labels = {annotation["label"] for annotation in annotations.objects(record["id"])}
        (first if labels - shown else later).append(record)
        shown |= labels
    return first + later


def _draw(axes: Axes, pixels: np.ndarray, annotations: CocoAnnotations, record: dict[str, Any], with_ids: bool) -> None:
    height, width = pixels.shape[:2]
    objects = [as_rle(annotation, height, width) for annotation in annotations.objects(record["id"])]
    names = dict(zip(annotations.category_ids, annotations.class_names, strict=True))
    draw_instances(axes, pixels, objects, names)
    named: set[int] = set()
    for annotation in objects:
        label = annotation["label"]
        if label in named and len(objects) > _MOST_LABELS and not with_ids:
            continue
        named.add(label)
        y, side = _beside(annotation["bbox"], height, width)
        axes.text(
            max(annotation["bbox"][0], 0),
            y,
            f"{annotations.class_names[label]} {annotation['id']}" if with_ids else annotations.class_names[label],
            fontsize=6,
            color="black",
            verticalalignment=side,
            clip_on=True,
            bbox={"facecolor": CLASS_COLOURS[label % len(CLASS_COLOURS)], "edgecolor": "none", "pad": 0.6},
        )
    noun = "object" if len(objects) == 1 else "objects"
    axes.set_title(f"{record['file_name']}: {len(objects)} {noun}", fontsize=8)


def _beside(box: list[float], height: int, width: int) -> tuple[float, str]:
    """Where the label of a box goes, and which edge of it lies there: above the box, below if it touches the top."""
    room = _SHARE_OF_LABEL * width
    top, bottom = box[1], box[1] + box[3]
    if top >= room:
        return top, "bottom"
    return (bottom, "top") if bottom <= height - room else (max(top, 0), "top")

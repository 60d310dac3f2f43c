"""A contact sheet: some images of a data set with their boxes, masks and class names drawn in.

Axes: H W pixels of an image.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill.data.annotations import CocoAnnotations
from distill.data.images import BrokenImage, read_image
from distill.errors import UserError
from distill.report.figures import CLASS_COLOURS, as_rle, draw_instances

_MOST_LABELS = 25  # in one image; above that each class is named once


def contact_sheet(annotations: CocoAnnotations, images: Path, count: int = 12, seed: int = 0) -> Figure:
    """Draws up to `count` images: first such that show a class not yet shown, then any; in an order drawn from `seed`.

    Args:
        annotations: What is drawn.
        images: The folder of the images.
        count: How many images; those that cannot be read or have another size than annotated are passed over.
        seed: Another seed shows other images.

    Raises:
        UserError: Not a single image can be shown.
    """
    chosen: list[tuple[dict[str, Any], np.ndarray]] = []
    for record in _in_order(annotations, seed):
        try:
            pixels = read_image(images / record["file_name"]).permute(1, 2, 0).numpy()
        except BrokenImage:
            continue
        if pixels.shape[:2] == (record["height"], record["width"]):
            chosen.append((record, pixels))
        if len(chosen) == count:
            break
    if not chosen:
        raise UserError(
            f"no image of {str(annotations.path)!r} can be shown from {str(images)!r}; run distill data verify"
        )
    columns = round(math.sqrt(4 / 3 * len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    aspect = float(np.median([pixels.shape[0] / pixels.shape[1] for _, pixels in chosen]))
    figure = Figure(figsize=(3.6 * columns, (3.6 * aspect + 0.3) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (record, pixels) in zip(grid, chosen, strict=False):
        _draw(axes, pixels, annotations, record)
    for axes in grid[len(chosen) :]:
        axes.set_axis_off()
    return figure


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


def _draw(axes: Axes, pixels: np.ndarray, annotations: CocoAnnotations, record: dict[str, Any]) -> None:
    height, width = pixels.shape[:2]
    objects = [as_rle(annotation, height, width) for annotation in annotations.objects(record["id"])]
    names = dict(zip(annotations.category_ids, annotations.class_names, strict=True))
    draw_instances(axes, pixels, objects, names)
    named: set[int] = set()
    for annotation in objects:
        label = annotation["label"]
        if label in named and len(objects) > _MOST_LABELS:
            continue
        named.add(label)
        axes.text(
            max(annotation["bbox"][0], 0),
            max(annotation["bbox"][1], 0),
            annotations.class_names[label],
            fontsize=6,
            color="black",
            verticalalignment="bottom",
            clip_on=True,
            bbox={"facecolor": CLASS_COLOURS[label % len(CLASS_COLOURS)], "edgecolor": "none", "pad": 0.6},
        )
    noun = "object" if len(objects) == 1 else "objects"
    axes.set_title(f"{record['file_name']}: {len(objects)} {noun}", fontsize=8)

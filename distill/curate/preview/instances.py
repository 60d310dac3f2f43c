"""Images of a data set with the boxes, masks and class names of their objects.

Axes: H W pixels of an image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from distill.colours import class_colour, class_rgb
from distill.curate.preview.choice import named_images, varied_images
from distill.curate.preview.sheet import OPACITY, grid_of, reduced_size, resized
from distill.data.annotations import CocoAnnotations
from distill.data.masks import decode_patch
from distill.data.zoom import Zoom

_MOST_LABELS = 25  # in one image; above that each class is named once
_SHARE_OF_LABEL = 0.04  # of an image's width, how high a label is at the least

Records = list[dict[str, Any]]


def contact_sheet(
    annotations: CocoAnnotations,
    images: Path,
    count: int = 12,
    seed: int = 0,
    names: Sequence[str] = (),
    bands: Sequence[int] | None = None,
) -> Figure:
    """Draws the images `names`, every object with its id; or `count` images that show as many classes as possible.

    Args:
        annotations: What is drawn.
        images: The folder of the images.
        count: How many images.
        seed: Another seed shows other images.
        names: File names as the annotations have them.
        bands: Which bands of the images are shown, see `distill.data.images.read_image`.

    Raises:
        UserError: No image can be drawn, or one of `names` is not there or cannot be read.
    """
    if names:
        chosen = named_images(annotations, images, names, bands)
    else:
        chosen = varied_images(annotations, images, count, seed, bands)
    figure, grid, side = grid_of([pixels.shape[-2:] for _, pixels in chosen])
    for axes, (record, pixels) in zip(grid, chosen, strict=False):
        objects = annotations.objects(record["id"])
        noun = "object" if len(objects) == 1 else "objects"
        axes.set_title(f"{record['file_name']}: {len(objects)} {noun}", fontsize=8)
        axes.set_axis_off()
        # Coordinates stay those of the file, while the pixels are reduced.
        height, width = record["height"], record["width"]
        axes.imshow(_with_masks(pixels, objects, side), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        _draw_boxes(axes, objects)
        _name_objects(axes, objects, annotations.class_names, (height, width), with_ids=bool(names))
    return figure


def _with_masks(pixels: Tensor, objects: Records, side: int) -> NDArray[np.float32]:
    """RGB (h, w, 3) in [0, 1] of an image (3, H, W), reduced to `side`, with the masks in the colours of the classes.

    It is reduced first, because a screen shows no more.
    """
    height, width = pixels.shape[-2:]
    size = reduced_size(height, width, side)
    shown, zoom = resized(pixels, size), Zoom((0, 0, height, width), size)
    colours = class_rgb(1 + max((annotation["label"] for annotation in objects), default=0))
    for annotation in objects:
        patch = zoom(decode_patch(annotation["segmentation"], height, width))
        if patch is not None:
            rows, columns = patch.pixels.shape
            part = shown[patch.top : patch.top + rows, patch.left : patch.left + columns]
            colour = colours[annotation["label"]]
            part += (OPACITY * patch.pixels[:, :, None]) * (colour - part)
    return shown


def _draw_boxes(axes: Axes, objects: Records) -> None:
    boxes = [
        [(x - 0.5, y - 0.5), (x + w - 0.5, y - 0.5), (x + w - 0.5, y + h - 0.5), (x - 0.5, y + h - 0.5)]
        for x, y, w, h in (annotation["bbox"] for annotation in objects)
    ]
    edges = [class_colour(annotation["label"]) for annotation in objects]
    axes.add_collection(PolyCollection(boxes, facecolors="none", edgecolors=edges, linewidths=1.2), autolim=False)


def _name_objects(
    axes: Axes, objects: Records, class_names: Sequence[str], size: tuple[int, int], with_ids: bool
) -> None:
    named: set[int] = set()
    for annotation in objects:
        label = annotation["label"]
        if label in named and len(objects) > _MOST_LABELS and not with_ids:
            continue
        named.add(label)
        y, edge = _beside(annotation["bbox"], *size)
        text = axes.text(
            max(annotation["bbox"][0], 0),
            y,
            f"{class_names[label]} {annotation['id']}" if with_ids else class_names[label],
            fontsize=6,
            color="black",
            verticalalignment=edge,
            clip_on=True,
            bbox={"facecolor": class_colour(label), "edgecolor": "none", "pad": 0.6},
        )
        text.set_in_layout(False)  # measuring hundreds of them takes longer than drawing


def _beside(box: list[float], height: int, width: int) -> tuple[float, str]:
    """Where the label of a box goes, and which edge of it lies there: above the box, below if it touches the top."""
    room = _SHARE_OF_LABEL * width
    top, bottom = box[1], box[1] + box[3]
    if top >= room:
        return top, "bottom"
    return (bottom, "top") if bottom <= height - room else (max(top, 0), "top")

"""A contact sheet: some images of a data set with their boxes, masks and class names drawn in, or with their classes.

Axes: H W pixels of an image.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torchvision.transforms.v2 import functional as F

from distill.colours import class_colour, class_rgb
from distill.data.annotations import CocoAnnotations
from distill.data.class_table import IGNORE, ClassTable
from distill.data.images import BrokenImage, read_image
from distill.data.label_pairs import Pair
from distill.data.masks import Zoom, decode_patch
from distill.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)

_MOST_LABELS = 25  # in one image; above that each class is named once
_SHARE_OF_LABEL = 0.04  # of an image's width, how high a label is at the least
_CELL = 3.6  # inches, the width of an image among many
_SHEET = 10.8  # inches, the least width of the sheet: few images are drawn larger
_SHOWN = 3
_LONGEST = 4  # the sides of a cell at most; a strip gets no sheet of ten metres
_DOTS = 120  # per inch of the sheet that an image is reduced to before anything is drawn into it
_OPACITY = 0.55  # of a mask
_UNLABELLED = "black"

_Chosen = tuple[dict[str, Any], torch.Tensor]


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
    figure, grid, cell = _sheet([pixels.shape[-2:] for _, pixels in chosen])
    for axes, (record, pixels) in zip(grid, chosen, strict=False):
        _draw(axes, pixels, annotations, record, round(cell * _DOTS), with_ids=bool(names))
    return figure


def class_sheet(
    pairs: Sequence[Pair], table: ClassTable, count: int = 12, seed: int = 0, bands: Sequence[int] | None = None
) -> Figure:
    """Draws `count` images, in an order drawn from `seed`, with the classes of their masks as colours.

    Args:
        pairs: Images and masks.
        table: What the masks mean.
        count: How many images.
        seed: Another seed shows other images.
        bands: Which bands of the images are shown, see `distill.data.images.read_image`.

    Raises:
        UserError: An image or a mask cannot be read, or one is not of the size of the other.
    """
    chosen = [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))[:count]]
    read = [(pair, read_image(pair.image, bands), table.read(pair.mask)) for pair in chosen]
    figure, grid, cell = _sheet([labels.shape for _, _, labels in read])
    colours = np.zeros((IGNORE + 1, 3), np.float32)
    colours[: len(table.names)] = class_rgb(len(table.names))
    for axes, (pair, pixels, labels) in zip(grid, read, strict=False):
        if pixels.shape[-2:] != labels.shape:
            raise UserError(f"image {str(pair.image)!r} and mask {str(pair.mask)!r} are of different sizes")
        size = _reduced(labels.shape[0], labels.shape[1], round(cell * _DOTS))
        shown = _resized(pixels, size)
        nearest = F.resize(labels[None], list(size), interpolation=F.InterpolationMode.NEAREST_EXACT)[0].numpy()
        axes.imshow((1 - _OPACITY) * shown + _OPACITY * colours[nearest])
        axes.set_title(pair.image.name, fontsize=8)
        axes.set_axis_off()
    patches = [Patch(color=class_colour(label), label=name) for label, name in enumerate(table.names)]
    patches.append(Patch(color=_UNLABELLED, label="not labelled"))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), frameon=False)
    return figure


def _sheet(sizes: Sequence[Sequence[int]]) -> tuple[Figure, list[Axes], float]:
    """A figure with axes for images of these heights and widths, and how many inches wide each is."""
    columns = round(math.sqrt(4 / 3 * len(sizes)))
    rows = math.ceil(len(sizes) / columns)
    aspect = float(np.median([height / width for height, width in sizes]).clip(1 / _LONGEST, _LONGEST))
    cell = max(_CELL, _SHEET / columns)
    figure = Figure(figsize=(cell * columns, (cell * aspect + 0.3) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[len(sizes) :]:
        axes.set_axis_off()
    return figure, grid, cell


def _reduced(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is at most `side`."""
    zoom = min(1.0, side / max(height, width))
    return max(1, round(height * zoom)), max(1, round(width * zoom))


def _resized(pixels: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """RGB (h, w, 3) in [0, 1] of uint8 pixels (3, H, W)."""
    return F.resize(pixels, list(size), antialias=True).permute(1, 2, 0).numpy().astype(np.float32) / 255


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


def _pixels(images: Path, record: dict[str, Any], bands: Sequence[int] | None) -> torch.Tensor:
    path = images / record["file_name"]
    pixels = read_image(path, bands)
    height, width = pixels.shape[-2:]
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


def _draw(
    axes: Axes, pixels: torch.Tensor, annotations: CocoAnnotations, record: dict[str, Any], side: int, with_ids: bool
) -> None:
    """Draws into the image, reduced to `side` first, because a screen shows no more; coordinates stay the file's."""
    height, width = pixels.shape[-2:]
    size = _reduced(height, width, side)
    shown, zoom = _resized(pixels, size), Zoom((0, 0, height, width), size)
    objects = annotations.objects(record["id"])
    for annotation in objects:
        patch = zoom(decode_patch(annotation["segmentation"], height, width))
        if patch is not None:
            rows, columns = patch.pixels.shape
            part = shown[patch.top : patch.top + rows, patch.left : patch.left + columns]
            colour = np.asarray(to_rgb(class_colour(annotation["label"])), np.float32)
            part += (_OPACITY * patch.pixels[:, :, None]) * (colour - part)
    axes.imshow(shown, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    boxes = [
        [(x - 0.5, y - 0.5), (x + w - 0.5, y - 0.5), (x + w - 0.5, y + h - 0.5), (x - 0.5, y + h - 0.5)]
        for x, y, w, h in (annotation["bbox"] for annotation in objects)
    ]
    edges = [class_colour(annotation["label"]) for annotation in objects]
    axes.add_collection(PolyCollection(boxes, facecolors="none", edgecolors=edges, linewidths=1.2), autolim=False)
    axes.set_axis_off()
    named: set[int] = set()
    for annotation in objects:
        label = annotation["label"]
        if label in named and len(objects) > _MOST_LABELS and not with_ids:
            continue
        named.add(label)
        y, edge = _beside(annotation["bbox"], height, width)
        text = axes.text(
            max(annotation["bbox"][0], 0),
            y,
            f"{annotations.class_names[label]} {annotation['id']}" if with_ids else annotations.class_names[label],
            fontsize=6,
            color="black",
            verticalalignment=edge,
            clip_on=True,
            bbox={"facecolor": class_colour(label), "edgecolor": "none", "pad": 0.6},
        )
        text.set_in_layout(False)  # measuring hundreds of them takes longer than drawing
    noun = "object" if len(objects) == 1 else "objects"
    axes.set_title(f"{record['file_name']}: {len(objects)} {noun}", fontsize=8)


def _beside(box: list[float], height: int, width: int) -> tuple[float, str]:
    """Where the label of a box goes, and which edge of it lies there: above the box, below if it touches the top."""
    room = _SHARE_OF_LABEL * width
    top, bottom = box[1], box[1] + box[3]
    if top >= room:
        return top, "bottom"
    return (bottom, "top") if bottom <= height - room else (max(top, 0), "top")

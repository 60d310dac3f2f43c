"""Images, objects, classes and maps as pixels.

Axes: H W pixels of an image file, h w of a picture or a map, K classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from distill.colours import class_colour, class_rgb
from distill.data.class_table import IGNORE
from distill.data.masks import decode_patch
from distill.data.zoom import Zoom

Pixels = NDArray[np.uint8]  # (h, w, 3)

NOT_LABELLED = "#404040"
_LONGEST = 512  # pixels of a picture
_MASK_SHARE = 0.55  # of an object's colour over the image


@dataclass(frozen=True)
class Drawing:
    """The pictures of one image.

    Attributes:
        name: Of the image, relative to its data set.
        parts: Pixels by what they show, see `distill.report.pictures.stored`; all of one size, since W&B shows a list
            of images in the size of its first.
        captions: What is said below a part.
        legend: Colours of the classes that are shown, as "#rrggbb".
        exact: Parts whose colours mean something, which no lossy format may change.
    """

    name: str
    parts: Mapping[str, Pixels]
    captions: Mapping[str, str]
    legend: Mapping[str, str] = field(default_factory=dict)
    exact: Sequence[str] = ()


def photo(pixels: NDArray[np.uint8]) -> Pixels:
    """RGB (3, H, W) as a picture, whose longest side is 512 px at most."""
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, 2)))
    height, width = _shown_size(image.height, image.width)
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))


def draw_objects(picture: Pixels, size: tuple[int, int], objects: Iterable[tuple[Mapping[str, Any], int]]) -> Pixels:
    """Draws masks and boxes over a picture.

    Args:
        picture: Of the whole image file, (h, w, 3).
        size: Height and width of the image file.
        objects: COCO records with "segmentation" and "bbox" in pixels of the file, and the label of each.
    """
    shown = picture.astype(np.float32)
    height, width = picture.shape[:2]
    zoom = Zoom((0, 0, *size), (height, width))
    boxes = []
    for record, label in objects:
        colour = np.multiply(mpl.colors.to_rgb(class_colour(label)), 255)
        patch = zoom(decode_patch(record["segmentation"], *size))
        if patch is not None:
            rows, columns = patch.pixels.shape
            covered = shown[patch.top : patch.top + rows, patch.left : patch.left + columns]
            inside = patch.pixels.astype(bool)
            covered[inside] = (1 - _MASK_SHARE) * covered[inside] + _MASK_SHARE * colour
        boxes.append((_corners(record["bbox"], width / size[1], height / size[0]), class_colour(label)))
    image = Image.fromarray(shown.round().astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for corners, name in boxes:
        draw.rectangle(corners, outline=name)
    return np.array(image)


def colour_labels(labels: NDArray[np.integer[Any]], classes: int) -> Pixels:
    """Class labels (H, W) as a picture, whose longest side is 512 px at most; pixels without a label are dark grey."""
    table = np.full((IGNORE + 1, 3), mpl.colors.to_rgb(NOT_LABELLED), dtype=np.float32)
    table[:classes] = class_rgb(classes)
    return (table * 255).round().astype(np.uint8)[_nearest(labels, _shown_size(*labels.shape))]


def draw_cells(colours: NDArray[np.floating[Any]], size: tuple[int, int]) -> Pixels:
    """The cells of a map as a picture.

    Args:
        colours: Of the cells, (H, W, 3) in [0, 1].
        size: Height and width of the picture.
    """
    return _nearest((np.nan_to_num(colours).clip(0, 1) * 255).round().astype(np.uint8), size)


def heat(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Colours (h, w, 3) of values (h, w): dark is 0, bright is 1 and above."""
    return np.asarray(mpl.colormaps["magma"](np.nan_to_num(values, nan=1.0).clip(0, 1)))[..., :3]


def _corners(box: Sequence[float], zoom_x: float, zoom_y: float) -> tuple[int, int, int, int]:
    """The first and the last pixel of a box [x, y, width, height]; it has one at least."""
    left, top, width, height = box
    x, y = round(left * zoom_x), round(top * zoom_y)
    return x, y, max(x, round((left + width) * zoom_x) - 1), max(y, round((top + height) * zoom_y) - 1)


def _shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a picture of an image."""
    shrink = max(1.0, max(height, width) / _LONGEST)
    return max(1, round(height / shrink)), max(1, round(width / shrink))


def _nearest(cells: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Cells (H, W, ...) in another size: each pixel is the cell in its middle."""
    rows, columns = (
        ((np.arange(shown) + 0.5) * count / shown).astype(np.int64)
        for count, shown in zip(cells.shape, size, strict=False)
    )
    return cells[np.ix_(rows, columns)]

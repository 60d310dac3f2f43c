"""Doubtful geometry of objects that can be used.

Axes: H W pixels of the image file. Boxes are [x, y, width, height].
"""

from typing import Any

import numpy as np

from distill.data.masks import area_of, extent_of, to_rle

_TOLERANCE = 1.0  # pixels; published boxes count the outline's pixels, so they reach one further than the outline
_BOX_TOLERANCE = 3.0  # pixels between a box and the extent of its mask
_AREA_TOLERANCE = 2.0  # published areas are up to 1.65 times that of the raster, because outlines are rounded
_LARGEST_SHARE = 0.95  # of an image; objects that fill one are rare, inverted masks are not


def area_and_doubts(record: dict[str, Any], height: int, width: int) -> tuple[float, list[str]]:
    """The area of an object as the file counts it, and what is odd about its box, mask and area."""
    shape = record["segmentation"]
    rle = to_rle(shape, height, width)
    pixels = area_of(rle, height, width)
    x, y, box_width, box_height = record["bbox"]
    box = np.array([x, y, x + box_width, y + box_height])
    doubts = []
    if (box < -_TOLERANCE).any() or (box > np.array([width, height] * 2) + _TOLERANCE).any():
        doubts.append("a box that sticks out of the image")
    if isinstance(shape, list):
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in shape])
        if (points < -_TOLERANCE).any() or (points > np.array([width, height]) + _TOLERANCE).any():
            doubts.append("a polygon that sticks out of the image")
    if pixels == 0:
        doubts.append("a mask without a pixel")
    else:
        left, top, mask_width, mask_height = extent_of(rle, height, width)
        extent = np.array([left, top, left + mask_width, top + mask_height])
        if (np.abs(extent - box) > _BOX_TOLERANCE).any():
            doubts.append(f"a box that is more than {_BOX_TOLERANCE:.0f} pixels off their mask")
        if pixels > _LARGEST_SHARE * height * width:
            doubts.append(f"a mask of more than {_LARGEST_SHARE:.0%} of the image, as of an inverted label")
    area = float(record.get("area", pixels))
    if area > height * width:
        doubts.append("an area larger than the image")
    elif pixels and not pixels / _AREA_TOLERANCE <= area <= pixels * _AREA_TOLERANCE:
        doubts.append(f"an area more than a factor of {_AREA_TOLERANCE:.0f} off that of their mask")
    return area, doubts

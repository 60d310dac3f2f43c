"""Boundary AP: COCO's average precision on the IoU of outlines, to which mask IoU is not sensitive.

Axes: H W pixels of the image file, D detections, G objects.

Source: Cheng, Girshick, Dollár, Berg, Kirillov, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation",
CVPR 2021 (https://arxiv.org/abs/2103.16562): boundary IoU is equation 2, the band's width of 2 % of the image diagonal
section 4.2, and the minimum of mask IoU and boundary IoU, for average precision, section 5.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from distill.data.masks import decode_mask, encode_mask, mask_iou

BAND = 0.02  # of the image diagonal


def boundary_band(mask: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """The pixels of a mask (H, W) of 0 and 1 that lie within `width` pixels of its outline.

    The image's border is an outline, too, where it cuts the mask. Distance is counted in steps to the eight neighbours,
    as the authors' code does.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if rows.size == 0:
        return mask.copy()
    # Erosion happens within the mask's own box: outside of it everything is 0 already.
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = np.pad(mask[box], 1)
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    band = mask.copy()
    band[box] -= cv2.erode(inside, kernel)[1:-1, 1:-1]
    return band


def band_width(height: int, width: int) -> int:
    """Width of the band for images of this size, in pixels; at least 1."""
    return max(1, round(BAND * math.hypot(height, width)))


class BoundaryEval(COCOeval):
    """pycocotools' evaluation of masks, given the smaller of mask IoU and boundary IoU as the overlap.

    Regions to ignore (crowds) keep the overlap of masks: their outline is that of no object.
    """

    # The name is pycocotools'.
    def computeIoU(self, imgId: int, catId: int) -> Any:
        """Overlaps (D, G) of one image and category, detections by falling score."""
        overlaps = super().computeIoU(imgId, catId)
        if len(overlaps) == 0:
            return overlaps
        objects = self._gts[imgId, catId]
        found = sorted(self._dts[imgId, catId], key=lambda d: -d["score"])[: len(overlaps)]
        no_crowd = np.zeros(len(objects), np.bool_)
        bands = mask_iou([_band(d) for d in found], [_band(g) for g in objects], no_crowd)
        ordinary = np.array([not g["iscrowd"] for g in objects])
        overlaps[:, ordinary] = np.minimum(overlaps, bands)[:, ordinary]
        return overlaps


def _band(instance: dict[str, Any]) -> dict[str, Any]:
    rle = instance["segmentation"]
    mask = decode_mask(rle, *rle["size"])
    return encode_mask(boundary_band(mask, band_width(*mask.shape)))

"""NWPU VHR-10 with instance masks: ten classes of objects in aerial images.

Source: images by Cheng et al., "Multi-class geospatial object detection and geographic image classification based on
collection of part detectors", ISPRS Journal 98 (2014); masks by Su et al., "Object Detection and Instance Segmentation
in Remote Sensing Imagery Based on Precise Mask R-CNN", IGARSS 2019.
"""

from typing import Any

from distill.data.coco import CocoInstances
from distill.data.datasets.prepared import prepared_files


class NWPU(CocoInstances):
    """NWPU VHR-10 in the layout `<root>/images/*.jpg`, `<root>/annotations/{train,val}.json`.

    The published boxes reach one pixel further right and down than the polygons. Read as exclusive coordinates, as
    everywhere here, they enclose the outline's pixels, so nothing is converted: neither for evaluation, where scores
    must compare with published ones, nor for training, so that the detector learns the convention it is scored in.
    (Boxes derived from the true masks would reach a box AP of only 0.97.)

    One published annotation has the id 0, which pycocotools cannot match; `ground_truth` counts ids anew.

    Args:
        root: The data set's folder.
        **kwargs: Everything that `CocoInstances` takes, except the paths.

    Raises:
        UserError: `root` does not have that layout; and all cases of `CocoInstances`.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        images, train, val = prepared_files("nwpu", root, "train", "val")
        super().__init__(
            train_images=images,
            train_annotations=train,
            val_images=images,
            val_annotations=val,
            test_images=None,
            test_annotations=None,
            **kwargs,
        )

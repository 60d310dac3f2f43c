"""HRSID: ships in high-resolution radar images.

Source: Wei et al., "HRSID: A High-Resolution SAR Images Dataset for Ship Detection and Instance Segmentation", IEEE
Access 8 (2020).
"""

from typing import Any

from distill.data.coco import CocoInstances
from distill.data.datasets.prepared import prepared_files


class HRSID(CocoInstances):
    """HRSID as `distill data prepare hrsid` writes it from its COCO files.

    There are two parts, so validation and test are the same images unless `val_fraction` holds out some of train.

    Args:
        root: The prepared data set.
        **kwargs: Everything that `CocoInstances` takes, except the paths.

    Raises:
        UserError: `root` was not prepared; and all cases of `CocoInstances`.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        images, train, val = prepared_files("hrsid", root, "train", "test")
        super().__init__(
            train_images=images,
            train_annotations=train,
            val_images=images,
            val_annotations=val,
            test_images=None,
            test_annotations=None,
            **kwargs,
        )

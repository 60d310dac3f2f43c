"""Images for MMDetection as `distill` reads them: bands, 16 bits, nodata, EXIF.

    custom_imports = dict(imports=["heads.mmdet.registered"])
    pipeline = [dict(type="DistillLoadImage"), ...]

in place of MMCV's `LoadImageFromFile`, which leaves 16-bit images nearly black and refuses most rasters.
"""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from distill.data.images import read_image


@TRANSFORMS.register_module(name="DistillLoadImage")
class LoadImage(BaseTransform):
    """Reads the file that `img_path` names into `img`, uint8 BGR (H, W, 3), and its size into `img_shape` and
    `ori_shape`.

    Args:
        bands: Numbers, from 1, of one to three bands to show; see `distill.data.images.read_image`.
    """

    def __init__(self, bands: list[int] | None = None) -> None:
        self.bands = bands

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the image.

        Raises:
            BrokenImage: See `distill.data.images.read_image`.
        """
        pixels = read_image(results["img_path"], self.bands).numpy()
        results["img"] = np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0))
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results

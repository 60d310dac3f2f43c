"""WHU Building: buildings in aerial images of Christchurch.

Source: Ji et al., "Fully Convolutional Networks for Multisource Building Extraction From an Open Aerial and Satellite
Imagery Data Set", IEEE TGRS 57 (2019).
"""

from typing import Any

from distill.data.coco import CocoInstances
from distill.data.datasets.prepared import prepared_files


class WHU(CocoInstances):
    """WHU Building as `distill data prepare whu` writes it: train, val and test.

    RSPrompter and RS4D choose their model on the test tiles; here it is chosen on val and scored on test.

    Args:
        root: The prepared data set.
        **kwargs: Everything that `CocoInstances` takes, except the paths.

    Raises:
        UserError: `root` was not prepared; and all cases of `CocoInstances`.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        images, train, val, test = prepared_files("whu", root, "train", "val", "test")
        super().__init__(
            train_images=images,
            train_annotations=train,
            val_images=images,
            val_annotations=val,
            test_images=images,
            test_annotations=test,
            **kwargs,
        )

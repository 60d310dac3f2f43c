"""SSDD: ships in radar images, with its official split or RSPrompter's.

Source: Zhang et al., "SAR Ship Detection Dataset (SSDD): Official Release and Comprehensive Data Analysis", Remote
Sensing 13 (2021).
"""

from typing import Any

from distill.data.coco import CocoInstances
from distill.data.datasets.prepared import prepared_files
from distill.errors import unknown_name

SPLITS = {"official": "test", "rsprompter": "val"}  # each with the name of its second part


class SSDD(CocoInstances):
    """SSDD as `distill data prepare ssdd` writes it.

    Numbers under the two splits do not compare: 928 images train and 232 are scored in both, but not the same ones.
    Neither has a third part, so validation and test are the same images unless `val_fraction` holds out some of train.

    Args:
        root: The prepared data set.
        split: "official" scores the images whose number ends in 1 or 9, as SSDD's authors ask for; "rsprompter" is the
            random split behind the numbers of RSPrompter and RS4D.
        **kwargs: Everything that `CocoInstances` takes, except the paths.

    Raises:
        UserError: `root` was not prepared or lacks the split; and all cases of `CocoInstances`.
    """

    def __init__(self, root: str, split: str = "official", **kwargs: Any) -> None:
        if split not in SPLITS:
            raise unknown_name("SSDD split", split, SPLITS)
        images, train, val = prepared_files("ssdd", root, f"{split}/train", f"{split}/{SPLITS[split]}")
        super().__init__(
            train_images=images,
            train_annotations=train,
            val_images=images,
            val_annotations=val,
            test_images=None,
            test_annotations=None,
            **kwargs,
        )

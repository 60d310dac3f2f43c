"""HRSID, ships in high-resolution radar images: the layouts it is published in, and its data module.

The release holds `JPEGImages/` (or `images/`) and `annotations/{train,test}2017.json`, COCO files. In the colour masks
of its samples black is background and every other colour one ship; they carry no split, so they become one file, `all`.

Source: Wei et al., "HRSID: A High-Resolution SAR Images Dataset for Ship Detection and Instance Segmentation", IEEE
Access 8 (2020); github.com/chaozhong2010/HRSID.
"""

from pathlib import Path
from typing import Any

import numpy as np

from distill.data.coco import CocoInstances
from distill.data.datasets.prepared import prepared_files
from distill.data.datasets.source import Item, Objects, Source, coco_items, in_pairs, mask_object
from distill.data.images import BrokenImage, read_image, size_fault
from distill.data.listing import below, images_by_stem, subfolders
from distill.errors import UserError


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


CLASSES = ("ship",)


def find(folder: Path, on_error: str) -> Source:
    """The COCO files if they are there, else the colour masks.

    Raises:
        UserError: Neither is there; and all cases of `coco_items` and `in_pairs`.
    """
    for base in subfolders(folder):
        files = {split: below(base, f"annotations/{split}2017.json") for split in ("train", "test")}
        published, images = below(base, "JPEGImages"), below(base, "images")
        if all(path.is_file() for path in files.values()):
            found = images_by_stem([published, images])
            names, items, skipped = coco_items(files, found, published, on_error)
            return Source("COCO", names, items, list(files.values()), skipped)
        masks, found = images_by_stem([below(base, "instance_masks")]), images_by_stem([images])
        if masks:
            stems, alone, skipped = in_pairs(found, masks, "mask", on_error)
            items = [
                Item(
                    name=found[stem].name,
                    image=found[stem],
                    image_id=number,
                    splits=("all",),
                    objects=_ships(masks[stem]),
                    files=(masks[stem],),
                )
                for number, stem in enumerate(sorted(stems), start=1)
            ]
            return Source("colour masks", CLASSES, items, alone, skipped)
    raise UserError(
        f"--source {str(folder)!r} holds no HRSID: neither annotations/{{train,test}}2017.json beside JPEGImages/, nor "
        "instance_masks/ beside images/"
    )


def _ships(path: Path) -> Objects:
    def objects(height: int, width: int) -> list[dict[str, Any]]:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            raise BrokenImage(
                f"mask {str(path)!r} is a JPEG, whose compression adds colours that are no ships; HRSID's masks are PNG"
            )
        colours = read_image(path).numpy().astype(np.int64)
        if fault := size_fault(f"mask {str(path)!r}", colours.shape[1:], "its image is", (height, width)):
            raise BrokenImage(fault)
        codes = colours[0] << 16 | colours[1] << 8 | colours[2]
        return [mask_object(codes == code) for code in np.unique(codes).tolist() if code != 0]

    return objects

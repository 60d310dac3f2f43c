"""ARAS400k: land cover in Sentinel-2 images, in the layout of the download, and the sums of its archives."""

import hashlib
from pathlib import Path
from typing import Any

from distill.data.semantic import SemanticFolder
from distill.errors import UserError

ARAS400K_MD5 = {
    "train.zip": "95cd5caea68c813fd86888f9cd95b627",
    "val.zip": "76e61fd7557d65ba0596e44c0f92b43f",
    "test.zip": "01679231ee8e38701f5d3ab7de0b5719",
    "synth.zip": "0dc95bfdda44a816ade0d7ea747e4f9c",
}


class ARAS400k(SemanticFolder):
    """ARAS400k: Sentinel-2 images of Türkiye at 10 m, 256 x 256 pixels, with the seven classes of ESA WorldCover.

    Layout: `<root>/{train,val,test}/{images,masks}/*.png`, 80,192, 10,024 and 10,024 real images, as the published
    archives unpack. The authors' reader takes any unknown colour for tree cover; here it is an error.

    Args:
        root: The data set's folder.
        check_archives: Compare the zip files that lie in `root` with the published MD5 sums first; a minute or more.
        **kwargs: Everything that `SemanticImages` takes, except the classes.

    Raises:
        UserError: All cases of `SemanticFolder`; a damaged archive, or none to check.

    Source: https://zenodo.org/records/18890661 (CC BY 4.0).
    """

    def __init__(self, root: str, check_archives: bool = False, **kwargs: Any) -> None:
        super().__init__(
            root=root,
            classes={
                "tree": [0, 100, 0],
                "shrub": [255, 182, 193],
                "grass": [154, 205, 50],
                "crop": [255, 215, 0],
                "built-up": [139, 69, 19],
                "barren": [211, 211, 211],
                "water": [0, 0, 255],
            },
            ignore=None,
            train="train",
            val="val",
            test="test",
            images="images",
            masks="masks",
            **kwargs,
        )
        if check_archives:
            check_md5(self.root, ARAS400K_MD5)


def check_md5(folder: Path, sums: dict[str, str]) -> None:
    """Compares the archives that lie in a folder with their published sums.

    Raises:
        UserError: One is damaged, or there is none.
    """
    found = [folder / name for name in sums if (folder / name).is_file()]
    if not found:
        raise UserError(
            f"check_archives: none of {', '.join(sums)} lies in {str(folder)!r}; move them there, or set it to false"
        )
    for path in found:
        with path.open("rb") as file:
            given = hashlib.file_digest(file, "md5").hexdigest()
        if given != sums[path.name]:
            raise UserError(
                f"{str(path)!r} is damaged or another version: its MD5 is {given}, published is {sums[path.name]}; "
                "download it again"
            )

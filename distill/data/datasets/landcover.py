"""Land cover by folders: any data set of images and masks, and the layouts of three published ones."""

import hashlib
from pathlib import Path
from typing import Any

from distill.data.label_pairs import Pair, pair_folders, read_names
from distill.data.semantic import SemanticImages
from distill.errors import UserError

Parts = str | list[str]


class SemanticFolder(SemanticImages):
    """Folders of images and of masks with the same names, suffixes apart.

    A part of a split is a folder below `root` with images and masks in subfolders of their own (`train/images/`,
    `train/masks/`), or a text file below `root` that names images of `<root>/images/`, one a line.

    Args:
        root: The data set's folder.
        classes: Value of each class in the masks by name, in label order: an index, or a colour [red, green, blue].
        ignore: Values that mean "not labelled".
        train: Folder or text file of the training images, or several.
        val: The same of the validation images.
        test: The same of the test images; by default the validation images.
        images: Name of the images' folders.
        masks: Name of the masks' folders.
        **kwargs: Everything else that `SemanticImages` takes.

    Raises:
        UserError: All cases of `SemanticImages`; on reading, a missing file, mask or folder.
    """

    def __init__(
        self,
        root: str,
        classes: dict[str, int | list[int]],
        ignore: list[int | list[int]] | None = None,
        train: Parts = "train",
        val: Parts = "val",
        test: Parts | None = None,
        images: str = "images",
        masks: str = "masks",
        **kwargs: Any,
    ) -> None:
        super().__init__(classes=classes, ignore=ignore or (), **kwargs)
        self.root = Path(root)
        self.parts = {"train": train, "val": val, "test": val if test is None else test}
        self.images, self.masks = images, masks

    def find(self, split: str) -> list[Pair]:
        """The files of a split.

        Raises:
            UserError: A folder, list, image or mask is missing.
        """
        parts = self.parts[split]
        return [pair for part in ([parts] if isinstance(parts, str) else parts) for pair in self._part(part)]

    def _part(self, part: str) -> list[Pair]:
        place = self.root / part
        if place.suffix.lower() == ".txt":
            return pair_folders(self.root / self.images, self.root / self.masks, read_names(place))
        return pair_folders(place / self.images, place / self.masks)


class DubaiLandCover(SemanticFolder):
    """Aerial images of Dubai: eight tiles of nine parts, five classes, split by tile.

    Layout: `<root>/images/tileT_PPP.jpg`, `<root>/labels/tileT_PPP.png` with indices, `<root>/train.txt` and `val.txt`.
    The published data has colour masks and no split; validation and test are the same images unless `val_fraction`
    holds out whole tiles of train.

    Args:
        root: The data set's folder.
        **kwargs: Everything that `SemanticImages` takes, except the classes.

    Source: MBRSC of Dubai and Humans in the Loop, "Semantic segmentation dataset".
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        names = ("building", "land", "road", "vegetation", "water")
        super().__init__(
            root=root,
            classes={name: index for index, name in enumerate(names)},
            ignore=[255],
            train="train.txt",
            val="val.txt",
            test=None,
            images="images",
            masks="labels",
            **kwargs,
        )

    def tile_of(self, pair: Pair) -> str:
        """The tile that the image is a part of."""
        return pair.image.stem.partition("_")[0]


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


ARAS400K_MD5 = {
    "train.zip": "95cd5caea68c813fd86888f9cd95b627",
    "val.zip": "76e61fd7557d65ba0596e44c0f92b43f",
    "test.zip": "01679231ee8e38701f5d3ab7de0b5719",
    "synth.zip": "0dc95bfdda44a816ade0d7ea747e4f9c",
}


class LoveDA(SemanticFolder):
    """LoveDA: aerial images of three Chinese cities at 0.3 m, 1024 x 1024 pixels, seven classes, urban and rural.

    Layout: `<root>/{Train,Val}/{Urban,Rural}/{images_png,masks_png}/*.png`. The labels of `Test` are not published, so
    validation and test are the same images unless `val_fraction` holds out some of train.

    Args:
        root: The data set's folder.
        **kwargs: Everything that `SemanticImages` takes, except the classes.

    Source: Wang et al., "LoveDA: A Remote Sensing Land-Cover Dataset for Domain Adaptive Semantic Segmentation",
    NeurIPS 2021 Datasets and Benchmarks (https://arxiv.org/abs/2110.08733).
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        names = ("background", "building", "road", "water", "barren", "forest", "agriculture")
        super().__init__(
            root=root,
            classes={name: index for index, name in enumerate(names, start=1)},
            ignore=[0],
            train=["Train/Urban", "Train/Rural"],
            val=["Val/Urban", "Val/Rural"],
            test=None,
            images="images_png",
            masks="masks_png",
            **kwargs,
        )


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

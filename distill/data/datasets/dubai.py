"""Dubai: land cover in aerial images, five classes, in the layout of the prepared download."""

from typing import Any

from distill.data.label_pairs import Pair
from distill.data.semantic import SemanticFolder


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

"""ISPRS Vaihingen and Potsdam: large aerial tiles with six classes in colours, in the layout of the download."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.data.images import is_file
from distill.data.label_pairs import Pair
from distill.data.semantic import SemanticImages
from distill.errors import UserError, unknown_name

CLASSES = {
    "impervious surface": [255, 255, 255],
    "building": [0, 0, 255],
    "low vegetation": [0, 255, 255],
    "tree": [0, 255, 0],
    "car": [255, 255, 0],
    "clutter": [255, 0, 0],
}
ERODED = [0, 0, 0]  # three pixels about every border, in the masks that the benchmark scores on


@dataclass(frozen=True)
class _Area:
    """Where the files of a city lie: folders in order of preference, and file names with a place for the tile;
    and the tiles of each split.

    The complete masks of Vaihingen come in an archive without a folder of its own, hence ".".
    """

    images: tuple[str, ...]
    image: str
    masks: tuple[str, ...]
    mask: str
    eroded_masks: tuple[str, ...]
    eroded_mask: str
    train: str
    test: str


_VAIHINGEN = "top_mosaic_09cm_area{}"
_POTSDAM = "top_potsdam_{}"
AREAS = {
    "vaihingen": _Area(
        images=("top",),
        image=_VAIHINGEN + ".tif",
        masks=("gts_for_participants", "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE", "."),
        mask=_VAIHINGEN + ".tif",
        eroded_masks=("ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE", "."),
        eroded_mask=_VAIHINGEN + "_noBoundary.tif",
        train="1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37",
        test="2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38",
    ),
    "potsdam": _Area(
        images=("2_Ortho_RGB",),
        image=_POTSDAM + "_RGB.tif",
        masks=("5_Labels_all", "5_Labels_for_participants"),
        mask=_POTSDAM + "_label.tif",
        eroded_masks=("5_Labels_all_noBoundary", "5_Labels_for_participants_no_Boundary"),
        eroded_mask=_POTSDAM + "_label_noBoundary.tif",
        train=(
            "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 "
            "7_11 7_12"
        ),
        test="2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13",
    ),
}


class ISPRS(SemanticImages):
    """The 2D semantic labelling benchmark of the ISPRS, split into the published training and test tiles.

    Images of Vaihingen are infrared, red and green, those of Potsdam red, green and blue. There is no validation split:
    it is the test tiles unless `val_fraction` holds out some of train. Each training view decodes a whole tile, 6000 x
    6000 pixels in Potsdam; cut into pieces first, and read by `SemanticFolder`, it trains faster.

    Args:
        root: The folder that the archives were unpacked in.
        area: "vaihingen" or "potsdam".
        eroded: Test on the masks without the pixels about borders, as the benchmark does.
        ignore: Colours in the masks that mean "not labelled".
        **kwargs: Everything else that `SemanticImages` takes, except the classes.

    Raises:
        UserError: Unknown area; all cases of `SemanticImages`; on reading, a missing file.

    Source: Rottensteiner et al., "The ISPRS Benchmark on Urban Object Classification and 3D Building Reconstruction",
    ISPRS Annals I-3 (2012).
    """

    def __init__(
        self, root: str, area: str, eroded: bool = False, ignore: list[list[int]] | None = None, **kwargs: Any
    ) -> None:
        if area not in AREAS:
            raise unknown_name("ISPRS area", area, AREAS)
        super().__init__(classes=CLASSES, ignore=[ERODED] if ignore is None else ignore, **kwargs)
        self.root = Path(root)
        self.area = AREAS[area]
        self.eroded = eroded

    def find(self, split: str) -> list[Pair]:
        """The files of a split.

        Raises:
            UserError: The image or mask of a tile is missing.
        """
        area = self.area
        tiles = (area.train if split == "train" else area.test).split()
        scored = self.eroded and split != "train"
        folders, name = (area.eroded_masks, area.eroded_mask) if scored else (area.masks, area.mask)
        return [
            Pair(self._file(area.images, area.image.format(tile)), self._file(folders, name.format(tile)))
            for tile in tiles
        ]

    def _file(self, folders: tuple[str, ...], name: str) -> Path:
        for folder in folders:
            if is_file(self.root / folder / name):
                return self.root / folder / name
        raise UserError(
            f"data.root {str(self.root)!r} lacks {name} in {' or '.join(folders)}; unpack the benchmark's archives "
            "there"
        )

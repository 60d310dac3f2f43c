"""Images whose every pixel has a class, for training and evaluation; what the layouts on disk have in common.

Axes: B batch, S side of a training view, H W pixels of the file, h w of the zoomed file.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.data.base import LabelledImages
from distill.data.class_table import ClassTable, Value
from distill.data.label_pairs import PLACES, Pair, pair_folders, read_names
from distill.data.selection import hold_out
from distill.data.sizes import Measure, ground_sizes, image_sides, read_headers, sample_of
from distill.data.views.semantic import SemanticViews, stack_by_size
from distill.errors import UserError
from distill.files import read_json

Parts = str | list[str]


class SemanticImages(LabelledImages):
    """Images with masks. Layouts inherit from it and say which files belong to a split (`find`).

    A training batch is a dictionary: `image` (B, 3, S, S) float32 in [0, 1] and `label` (B, S, S) uint8, 255 where
    nothing is labelled. An evaluation batch is a list of such dictionaries, one for each size among its files, with
    images (B, 3, h, w) and labels (B, H, W).

    Args:
        classes: Value of each class in the masks by name, in label order: an index, or a colour [red, green, blue].
        ignore: Values that mean "not labelled".
        image_size: Side S of a training view in pixels; evaluation views are whole images.
        zoom: Pixels of the network for each pixel of the file, in training and evaluation. Scores are at the
            resolution of the file, whatever it is.
        val_fraction: Share of the training images that is held out and validated on, for layouts without images of
            their own for it; the `val` files are then tested on. Parts of one tile stay together.
        on_error: "skip" replaces training files that cannot be decoded and names each once; "raise" stops at the first.
            A mask of another size or with an unknown value always stops, and so do validation and test.
        **kwargs: Everything else that `LabelledImages` takes.

    Raises:
        UserError: An argument is out of its range, or the classes contradict each other (see `ClassTable`).
    """

    def __init__(
        self,
        classes: Mapping[str, Value],
        ignore: Sequence[Value] = (),
        image_size: int = 512,
        zoom: float = 1.0,
        val_fraction: float = 0.0,
        on_error: str = "skip",
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size=image_size, val_fraction=val_fraction, on_error=on_error, **kwargs)
        if not 0 < zoom <= 16:
            raise UserError(f"zoom is {zoom}; it must be above 0 and at most 16")
        self.table = ClassTable(classes, ignore)
        self.zoom = zoom

    def find(self, split: str) -> list[Pair]:
        """The files of "train", "val" or "test" as published.

        Raises:
            UserError: They are not where the layout has them.
        """
        raise NotImplementedError

    def tile_of(self, pair: Pair) -> str:
        """The tile that an image is a part of; a tile's images are held out together. By default each is its own."""
        return str(pair.image)

    @property
    def class_names(self) -> list[str]:
        """Names by label."""
        return self.table.names

    @property
    def selects_on_test(self) -> bool:
        """Whether validation uses the test images, so that a model selected by it must not be reported on them."""
        return not self.val_fraction and self.find("val") == self.find("test")

    def views(self, split: str) -> SemanticViews:
        """The images and masks of a split.

        Raises:
            UserError: See `find`; or its images are to be held out but cannot be.
        """
        pairs = self._pairs(split)
        reader = self.reader(len(pairs))
        if split != "train":
            return SemanticViews(pairs, self.table, "raise", self.zoom, reader=reader)
        return SemanticViews(
            pairs,
            self.table,
            self.on_error,
            self.zoom,
            self.image_size,
            self.scale_jitter,
            self.flip,
            self.turns,
            self.augmentation,
            self.seed,
            reader,
        )

    def scored(self, data: SemanticViews, index: int) -> Any:
        """Name of the image, sizes of its two files in bytes, and what the values of the mask mean."""
        pair = data.pairs[index]
        return (
            data.name(index),
            pair.image.stat().st_size,
            pair.mask.stat().st_size,
            sorted(self.table.label_of.items()),
        )

    def scale(self, measure: Measure) -> dict[str, float]:
        """Sides of images and `gsd`, from headers of some training images."""
        paths = [pair.image for pair in sample_of(self.dataset("train").pairs)]
        return {
            **image_sides([max(header) for header in read_headers(paths)]),
            **ground_sizes(paths, measure),
        }

    def collate(self, split: str) -> Callable[[list[Any]], Any] | None:
        """Stacks whole images of equal sizes."""
        return None if split == "train" else stack_by_size

    def _pairs(self, split: str) -> list[Pair]:
        pairs = self.find(split) if not self.val_fraction or split == "test" else self._held_out(split)
        return self.limited(pairs) if split == "train" else pairs

    def _held_out(self, split: str) -> list[Pair]:
        """Of the published training images, those to train on or those held out."""
        if self.find("val") != self.find("test"):
            raise UserError(
                f"val_fraction is {self.val_fraction}, but there are validation images apart from the test images "
                "already; set val_fraction to 0"
            )
        published = self.find("train")
        tiles = list(dict.fromkeys(map(self.tile_of, published)))
        held_out = set(hold_out(tiles, self.val_fraction, self.val_seed)[1])
        return [pair for pair in published if (self.tile_of(pair) in held_out) == (split == "val")]


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
        self._places: dict[Path, dict[str, Any]] = {}

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

    def tile_of(self, pair: Pair) -> str:
        """The image that a tile of `distill data tile` was cut from; any other image is its own."""
        folder = pair.image.parent.parent
        if folder not in self._places:
            self._places[folder] = read_json(folder / PLACES) if (folder / PLACES).is_file() else {}
        place = self._places[folder].get(pair.image.stem)
        return str(folder / place["source"]) if isinstance(place, dict) and "source" in place else str(pair.image)

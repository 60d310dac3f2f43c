"""Images whose every pixel has a class, for training and evaluation; what the layouts on disk have in common.

Axes: B batch, S side of a training view, H W pixels of the file, h w of the zoomed file.
"""

from collections.abc import Mapping, Sequence

import torch
from pytorch_lightning import LightningDataModule

from distill.data.broken import POLICIES
from distill.data.checks import at_least, band_numbers, ordered_pair, say_small_batches
from distill.data.class_table import ClassTable, Value
from distill.data.label_pairs import Pair
from distill.data.loader import OneLineErrorLoader, ResumableLoader, evaluation_loader, train_loader
from distill.data.reader import ImageReader
from distill.data.selection import hold_out
from distill.data.views.augmentation import Augmentation
from distill.data.views.semantic import SemanticViews, stack_by_size
from distill.errors import UserError, unknown_name
from distill.seeding import run_seed

SPLITS = ("train", "val", "test")


class SemanticImages(LightningDataModule):
    """Images with masks. Layouts inherit from it and say which files belong to a split (`find`).

    A training batch is a dictionary: `image` (B, 3, S, S) float32 in [0, 1] and `label` (B, S, S) uint8, 255 where
    nothing is labelled. An evaluation batch is a list of such dictionaries, one for each size among its files, with
    images (B, 3, h, w) and labels (B, H, W).

    Args:
        classes: Value of each class in the masks by name, in label order: an index, or a colour [red, green, blue].
        ignore: Values that mean "not labelled".
        image_size: Side S of a training view in pixels.
        batch_size: Images per batch and process.
        num_workers: Processes that read images; 0 reads in the main process.
        zoom: Pixels of the network for each pixel of the file, in training and evaluation. Scores are at the
            resolution of the file, whatever it is.
        scale: Range of a random factor to `zoom` in training.
        flip: Whether training views are mirrored, horizontally and vertically.
        augmentation: Quarter turns, light and colour of training views; none by default.
        bands: Numbers, from 1, of one to three bands of the images to show; by default red, green and blue where the
            file says which they are, else its first three.
        val_fraction: Share of the training images that is held out and validated on, for layouts without images of
            their own for it; the `val` files are then tested on. Parts of one tile stay together.
        val_seed: Decides which images that are; it is not the run's seed.
        on_error: "skip" replaces training files that cannot be decoded and names each once; "raise" stops at the first.
            A mask of another size or with an unknown value always stops, and so do validation and test.
        train_limit: Train on this many images only, the first of a shuffle by `seed`.
        seed: Seed of order, views and `train_limit`; by default that of the run.

    Raises:
        UserError: An argument is out of its range, or the classes contradict each other (see `ClassTable`).
    """

    def __init__(
        self,
        classes: Mapping[str, Value],
        ignore: Sequence[Value] = (),
        image_size: int = 512,
        batch_size: int = 4,
        num_workers: int = 2,
        zoom: float = 1.0,
        scale: tuple[float, float] = (0.5, 2.0),
        flip: bool = True,
        augmentation: Augmentation | None = None,
        bands: list[int] | None = None,
        val_fraction: float = 0.0,
        val_seed: int = 0,
        on_error: str = "skip",
        train_limit: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= val_fraction < 1:
            raise UserError(f"val_fraction is {val_fraction}; it must be 0 or more and below 1")
        if not 0 < zoom <= 16:
            raise UserError(f"zoom is {zoom}; it must be above 0 and at most 16")
        if on_error not in POLICIES:
            raise unknown_name("on_error policy", on_error, POLICIES)
        if train_limit is not None:
            at_least("train_limit", train_limit, 1)
        self.table = ClassTable(classes, ignore)
        self.image_size = at_least("image_size", image_size, 1)
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.num_workers = at_least("num_workers", num_workers, 0)
        self.zoom = zoom
        self.scale = ordered_pair("scale", scale, highest=16.0)
        self.flip = flip
        self.augmentation = augmentation
        self.bands = band_numbers("bands", bands)
        self.val_fraction = val_fraction
        self.val_seed = val_seed
        self.on_error = on_error
        self.train_limit = train_limit
        self.seed = run_seed() if seed is None else seed
        self._sets: dict[str, SemanticViews] = {}

    def find(self, split: str) -> list[Pair]:
        """The files of "train", "val" or "test" as published.

        Raises:
            UserError: They are not where the layout has them.
        """
        raise NotImplementedError

    def tile_of(self, pair: Pair) -> str:
        """What the image is a part of; images of one tile are held out together. By default each is its own."""
        return str(pair.image)

    @property
    def class_names(self) -> list[str]:
        """Names by label."""
        return self.table.names

    @property
    def selects_on_test(self) -> bool:
        """Whether validation looks at the test images, so that what it selects must not be reported on them."""
        return not self.val_fraction and self.find("val") == self.find("test")

    def dataset(self, split: str) -> SemanticViews:
        """The views of "train", "val" or "test", found when first asked for.

        Raises:
            UserError: See `find`; or no such split, or one whose images are to be held out but cannot be.
        """
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        if split not in self._sets:
            pairs = self._pairs(split)
            before = next((data.reader for data in self._sets.values()), None)
            reader = ImageReader(len(pairs), self.bands, before)
            if split == "train":
                say_small_batches(self.batch_size, len(pairs))
                self._sets[split] = SemanticViews(
                    pairs,
                    self.table,
                    self.on_error,
                    self.zoom,
                    self.image_size,
                    self.scale,
                    self.flip,
                    self.augmentation,
                    self.seed,
                    reader,
                )
            else:
                self._sets[split] = SemanticViews(pairs, self.table, "raise", self.zoom, reader=reader)
        return self._sets[split]

    @property
    def skipped(self) -> list[str]:
        """Names of the broken training images found so far."""
        data = self._sets.get("train")
        return [data.pairs[i].image.name for i in data.broken.indices] if data is not None else []

    def setup(self, stage: str) -> None:
        """Finds the files that `stage` needs, so that a missing one shows before training starts."""
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            self.dataset(split)

    def train_dataloader(self) -> ResumableLoader:
        """Random views, shuffled; resumable in the middle of an epoch."""
        return train_loader(self.dataset("train"), self.batch_size, self.num_workers, self.seed, self.trainer)

    def val_dataloader(self) -> OneLineErrorLoader:
        """Whole validation images, in file order."""
        return evaluation_loader(self.dataset("val"), self.batch_size, self.num_workers, stack_by_size)

    def test_dataloader(self) -> OneLineErrorLoader:
        """Whole test images, in file order."""
        return evaluation_loader(self.dataset("test"), self.batch_size, self.num_workers, stack_by_size)

    def _pairs(self, split: str) -> list[Pair]:
        if not self.val_fraction or split == "test":
            pairs = self.find(split)
        else:
            if self.find("val") != self.find("test"):
                raise UserError(
                    f"val_fraction is {self.val_fraction}, but there are validation images apart from the test images "
                    "already; set val_fraction to 0"
                )
            published = self.find("train")
            tiles = list(dict.fromkeys(map(self.tile_of, published)))
            held_out = set(hold_out(tiles, self.val_fraction, self.val_seed)[1])
            pairs = [pair for pair in published if (self.tile_of(pair) in held_out) == (split == "val")]
        if split == "train" and self.train_limit is not None:
            order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(self.seed))
            pairs = [pairs[i] for i in order[: self.train_limit].tolist()]
        return pairs

    def teardown(self, stage: str) -> None:
        """Says how many images were skipped or turned."""
        for split, data in self._sets.items():
            data.broken.report()
            data.reader.report(split)

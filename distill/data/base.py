"""Base of all data modules: the keys of a recipe, splits, loaders, and warnings about files."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from distill.data.broken import POLICIES
from distill.data.checks import at_least, band_numbers, ordered_pair, say_small_batches, share, valid_seed
from distill.data.loader import OneLineErrorLoader, ResumableLoader, evaluation_loader, train_loader
from distill.data.reader import ImageReader
from distill.data.selection import epoch_size
from distill.data.size_schedule import SizeSchedule, SizeStage
from distill.data.sizes import Measure
from distill.data.views.augmentation import Augmentation
from distill.errors import unknown_name
from distill.seeding import run_seed

SPLITS = ("train", "val", "test")
_NEEDED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}  # by stage

T = TypeVar("T")


class ImageData(LightningDataModule):
    """Base of the data modules that recipes name. A subclass builds the views of a split (`views`).

    Args:
        image_size: Side S of the square views in pixels.
        batch_size: Images per batch and process.
        num_workers: Processes that read images; 0 reads in the main process.
        flip: Whether training views are mirrored, horizontally and vertically.
        turns: Whether training views are turned by a random multiple of 90 degrees: seen from above there is no up.
        bands: Numbers, from 1, of one to three bands to show; by default red, green and blue where the file says which
            they are, else its first three.
        val_fraction: Share of the training images that is held out and validated on.
        views: Size V of the pool of training views of each image: epoch e shows view e modulo V. By default every epoch
            shows a new one. Targets of a teacher can be stored for a pool (`distill cache`).
        sizes: Stages in which training views are smaller than `image_size`, which follows the last of them.
        train_limit: Train on this many images only, the first of a shuffle by `seed`: with the same seed a smaller
            limit is a subset of a larger one.
        on_error: "skip" replaces training images that cannot be read and names each once; "raise" stops at the first.
        seed: Seed of order, views and `train_limit`; by default that of the run.

    Attributes:
        splits: Those that `dataset` knows.

    Raises:
        UserError: An argument is out of its range.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __init__(
        self,
        image_size: int = 1024,
        batch_size: int = 4,
        num_workers: int = 2,
        flip: bool = True,
        turns: bool = False,
        bands: list[int] | None = None,
        val_fraction: float = 0.0,
        train_limit: int | None = None,
        views: int | None = None,
        sizes: list[SizeStage] | None = None,
        on_error: str = "skip",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if on_error not in POLICIES:
            raise unknown_name("on_error policy", on_error, POLICIES)
        self.image_size = at_least("image_size", image_size, 1)
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.num_workers = at_least("num_workers", num_workers, 0)
        self.flip = flip
        self.turns = turns
        self.bands = band_numbers("bands", bands)
        self.val_fraction = share("val_fraction", val_fraction)
        self.train_limit = None if train_limit is None else at_least("train_limit", train_limit, 1)
        self.view_pool = None if views is None else at_least("views", views, 1)
        self.sizes = None if sizes is None else SizeSchedule(sizes, self.image_size)
        self.on_error = on_error
        self.seed = run_seed() if seed is None else valid_seed("seed", seed)
        self._sets: dict[str, Any] = {}

    def views(self, split: str) -> Any:
        """Finds the images of a split and builds their views, a `distill.data.views.base.Views`.

        Raises:
            UserError: They cannot be used.
        """
        raise NotImplementedError

    def repeats(self, data: Any) -> Sequence[float] | None:
        """How often each training image is seen in an epoch on average; None for once each."""
        return None

    def blocks(self, data: Any) -> NDArray[np.int32] | None:
        """The block of each training image, for shuffles that read few blocks at a time."""
        return None

    def collate(self, split: str) -> Callable[[list[Any]], Any] | None:
        """The function that makes a batch of samples; None for PyTorch's default."""
        return None

    @property
    def class_names(self) -> list[str]:
        """Class names by label; empty if the images have no labels."""
        return []

    @property
    def selects_on_test(self) -> bool:
        """Whether validation uses the test images, so that a model selected by it must not be reported on them."""
        return False

    @property
    def skipped(self) -> list[str]:
        """Names of the broken images found so far."""
        return [name for data in self._sets.values() for name in data.skipped]

    def dataset(self, split: str) -> Any:
        """The views of a split, found when first asked for.

        Raises:
            UserError: See `views`; or no such split.
        """
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        if split not in self._sets:
            data = self.views(split)
            if split == "train":
                repeats = self.repeats(data)
                say_small_batches(self.batch_size, len(data) if repeats is None else epoch_size(repeats))
            self._sets[split] = data
        return self._sets[split]

    def evaluated(self, split: str) -> Any:
        """The views on which a split is evaluated; by default the fixed ones."""
        return self.dataset(split)

    def scoring(self) -> dict[str, int]:
        """Settings that scores depend on beside images, labels and the size of views; none by default."""
        return {}

    def image_set(self, split: str, count: int | None = None) -> str:
        """A digest of the images and labels that are scored, independent of their place and of the run's seed.

        Args:
            split: One of `splits`.
            count: How many of its images are scored, from the first on; by default all.

        Returns:
            12 hexadecimal digits, a digest of the class names and of what `scored` says of the images, in any order.
        """
        data = self.dataset(split)
        indices = range(len(data))[:count]
        lines = [json.dumps(self.class_names), *sorted(json.dumps(self.scored(data, index)) for index in indices)]
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=6).hexdigest()

    def scored(self, data: Any, index: int) -> Any:
        """Identifies an image and its labels as values for JSON, without reading pixels; by default by name.

        Args:
            data: The views of a split.
            index: Of the image.
        """
        return data.name(index)

    def scale(self, measure: Measure) -> dict[str, float]:
        """Sizes of the training images, their objects and their pixels, as far as they are known.

        Args:
            measure: Tells metres a pixel of an image file.

        Returns:
            `image_side` and `largest_side`: median and largest of the longer sides of the images, in pixels of the
            file. `object_side`: 98th percentile of the longer sides of the objects, likewise. `gsd`: side of a pixel on
            the ground, in metres, the median of a sample of the images.
        """
        return {}

    def shrunk(self) -> str | None:
        """A sentence that views shrink the training images; None where they do not, or files would have to be read."""
        return None

    def reader(self, count: int) -> ImageReader:
        """A reader of a split's images that does not repeat the messages of other splits."""
        return ImageReader(count, self.bands, next((data.reader for data in self._sets.values()), None))

    def limited(self, items: Sequence[T]) -> list[T]:
        """As many training images as `train_limit` allows."""
        if self.train_limit is None:
            return list(items)
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(self.seed))
        return [items[i] for i in order[: self.train_limit].tolist()]

    def setup(self, stage: str) -> None:
        """Finds the files that `stage` needs, so that mistakes show before training starts."""
        for split in _NEEDED.get(stage, ()):
            self.dataset(split)

    def train_dataloader(self) -> ResumableLoader:
        """Random views, shuffled; resumable in the middle of an epoch."""
        return self._train_loader(self.sizes)

    def full_size_dataloader(self) -> ResumableLoader:
        """As `train_dataloader`, with all views at `image_size`, for statistics."""
        return self._train_loader(None)

    def _train_loader(self, sizes: SizeSchedule | None) -> ResumableLoader:
        data = self.dataset("train")
        return train_loader(
            data,
            self.batch_size,
            self.num_workers,
            self.seed,
            self.trainer,
            self.collate("train"),
            self.repeats(data),
            self.view_pool,
            sizes,
            self.blocks(data),
        )

    def val_dataloader(self) -> OneLineErrorLoader | list[DataLoader[Any]]:
        """Fixed views of the validation images, in file order; no loader where there are none."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> OneLineErrorLoader | list[DataLoader[Any]]:
        """Fixed views of the test images, in file order."""
        return self._evaluation_loader("test")

    def teardown(self, stage: str) -> None:
        """Logs how many images were skipped or turned."""
        for split, data in self._sets.items():
            data.broken.report()
            data.reader.report(split)

    def _evaluation_loader(self, split: str) -> OneLineErrorLoader | list[DataLoader[Any]]:
        data = self.evaluated(split)
        return evaluation_loader(data, self.batch_size, self.num_workers, self.collate(split)) if len(data) else []


class LabelledImages(ImageData):
    """Base of the data modules with labels.

    Args:
        scale_jitter: Range of a random factor to the zoom of evaluation, by which training views are zoomed.
        augmentation: Light, colour and speckle of training views; none by default.
        val_fraction: Share of the training images that is held out and validated on, so that a model can be selected
            without the images it is reported on; the `val` files are then tested on.
        val_seed: Decides which images are held out. It is not the run's seed, so that runs over several seeds select
            on the same images.
        **kwargs: See `ImageData`.

    Raises:
        UserError: An argument is out of its range.
    """

    def __init__(
        self,
        scale_jitter: tuple[float, float] = (0.5, 2.0),
        augmentation: Augmentation | None = None,
        val_fraction: float = 0.0,
        val_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(val_fraction=val_fraction, **kwargs)
        self.scale_jitter = ordered_pair("scale_jitter", scale_jitter, highest=16.0)
        self.augmentation = augmentation
        self.val_seed = valid_seed("val_seed", val_seed)

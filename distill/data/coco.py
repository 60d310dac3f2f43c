"""Images with COCO instance annotations, for fine-tuning and evaluation.

Axes: B batch, C = 3 channels RGB in [0, 1], S side of the padded view in pixels.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from distill.contracts import Target
from distill.data.annotations import CocoAnnotations
from distill.data.broken import POLICIES, BrokenImages
from distill.data.checks import at_least, band_numbers, existing_folder, ordered_pair, say_small_batches
from distill.data.images import BrokenImage, is_file
from distill.data.loader import (
    Draw,
    OneLineErrorLoader,
    ResumableLoader,
    evaluation_loader,
    randomness_of,
    train_loader,
)
from distill.data.reader import ImageReader
from distill.data.selection import hold_out, repeat_factors
from distill.data.views.augmentation import Augmentation
from distill.data.views.instances import fitting_window, jittered_window, view
from distill.errors import UserError, unknown_name
from distill.seeding import run_seed

logger = logging.getLogger(__name__)

Sample = tuple[Tensor, Target]
WITHOUT_VAL_FILES = 0.1  # share of the training images that is held out where there are no others to validate on


class CocoViews(Dataset[Sample]):
    """Annotated images as padded square views.

    Indexed with a `Draw` it gives a training view, a function of (seed, draw); indexed with an integer it fits the
    image into the view.

    Args:
        folder: Where the image files lie.
        annotations: The annotation file's content.
        images: Image records, a part of `annotations.images`.
        image_size: Side S of the view.
        on_error: What to do with broken images, see `BrokenImages`.
        seed: Seed of the training views.
        scale_jitter: Range of the large-scale jitter.
        flip: Whether training views are mirrored in both directions.
        augmentation: Further changes of training views.
        reader: Reads them; by default with the bands that `distill.data.images.read_image` chooses.
    """

    def __init__(
        self,
        folder: Path,
        annotations: CocoAnnotations,
        images: Sequence[dict[str, Any]],
        image_size: int,
        on_error: str,
        seed: int = 0,
        scale_jitter: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
        augmentation: Augmentation | None = None,
        reader: ImageReader | None = None,
    ) -> None:
        self.folder = folder
        self.annotations = annotations
        self.images = list(images)
        self.image_size = image_size
        self.seed = seed
        self.scale_jitter = scale_jitter
        self.flip = flip
        self.augmentation = augmentation or Augmentation()
        self.broken = BrokenImages(len(self.images), on_error)
        self.reader = reader or ImageReader(len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw | int) -> Sample:
        """The image, float32 (3, S, S) in [0, 1], and its target."""
        index = draw if isinstance(draw, int) else draw.index
        index, pixels = self.broken.read(index, self._read)
        height, width = pixels.shape[-2:]
        image_id = self.images[index]["id"]
        records, size, change = self.annotations.objects(image_id), self.image_size, self.augmentation
        if isinstance(draw, int):
            return view(pixels, records, image_id, fitting_window(height, width, size), size)
        with randomness_of(self.seed, draw):
            window = jittered_window(height, width, size, self.scale_jitter, self.flip, change.rotate)
            return view(pixels, records, image_id, window, size, change.recolour)

    def classes(self, index: int) -> set[int]:
        """Labels of the objects in an image."""
        return {record["label"] for record in self.annotations.objects(self.images[index]["id"])}

    def _read(self, index: int) -> Tensor:
        record = self.images[index]
        path = self.folder / record["file_name"]
        pixels = self.reader.read(index, path)
        height, width = pixels.shape[-2:]
        if (height, width) != (record["height"], record["width"]):
            turned = self.reader.was_turned(index)
            raise BrokenImage(
                f"image {str(path)!r} is {width}x{height}{' once EXIF has turned it upright' * turned}, but "
                f"{str(self.annotations.path)!r} says {record['width']}x{record['height']}, so its masks would not fit"
                + "; remove the orientation from the file if they are drawn on it as stored"
                * turned
            )
        return pixels


class CocoInstances(LightningDataModule):
    """Images with COCO instance annotations.

    Batches are dictionaries: `image` (B, 3, S, S) float32 in [0, 1], padded at the bottom and right, and `targets`, a
    list of B `Target`s. Training views follow large-scale jitter with flips; evaluation views fit the whole image.

    Args:
        train_images: Folder of the training images.
        train_annotations: COCO JSON of the training images.
        val_images: Folder of the validation images; by default, a tenth of the training images is held out for that.
        val_annotations: COCO JSON of the validation images.
        test_images: Folder of the test images; by default the validation images.
        test_annotations: COCO JSON of the test images; by default the validation annotations.
        val_fraction: Share of the training images that is held out and validated on, so that a model can be selected
            without the images it is reported on; the `val` files are then tested on. At 0, a tenth where there are no
            `val` files, and none otherwise.
        val_seed: Decides which images that are. It is not the run's seed, so that runs over several seeds select on
            the same images.
        classes: Class names to keep, in label order; by default all of the training file, ordered by category id.
        image_size: Side S of the square views, in pixels.
        batch_size: Images per batch and process.
        num_workers: Processes that read images; 0 reads in the main process.
        scale_jitter: Range of the random zoom. At 1 the long side of the image fills the view.
        flip: Whether training views are mirrored, horizontally and vertically.
        augmentation: Quarter turns, light, colour and speckle of training views; none by default.
        bands: Numbers, from 1, of one to three bands to show; by default red, green and blue where the file says which
            they are, else its first three.
        oversample_threshold: Classes in a smaller share of the training images are seen more often, see
            `distill.data.selection.repeat_factors`. An epoch grows by the repetitions.
        on_error: "skip" replaces training images that cannot be read and names each once, and leaves out training
            objects that cannot be used and counts them; "raise" stops at the first. Validation and test always stop: a
            score over fewer images or objects would not compare.
        filter_empty: Whether training images without objects are left out.
        train_limit: Train on this many images only, the first of a shuffle by `seed`: with the same seed a smaller
            limit is a subset of a larger one.
        seed: Seed of order, views and `train_limit`; by default that of the run.

    Raises:
        UserError: A path is missing, an annotation file is unusable (see `CocoAnnotations`), or an argument is out of
            its range.
    """

    def __init__(
        self,
        train_images: str,
        train_annotations: str,
        val_images: str | None = None,
        val_annotations: str | None = None,
        test_images: str | None = None,
        test_annotations: str | None = None,
        val_fraction: float = 0.0,
        val_seed: int = 0,
        classes: list[str] | None = None,
        image_size: int = 1024,
        batch_size: int = 4,
        num_workers: int = 2,
        scale_jitter: tuple[float, float] = (0.1, 2.0),
        flip: bool = True,
        augmentation: Augmentation | None = None,
        bands: list[int] | None = None,
        oversample_threshold: float = 0.0,
        on_error: str = "skip",
        filter_empty: bool = False,
        train_limit: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        _together("val", val_images, val_annotations, "hold out some of the training images")
        _together("test", test_images, test_annotations, "test on the validation images")
        if not 0 <= val_fraction < 1:
            raise UserError(f"val_fraction is {val_fraction}; it must be 0 or more and below 1")
        if val_fraction and val_annotations and test_annotations:
            raise UserError(
                f"val_fraction is {val_fraction}, but there are validation images apart from the test images already; "
                "set val_fraction to 0, or leave test_images and test_annotations out to test on the val files"
            )
        if not val_annotations:
            val_fraction = val_fraction or WITHOUT_VAL_FILES
        if not 0 <= oversample_threshold <= 1:
            raise UserError(f"oversample_threshold is {oversample_threshold}; it must lie in [0, 1]")
        if on_error not in POLICIES:
            raise unknown_name("on_error policy", on_error, POLICIES)
        if classes is not None and (not classes or len(set(classes)) != len(classes)):
            raise UserError(f"classes is {classes}; give at least one name and each only once, or leave it out")
        if train_limit is not None:
            at_least("train_limit", train_limit, 1)
        # Folder and annotation file of each split. Without files of their own, test images are the validation images:
        # those that are held out, if there are no others.
        train = train_images, train_annotations
        val = (val_images, val_annotations) if val_images and val_annotations else None
        test = (test_images, test_annotations) if test_images and test_annotations else val
        self.sources = {"train": train, "val": train if val_fraction or not val else val, "test": test or train}
        self._held_out = {split for split, own in (("val", not val_fraction), ("test", test)) if not own}
        self.val_fraction = val_fraction
        self.val_seed = val_seed
        self.classes = classes
        self.image_size = at_least("image_size", image_size, 1)
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.num_workers = at_least("num_workers", num_workers, 0)
        self.scale_jitter = ordered_pair("scale_jitter", scale_jitter, highest=16.0)
        self.flip = flip
        self.augmentation = augmentation
        self.bands = band_numbers("bands", bands)
        self.oversample_threshold = oversample_threshold
        self.on_error = on_error
        self.filter_empty = filter_empty
        self.train_limit = train_limit
        self.seed = run_seed() if seed is None else seed
        self._sets: dict[str, CocoViews] = {}

    @property
    def selects_on_test(self) -> bool:
        """Whether validation looks at the test images, so that what it selects must not be reported on them."""
        if len(self._held_out) == 1:
            return False
        val, test = ([Path(path).resolve() for path in self.sources[split]] for split in ("val", "test"))
        return val == test

    @cached_property
    def class_names(self) -> list[str]:
        """Names by label. Reads the training annotations when first asked."""
        return self._train_annotations.class_names

    @cached_property
    def _train_annotations(self) -> CocoAnnotations:
        return CocoAnnotations(self.sources["train"][1], self.classes, self.on_error)

    def dataset(self, split: str) -> CocoViews:
        """The views of "train", "val" or "test", read when first asked for.

        Raises:
            UserError: See the class; or no such split.
        """
        if split not in self.sources:
            raise unknown_name("split", split, self.sources)
        if split not in self._sets:
            folder = existing_folder(f"{split}_images", self.sources[split][0])
            build = self._train_set if split == "train" else self._fixed
            self._sets[split] = build(folder, *self._records(split))
        return self._sets[split]

    def ground_truth(self, split: str) -> dict[str, Any]:
        """COCO annotations of a split for evaluation: as published, ids from 1, categories in label order."""
        data = self.dataset(split)
        return data.annotations.ground_truth(image["id"] for image in data.images)

    @property
    def skipped(self) -> list[str]:
        """File names of the broken training images found so far."""
        data = self._sets.get("train")
        return [data.images[i]["file_name"] for i in data.broken.indices] if data is not None else []

    def setup(self, stage: str) -> None:
        """Reads the annotations that `stage` needs, so that a mistake in them shows before training starts."""
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for split in needed.get(stage, ()):
            self.dataset(split)

    def train_dataloader(self) -> ResumableLoader:
        """Random views, shuffled; resumable in the middle of an epoch."""
        data, repeats = self.dataset("train"), None
        if self.oversample_threshold:
            repeats = repeat_factors([data.classes(i) for i in range(len(data))], self.oversample_threshold)
        return train_loader(data, self.batch_size, self.num_workers, self.seed, self.trainer, collate, repeats)

    def val_dataloader(self) -> OneLineErrorLoader:
        """Fixed views of the validation images, in file order."""
        return evaluation_loader(self.dataset("val"), self.batch_size, self.num_workers, collate)

    def test_dataloader(self) -> OneLineErrorLoader:
        """Fixed views of the test images, in file order."""
        return evaluation_loader(self.dataset("test"), self.batch_size, self.num_workers, collate)

    def teardown(self, stage: str) -> None:
        """Says how many training images were skipped, and how many were turned."""
        if "train" in self._sets:
            self._sets["train"].broken.report()
        for split, data in self._sets.items():
            data.reader.report(split)

    def _records(self, split: str) -> tuple[CocoAnnotations, list[dict[str, Any]]]:
        """The annotations of a split, and its image records among them."""
        if split != "train" and split not in self._held_out:
            content = CocoAnnotations(self.sources[split][1], self.class_names, scored=True)
            return content, content.images
        content = self._train_annotations
        training, held_out = self._parts
        return content, training if split == "train" else held_out

    @cached_property
    def _parts(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Image records of the training file to train on, and those held out."""
        images = self._train_annotations.images
        if len(images) < 2 and self.val_fraction and "test" in self._held_out:
            raise UserError(
                f"annotations {self.sources['train'][1]!r} list {len(images)} image, of which none can be held out for "
                "validation; give val_images and val_annotations, which may be the training files"
            )
        training, held_out = hold_out(images, self.val_fraction, self.val_seed)
        if "test" in self._held_out:
            logger.warning(
                "no val_annotations given: %d of the %d images of %s are held out for validation (val_fraction %g)",
                len(held_out),
                len(images),
                self.sources["train"][1],
                self.val_fraction,
            )
        return training, held_out

    def _train_set(self, folder: Path, content: CocoAnnotations, images: list[dict[str, Any]]) -> CocoViews:
        if self.filter_empty:
            images = [image for image in images if content.objects(image["id"])]
        if images and not any(is_file(folder / image["file_name"]) for image in images):
            raise UserError(
                f"none of the {len(images)} images listed in {str(content.path)!r} is in {str(folder)!r}, for example "
                f"{images[0]['file_name']!r}; train_images must be the folder that their file names start in"
            )
        if self.train_limit is not None:
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))
            images = [images[i] for i in order[: self.train_limit].tolist()]
        if not self.oversample_threshold:
            say_small_batches(self.batch_size, len(images))
        if empty := content.empty_classes(image["id"] for image in images):
            if len(empty) == len(content.class_names):
                which, way_out = str(len(images)), "change val_seed, so that others are held out"
                if self.train_limit is not None:
                    which = f"first {self.train_limit}"
                    way_out = "raise train_limit, change seed or set filter_empty: true"
                raise UserError(f"the {which} images of {str(content.path)!r} show no object; {way_out}")
            logger.warning("no training object of %s in %s", ", ".join(empty), content.path)
        return CocoViews(
            folder,
            content,
            images,
            self.image_size,
            self.on_error,
            self.seed,
            self.scale_jitter,
            self.flip,
            self.augmentation,
            self._reader(images),
        )

    def _fixed(self, folder: Path, content: CocoAnnotations, images: list[dict[str, Any]]) -> CocoViews:
        missing = [image["file_name"] for image in images if not is_file(folder / image["file_name"])]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(images)} images listed in {str(content.path)!r} are not in "
                f"{str(folder)!r}, for example {missing[0]!r}; evaluation needs all of them"
            )
        if flawed := [image for image in images if image["id"] in content.flawed]:
            problem = content.flawed[flawed[0]["id"]].within(content.path)
            raise UserError(
                f"{len(flawed)} of the {len(images)} images held out by val_fraction have objects that cannot be used, "
                f"and a score without them would not compare; the first: {problem}; correct or delete it there"
                + ("" if "test" in self._held_out else ", or set data.init_args.val_fraction to 0")
            )
        return CocoViews(folder, content, images, self.image_size, on_error="raise", reader=self._reader(images))

    def _reader(self, images: list[dict[str, Any]]) -> ImageReader:
        return ImageReader(len(images), self.bands, next((data.reader for data in self._sets.values()), None))


def _together(split: str, images: str | None, annotations: str | None, otherwise: str) -> None:
    if (images is None) != (annotations is None):
        raise UserError(
            f"{split}_images and {split}_annotations belong together; give both, or leave both out to {otherwise}"
        )


def collate(samples: list[Sample]) -> dict[str, Any]:
    """Stacks the images and lists the targets, whose number of instances differs."""
    return {"image": torch.stack([image for image, _ in samples]), "targets": [target for _, target in samples]}

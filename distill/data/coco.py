"""Images with COCO instance annotations, for fine-tuning and evaluation.

Axes: B batch, C = 3 channels RGB in [0, 1], S side of the padded view in pixels.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.data.annotations import CocoAnnotations
from distill.data.base import LabelledImages
from distill.data.checks import at_least, existing_file, existing_folder
from distill.data.images import is_file
from distill.data.selection import hold_out, repeat_factors
from distill.data.sizes import Measure, ground_sizes, image_sides, object_side, sample_of, shrunk_images
from distill.data.tiling import TilePlan
from distill.data.views.instances import InstanceViews, collate
from distill.data.views.tiles import InstanceTiles, collate_tiles
from distill.errors import UserError

logger = logging.getLogger(__name__)

WITHOUT_VAL_FILES = 0.1  # share of the training images that is held out where there are no others to validate on
_SCORED = ("label", "bbox", "segmentation", "area", "iscrowd")  # of an object; ids may be others in another file


class CocoInstances(LabelledImages):
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
        classes: Class names to keep, in label order; by default all of the training file, ordered by category id.
        scale_jitter: Range of a random factor to the zoom of evaluation, at which the long side of the image fills the
            view.
        oversample_threshold: Classes in a smaller share of the training images are seen more often, see
            `distill.data.selection.repeat_factors`. An epoch grows by the repetitions.
        on_error: "skip" replaces training images that cannot be read and names each once, and leaves out training
            objects that cannot be used and counts them; "raise" stops at the first. Validation and test always stop: a
            score over fewer images or objects would not compare.
        filter_empty: Whether training images without objects are left out.
        tile: Validation and test cut images that are larger into tiles of this side, in pixels of the image file. Each
            is fitted into the view, instances are joined across tiles, and the whole image is scored. By default every
            image is fitted into the view as a whole.
        tile_overlap: Least overlap of neighbouring tiles in pixels of the file; by default a quarter of `tile`.
        **kwargs: Everything else that `LabelledImages` takes.

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
        classes: list[str] | None = None,
        scale_jitter: tuple[float, float] = (0.1, 2.0),
        oversample_threshold: float = 0.0,
        on_error: str = "skip",
        filter_empty: bool = False,
        tile: int | None = None,
        tile_overlap: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(val_fraction=val_fraction, scale_jitter=scale_jitter, on_error=on_error, **kwargs)
        _together("val", val_images, val_annotations, "hold out some of the training images")
        _together("test", test_images, test_annotations, "test on the validation images")
        if val_fraction and val_annotations and test_annotations:
            raise UserError(
                f"val_fraction is {val_fraction}, but there are validation images apart from the test images already; "
                "set val_fraction to 0, or leave test_images and test_annotations out to test on the val files"
            )
        if not val_annotations:
            self.val_fraction = val_fraction or WITHOUT_VAL_FILES
        if not 0 <= oversample_threshold <= 1:
            raise UserError(f"oversample_threshold is {oversample_threshold}; it must lie in [0, 1]")
        if classes is not None and (not classes or len(set(classes)) != len(classes)):
            raise UserError(f"classes is {classes}; give at least one name and each only once, or leave it out")
        # Folder and annotation file of each split. Without files of their own, test images are the validation images:
        # those that are held out, if there are no others.
        train = train_images, train_annotations
        val = (val_images, val_annotations) if val_images and val_annotations else None
        test = (test_images, test_annotations) if test_images and test_annotations else val
        self.sources = {"train": train, "val": train if self.val_fraction or not val else val, "test": test or train}
        self._held_out = {split for split, own in (("val", not self.val_fraction), ("test", test)) if not own}
        self.classes = classes
        self.oversample_threshold = oversample_threshold
        self.filter_empty = filter_empty
        if tile is None and tile_overlap is not None:
            raise UserError(f"tile_overlap is {tile_overlap}, but tile is null; give the side of the tiles, too")
        self.tile = None if tile is None else at_least("tile", tile, 1)
        self.tile_overlap = (tile or 0) // 4 if tile_overlap is None else tile_overlap
        if tile is not None and not 0 <= self.tile_overlap < tile:
            raise UserError(f"tile_overlap is {tile_overlap}; it must lie between 0 and {tile - 1}, below tile")

    @property
    def selects_on_test(self) -> bool:
        """Whether validation uses the test images, so that a model selected by it must not be reported on them."""
        if len(self._held_out) == 1:
            return False
        val, test = ([Path(path).resolve() for path in self.sources[split]] for split in ("val", "test"))
        return val == test

    @property
    def class_names(self) -> list[str]:
        """Names by label. Reads the training annotations when first asked."""
        return self._train_annotations.class_names

    @cached_property
    def _train_annotations(self) -> CocoAnnotations:
        return CocoAnnotations(self._annotations("train"), self.classes, self.on_error)

    def views(self, split: str) -> InstanceViews:
        """The annotated images of a split."""
        folder = existing_folder(f"data.{self._named(split)}_images", self.sources[split][0])
        build = self._train_views if split == "train" else self._fixed_views
        return build(folder, *self._records(split))

    def ground_truth(self, split: str) -> dict[str, Any]:
        """COCO annotations of a split for evaluation: as published, ids from 1, categories in label order."""
        data = self.dataset(split)
        truth: dict[str, Any] = data.annotations.ground_truth(image["id"] for image in data.images)
        return truth

    def repeats(self, data: InstanceViews) -> Sequence[float] | None:
        """How often each training image is seen in an epoch on average, by `oversample_threshold`."""
        if not self.oversample_threshold:
            return None
        return repeat_factors([data.classes(index) for index in range(len(data))], self.oversample_threshold)

    def evaluated(self, split: str) -> InstanceViews | InstanceTiles:
        """Whole images, or by `tile` their tiles."""
        data = self.dataset(split)
        return data if self.tile is None else InstanceTiles(data, self.tile, self.tile_overlap)

    def scoring(self) -> dict[str, int]:
        """`tile` and `tile_overlap` where images are cut."""
        return {} if self.tile is None else {"tile": self.tile, "tile_overlap": self.tile_overlap}

    def tile_plan(self, height: int, width: int) -> TilePlan:
        """How an evaluation by `tile` cuts an image of that size."""
        assert self.tile is not None
        return TilePlan(height, width, self.tile, self.tile_overlap)

    def collate(self, split: str) -> Callable[[list[Any]], Any]:
        """Stacks images and lists targets."""
        return collate if split == "train" or self.tile is None else collate_tiles

    def scored(self, data: InstanceViews, index: int) -> Any:
        """File name and size in pixels of the image, and its objects, as the annotations have them."""
        image = data.images[index]
        objects = [[record.get(key) for key in _SCORED] for record in data.annotations.objects(image["id"])]
        return image["file_name"], image["height"], image["width"], objects

    def scale(self, measure: Measure) -> dict[str, float]:
        """Sides of images and objects as the annotations have them, and `gsd` from headers of some images."""
        data = self.dataset("train")
        objects = [record for image in data.images for record in data.annotations.objects(image["id"])]
        paths = [data.folder / image["file_name"] for image in sample_of(data.images)]
        return {
            **image_sides([max(image["height"], image["width"]) for image in data.images]),
            **object_side([record["bbox"] for record in objects if not record.get("iscrowd")]),
            **ground_sizes(paths, measure),
        }

    def shrunk(self) -> str | None:
        """From the sizes in the annotations: the longer side of an image is fitted into the view."""
        sides = [max(image["height"], image["width"]) for image in self.dataset("train").images]
        return shrunk_images(sides, self.image_size)

    def _named(self, split: str) -> str:
        """The split whose arguments name the files of a split."""
        return next(name for name, files in self.sources.items() if files == self.sources[split])

    def _annotations(self, split: str) -> Path:
        return existing_file(f"data.{self._named(split)}_annotations", self.sources[split][1])

    def _records(self, split: str) -> tuple[CocoAnnotations, list[dict[str, Any]]]:
        """The annotations of a split, and its image records among them."""
        if split != "train" and split not in self._held_out:
            content = CocoAnnotations(self._annotations(split), self.class_names, scored=True)
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
        training, held_out = self._split(images)
        if "test" in self._held_out:
            logger.warning(
                "no val_annotations given: %d of the %d images of %s are held out for validation (val_fraction %g)",
                len(held_out),
                len(images),
                self.sources["train"][1],
                self.val_fraction,
            )
        return training, held_out

    def _split(self, images: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Image records to train on, and those held out; tiles of one image, which overlap, stay together.

        Raises:
            UserError: All are tiles of one image.
        """
        sources = list(dict.fromkeys(map(_cut_from, images)))
        if self.val_fraction and len(sources) == 1 < len(images):
            raise UserError(
                f"all {len(images)} images of {self.sources['train'][1]!r} are tiles of {sources[0]!r}, so none can be "
                "held out for validation without showing ground that is trained on; give val_images and "
                "val_annotations of another image"
            )
        held_out = set(hold_out(sources, self.val_fraction, self.val_seed)[1])
        training = [image for image in images if _cut_from(image) not in held_out]
        return training, [image for image in images if _cut_from(image) in held_out]

    def _train_views(self, folder: Path, content: CocoAnnotations, images: list[dict[str, Any]]) -> InstanceViews:
        if self.filter_empty:
            images = [image for image in images if content.objects(image["id"])]
        if images and not any(is_file(folder / image["file_name"]) for image in images):
            raise UserError(
                f"none of the {len(images)} images listed in {str(content.path)!r} is in {str(folder)!r}, for example "
                f"{images[0]['file_name']!r}; train_images must be the folder that their file names start in"
            )
        images = self.limited(images)
        if empty := content.empty_classes(image["id"] for image in images):
            if len(empty) == len(content.class_names):
                which, way_out = str(len(images)), "change val_seed, so that others are held out"
                if self.train_limit is not None:
                    which = f"first {self.train_limit}"
                    way_out = "raise train_limit, change seed or set filter_empty: true"
                raise UserError(f"the {which} images of {str(content.path)!r} show no object; {way_out}")
            logger.warning("no training object of %s in %s", ", ".join(empty), content.path)
        return InstanceViews(
            folder,
            content,
            images,
            self.image_size,
            self.on_error,
            self.seed,
            self.scale_jitter,
            self.flip,
            self.turns,
            self.augmentation,
            self.reader(len(images)),
        )

    def _fixed_views(self, folder: Path, content: CocoAnnotations, images: list[dict[str, Any]]) -> InstanceViews:
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
                + ("" if "test" in self._held_out else ", or set data.val_fraction to 0")
            )
        return InstanceViews(
            folder, content, images, self.image_size, on_error="raise", reader=self.reader(len(images))
        )


def _cut_from(image: dict[str, Any]) -> str:
    """The image that a tile of `distill data tile` was cut from; any other image is its own."""
    return str(image.get("source", image["file_name"]))


def _together(split: str, images: str | None, annotations: str | None, otherwise: str) -> None:
    if (images is None) != (annotations is None):
        raise UserError(
            f"{split}_images and {split}_annotations belong together; give both, or leave both out to {otherwise}"
        )

"""Checks the image files of a data set; each is decoded once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distill.curate.manifest import sha256
from distill.curate.overlaps import Features, features_of
from distill.curate.tracking import Track
from distill.curate.verify.findings import Finding, Level, counted
from distill.data.duplicates import thumbnail
from distill.data.images import BrokenImage, decode_image, size_fault

_BLACK = 16  # grey levels of 256
_LARGEST_LIGHT_SHARE = 0.01  # of the values of an image that is nearly black
_FEWEST_LEVELS = 16  # that 99 % of an image's values take; photographs and radar images take 40 or more


class CheckedFiles(Protocol):
    """A part of a data set: image records with `id`, `file_name`, `height` and `width`, and what each image shows."""

    images_folder: Path
    images: list[dict[str, Any]]
    findings: list[Finding]

    @property
    def name(self) -> str:
        """The name of the part."""

    @property
    def objects(self) -> Mapping[int, Sequence[Any]]:
        """The labels of each image, by its id."""

    def add(self, level: Level, check: str, message: str, advice: str, cases: Sequence[str] = ()) -> None:
        """Adds a finding about this part."""


def paths_of(one: CheckedFiles) -> list[Path]:
    """The image files of a part, in its order."""
    return [one.images_folder / record["file_name"] for record in one.images]


class ImageFiles:
    """Every image file, read once.

    Args:
        checked: The parts.
        overlaps: Whether `features` are wanted.
        track: Shows progress.
        bands: Which bands are shown, see `distill.data.images.read_image`.

    Attributes:
        sizes: Height and width, by path, of those that can be decoded; so are the others.
        thumbnails: See `distill.data.duplicates`.
        digests: SHA-256.
        features: See `distill.curate.overlaps`.
        faults: Why the others cannot be decoded.
        black: Those in which hardly anything can be seen.
        flat: Those of next to no contrast, the black ones apart.
        without_data: Those in which every pixel is nodata or masked.
        turned: Those that EXIF turns upright.
    """

    def __init__(
        self, checked: Sequence[CheckedFiles], overlaps: bool, track: Track[Any], bands: Sequence[int] | None = None
    ) -> None:
        self.sizes: dict[Path, tuple[int, int]] = {}
        self.thumbnails: dict[Path, NDArray[np.float32]] = {}
        self.digests: dict[Path, str] = {}
        self.features: dict[Path, Features] = {}
        self.faults: dict[Path, str] = {}
        self.black: set[Path] = set()
        self.flat: set[Path] = set()
        self.without_data: set[Path] = set()
        self.turned: set[Path] = set()
        paths = dict.fromkeys(path for one in checked for path in paths_of(one))
        for path in track(list(paths), "reading images"):
            try:
                image = decode_image(path, bands)
            except BrokenImage as error:
                self.faults[path] = str(error)
                continue
            pixels = image.pixels
            if image.turned:
                self.turned.add(path)
            self.sizes[path] = (pixels.shape[-2], pixels.shape[-1])
            self.thumbnails[path] = thumbnail(pixels)
            self.digests[path] = sha256(path)
            if overlaps:
                self.features[path] = features_of(pixels)
            if image.without_data:
                self.without_data.add(path)
            elif np.count_nonzero(pixels.numpy() >= _BLACK) < _LARGEST_LIGHT_SHARE * pixels.numel():
                self.black.add(path)
            elif _levels(pixels.numpy()) <= _FEWEST_LEVELS:
                self.flat.add(path)

    def check(self, one: CheckedFiles) -> None:
        """Adds what is wrong with the part's files."""
        files = list(zip(paths_of(one), one.images, strict=True))
        if broken := [self.faults[path] for path, _ in files if path in self.faults]:
            message = f"{len(broken)} of {len(one.images)} images are missing or cannot be decoded"
            advice = f"Copy them to {one.images_folder}; on_error: skip trains without them, scoring refuses to"
            one.add("error", "image files", message, advice, broken)
        if wrong := [fault for path, record in files if (fault := self._size_fault(path, record)) is not None]:
            message = f"{counted(len(wrong), 'image')} of another size than annotated, so masks do not fit"
            one.add("error", "image files", message, "Undo the resizing or rotation, or annotate anew", wrong)
        if turned := [record["file_name"] for path, record in files if path in self.turned]:
            message = f"{counted(len(turned), 'image')} turned upright by EXIF, as labelling tools show them"
            advice = "If their masks were drawn on the pixels as stored, remove the orientation from the files"
            one.add("warning", "EXIF orientation", message, advice, turned)
        if empty := [record["file_name"] for path, record in files if path in self.without_data]:
            message = f"{counted(len(empty), 'image')} without data: every pixel is nodata or masked"
            one.add("warning", "images without data", message, "Leave them out, or correct the nodata value", empty)
        if flat := [record["file_name"] for path, record in files if path in self.flat]:
            message = (
                f"{counted(len(flat), 'image')} with next to no contrast: 99 of 100 values are among {_FEWEST_LEVELS} "
                "of 256 levels"
            )
            advice = (
                "Values without meaning may stretch the range: name them as the file's nodata (gdal_edit -a_nodata)"
            )
            one.add("warning", "contrast", message, advice, flat)
        if black := [record["file_name"] for path, record in files if path in self.black]:
            message = (
                f"{len(black)} of {len(one.images)} images are nearly black, 99 of 100 values below {_BLACK} of 255"
            )
            advice = "If there should be something to see, stretch the values when you convert such images to 8 bits"
            one.add("warning", "dark images", message, advice, black)

    def _size_fault(self, path: Path, record: dict[str, Any]) -> str | None:
        if path not in self.sizes:
            return None
        annotated = record["height"], record["width"]
        return size_fault(record["file_name"], self.sizes[path], "its annotations say", annotated, path in self.turned)


def _levels(pixels: NDArray[np.uint8]) -> int:
    """How many grey levels 99 % of the values take."""
    counts = np.sort(np.bincount(pixels.ravel(), minlength=256))[::-1].cumsum()
    return int((counts < 0.99 * pixels.size).sum()) + 1

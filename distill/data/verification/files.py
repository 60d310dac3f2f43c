"""What the image files of a data set's parts are: decoded once, and what is wrong with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.conversion import Track, sha256
from distill.data.duplicates import thumbnail
from distill.data.images import BrokenImage, read_image
from distill.data.overlaps import Features, features_of
from distill.data.verification.records import CheckedPart
from distill.data.verification.report import counted

_BLACK = 16  # grey levels of 256
_LARGEST_LIGHT_SHARE = 0.01  # of the values of an image that is nearly black


def paths_of(one: CheckedPart) -> list[Path]:
    """The image files of a part, in its order."""
    return [one.images_folder / record["file_name"] for record in one.images]


class ImageFiles:
    """Every image file, read once.

    Args:
        checked: The parts.
        overlaps: Whether `features` are wanted.
        track: Shows progress.

    Attributes:
        sizes: Height and width, by path, of those that can be decoded; so are the others.
        thumbnails: See `distill.data.duplicates`.
        digests: SHA-256.
        features: See `distill.data.overlaps`.
        faults: Why the others cannot be decoded.
        black: Those in which hardly anything can be seen.
    """

    def __init__(self, checked: Sequence[CheckedPart], overlaps: bool, track: Track[Any]) -> None:
        self.sizes: dict[Path, tuple[int, int]] = {}
        self.thumbnails: dict[Path, NDArray[np.float32]] = {}
        self.digests: dict[Path, str] = {}
        self.features: dict[Path, Features] = {}
        self.faults: dict[Path, str] = {}
        self.black: set[Path] = set()
        paths = dict.fromkeys(path for one in checked for path in paths_of(one))
        for path in track(list(paths), "reading images"):
            try:
                pixels = read_image(path)
            except BrokenImage as error:
                self.faults[path] = str(error)
                continue
            self.sizes[path] = (pixels.shape[-2], pixels.shape[-1])
            self.thumbnails[path] = thumbnail(pixels)
            self.digests[path] = sha256(path)
            if overlaps:
                self.features[path] = features_of(pixels)
            if np.count_nonzero(pixels.numpy() >= _BLACK) < _LARGEST_LIGHT_SHARE * pixels.numel():
                self.black.add(path)

    def check(self, one: CheckedPart) -> None:
        """Adds what is wrong with the part's files."""
        files = list(zip(paths_of(one), one.images, strict=True))
        if broken := [self.faults[path] for path, _ in files if path in self.faults]:
            message = f"{len(broken)} of {len(one.images)} images are missing or cannot be decoded"
            advice = f"Copy them to {one.images_folder}; on_error: skip trains without them, scoring refuses to"
            one.add("error", "image files", message, advice, broken)
        wrong = [
            f"{record['file_name']} is {self.sizes[path][1]}x{self.sizes[path][0]}, "
            f"the annotations say {record['width']}x{record['height']}"
            for path, record in files
            if path in self.sizes and self.sizes[path] != (record["height"], record["width"])
        ]
        if wrong:
            message = f"{counted(len(wrong), 'image')} of another size than annotated, so masks do not fit"
            one.add("error", "image files", message, "Undo the resizing or rotation, or annotate anew", wrong)
        if black := [record["file_name"] for path, record in files if path in self.black]:
            message = (
                f"{len(black)} of {len(one.images)} images are nearly black, 99 of 100 values below {_BLACK} of 255"
            )
            advice = "If there should be something to see, stretch the values when you convert such images to 8 bits"
            one.add("warning", "dark images", message, advice, black)

"""Which images of a data set a contact sheet shows."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from distill.data.annotations import CocoAnnotations
from distill.data.images import BrokenImage, read_image, size_fault
from distill.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)

_SHOWN = 3  # reasons in a warning

Chosen = tuple[dict[str, Any], Tensor]  # an image record and its pixels, uint8 (3, H, W)


def named_images(
    annotations: CocoAnnotations, folder: Path, names: Sequence[str], bands: Sequence[int] | None
) -> list[Chosen]:
    """The images with these file names.

    Raises:
        UserError: There is no such image, or it cannot be read.
    """
    records = {record["file_name"]: record for record in annotations.images}
    for name in names:
        if name not in records:
            hint = did_you_mean(name, list(records)) or f"its first is {next(iter(records), None)!r}"
            raise UserError(f"--image {name!r} is no file_name in {str(annotations.path)!r}; {hint}")
    return [(records[name], _pixels(folder, records[name], bands)) for name in names]


def varied_images(
    annotations: CocoAnnotations, folder: Path, count: int, seed: int, bands: Sequence[int] | None
) -> list[Chosen]:
    """Up to `count` images, first those that show a class not shown yet; a warning names images that cannot be read.

    Raises:
        UserError: No image can be read.
    """
    chosen: list[Chosen] = []
    faults: list[str] = []
    for record in _in_order(annotations, seed):
        try:
            chosen.append((record, _pixels(folder, record, bands)))
        except BrokenImage as error:
            faults.append(str(error))
        if len(chosen) == count:
            break
    if not chosen:
        raise UserError(
            f"no image of {str(annotations.path)!r} can be shown from {str(folder)!r}; run distill data verify"
        )
    if faults:
        more = f"; and {len(faults) - _SHOWN} more, see distill data verify" if len(faults) > _SHOWN else ""
        logger.warning("left out %d that cannot be drawn: %s%s", len(faults), "; ".join(faults[:_SHOWN]), more)
    return chosen


def _pixels(folder: Path, record: dict[str, Any], bands: Sequence[int] | None) -> Tensor:
    path = folder / record["file_name"]
    pixels = read_image(path, bands)
    annotated = record["height"], record["width"]
    if fault := size_fault(f"image {str(path)!r}", pixels.shape[-2:], "its annotations say", annotated):
        raise BrokenImage(fault)
    return pixels


def _in_order(annotations: CocoAnnotations, seed: int) -> list[dict[str, Any]]:
    """All image records in an order drawn from `seed`, those first that show a class not shown yet."""
    shuffled = [annotations.images[i] for i in np.random.default_rng(seed).permutation(len(annotations.images))]
    shown: set[int] = set()
    first: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    for record in shuffled:
        labels = {annotation["label"] for annotation in annotations.objects(record["id"])}
        (first if labels - shown else later).append(record)
        shown |= labels
    return first + later

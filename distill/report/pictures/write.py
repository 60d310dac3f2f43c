"""Drawings as files of a run folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from distill.files import write_atomically
from distill.report.pictures.drawing import Drawing, Pixels
from distill.report.pictures.stored import Picture, PictureSet, write_index

_QUALITY = 90  # of JPEG


def write_pictures(place: Path, stage: str, step: int, drawings: Sequence[Drawing]) -> PictureSet:
    """Replaces a set of pictures. The index comes last: without it there are no pictures.

    Args:
        place: Its folder.
        stage: "fit", "validate" or "test".
        step: Optimizer step of the weights.
        drawings: What it shows.

    Raises:
        UserError: The folder cannot be written.
    """
    if place.is_dir():
        shutil.rmtree(place)
    legend = {name: colour for drawing in drawings for name, colour in drawing.legend.items()}
    try:
        pictures = [_write(place, number, drawing) for number, drawing in enumerate(drawings)]
        write_index(place, step, pictures, legend)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return PictureSet(stage, step, pictures, legend)


def _write(place: Path, number: int, drawing: Drawing) -> Picture:
    files = {}
    for part, pixels in drawing.parts.items():
        exact = part in drawing.exact
        files[part] = place / f"{number}_{part}.{'png' if exact else 'jpg'}"
        _save(pixels, files[part], {"optimize": True} if exact else {"quality": _QUALITY, "subsampling": 0})
    return Picture(drawing.name, files, dict(drawing.captions))


def _save(pixels: Pixels, path: Path, options: dict[str, Any]) -> None:
    write_atomically(path, lambda temporary: Image.fromarray(pixels).save(temporary, **options))

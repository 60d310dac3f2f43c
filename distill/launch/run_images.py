"""Images of a run as its network sees them: files are checked on them, and int8 is calibrated on them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.data.checks import existing_folder
from distill.data.images import image_names, read_image
from distill.errors import UserError
from distill.launch.recipe_data import data_module
from distill.launch.stored_run import StoredRun

Pixels = NDArray[np.uint8]  # RGB (3, H, W)


def run_images(run: StoredRun, split: str, limit: int, folder: Path | None = None) -> list[Pixels]:
    """Whole images of a run, spread evenly over those it has, through its own bands and stretch.

    Args:
        run: The run.
        split: "train" or "val".
        limit: Most images.
        folder: Images to read instead of the run's own.

    Raises:
        UserError: The images are not there, or cannot be read.
    """
    if folder is not None:
        names = image_names(existing_folder("--images", str(folder)))
        if not names:
            raise UserError(f"--images {folder} holds no images")
        chosen = (folder / names[index] for index in _spread(len(names), limit))
        return [read_image(path, run.data.get("bands")).numpy() for path in chosen]
    try:
        views = data_module(str(run.folder.path)).dataset(split)
        return [_pixels(views.broken.read(index, views.read)[1]) for index in _spread(len(views), limit)]
    except UserError as error:
        raise UserError(f"the images of {run.folder} cannot be read: {error}; name a folder with --images") from error


def _spread(count: int, limit: int) -> Iterator[int]:
    kept = min(count, limit)
    return (index * count // kept for index in range(kept))


def _pixels(content: object) -> Pixels:
    """The image of what views read: it alone, or with its labels."""
    image = content[0] if isinstance(content, tuple) else content
    return np.asarray(image)

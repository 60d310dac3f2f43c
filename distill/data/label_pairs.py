"""Which mask belongs to which image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data.images import SUFFIXES
from distill.data.listing import images_by_stem
from distill.errors import UserError

# Beside the folders of images and masks that were cut into tiles: by the name of each tile, before the suffix, the
# `source` that it was cut from and its place there.
PLACES = "tiles.json"


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    image: Path
    mask: Path


def pair_folders(images: Path, masks: Path, names: Sequence[str] | None = None) -> list[Pair]:
    """The images of a folder with the masks of the same name before the suffix, sorted.

    Args:
        images: Folder of the images.
        masks: Folder of the masks. What belongs to no image is left alone.
        names: Which images, without suffix; by default all.

    Raises:
        UserError: A folder is missing, there is no image, or an image or a mask of `names` is missing.
    """
    for folder, what in ((images, "images"), (masks, "masks")):
        if not folder.is_dir():
            raise UserError(f"the folder of the {what}, {str(folder)!r}, does not exist; check data.root")
    found, labels = images_by_stem([images]), images_by_stem([masks])
    wanted = sorted(found) if names is None else list(names)
    if not wanted:
        raise UserError(f"{str(images)!r} holds no images; files must end in {', '.join(SUFFIXES)}")
    for kind, files, folder in (("image", found, images), ("mask", labels, masks)):
        missing = [name for name in wanted if name not in files]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(wanted)} images have no {kind} file in {str(folder)!r}, for example "
                f"{missing[0]!r}; a mask has the name of its image, the suffix apart"
            )
    return [Pair(found[name], labels[name]) for name in wanted]


def read_names(path: Path) -> list[str]:
    """The names, without suffix, that a text file lists line by line.

    Raises:
        UserError: It is missing, not a text, empty, or names an image twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the list of images {str(path)!r} cannot be read; give a text file, one name a line"
        ) from error
    names = [line[: -len(Path(line).suffix)] if line.lower().endswith(SUFFIXES) else line for line in lines]
    if not names:
        raise UserError(f"the list of images {str(path)!r} is empty; it must name one image a line")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"the list of images {str(path)!r} names {twice[0]!r} twice")
    return names
